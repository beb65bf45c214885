package httpsig

import (
	"strconv"
	"strings"
)

// A Signature is what an Authorization header of scheme Signature says. Nothing of it is verified yet.
type Signature struct {
	KeyID     string   // as sent; see [ParseKeyID]
	Algorithm string   // as sent, of a known family and hash; see [CheckAlgorithm]
	Items     []string // what was signed, lower case, in order; nil means the default: x-date if there is one, else date
	Signature string   // base64, as sent

	Opaque           string
	Created, Expires int64 // seconds since 1970

	hasOpaque, hasCreated, hasExpires bool
}

// maxItems bounds the list of signed items. A list may name a large header again and again, so it bounds the work to build the text too.
const maxItems = 64

var (
	errFormat = headerError("bad param format")
	errScheme = headerError(`scheme was not "Signature"`)
)

// Parse reads an Authorization header of scheme Signature. Its grammar is that of the original's parser: names are letters, values are in double
// quotes without escapes (whole numbers may stand bare), and nothing but one comma separates them. Unknown parameters are ignored, and of a repeated one the last
// counts. Errors are of kind [BadHeader].
func Parse(authorization string) (*Signature, error) {
	scheme, rest, _ := strings.Cut(authorization, " ")
	s := new(Signature)
	var items string
	for rest != "" {
		n := 0
		for n < len(rest) && (rest[n]|0x20) >= 'a' && (rest[n]|0x20) <= 'z' {
			n++
		}
		name := rest[:n]
		if n == len(rest) {
			break // the original drops a name at the very end
		}
		if rest[n] != '=' || n == 0 {
			return nil, errFormat
		}
		rest = rest[n+1:]
		if rest == "" {
			break
		}
		var value string
		quoted := rest[0] == '"'
		if quoted {
			end := strings.IndexByte(rest[1:], '"')
			if end < 0 {
				break // as if the parameter had not been sent
			}
			value, rest = rest[1:end+1], rest[end+2:]
		} else {
			end := strings.IndexByte(rest, ',')
			if end < 0 {
				end = len(rest)
			}
			value, rest = rest[:end], rest[end:]
			if value == "" {
				return nil, errFormat
			}
			if _, ok := digits(value); !ok || len(value) > 18 {
				return nil, errFormat
			}
		}
		if rest != "" {
			if rest[0] != ',' {
				return nil, errFormat
			}
			rest = rest[1:]
		}
		if err := s.set(name, value, quoted, &items); err != nil {
			return nil, err
		}
	}
	switch {
	case scheme != "Signature":
		return nil, errScheme
	case s.KeyID == "":
		return nil, headerError("keyId was not specified")
	case s.Algorithm == "":
		return nil, headerError("algorithm was not specified")
	case s.Signature == "":
		return nil, headerError("signature was not specified")
	}
	if _, ok := lookup(s.Algorithm); !ok {
		return nil, headerError(s.Algorithm + " is not supported")
	}
	if items != "" {
		if strings.Count(items, " ") >= maxItems {
			return nil, headerError("too many signed headers")
		}
		s.Items = strings.Split(strings.ToLower(items), " ")
	}
	return s, nil
}

func (s *Signature) set(name, value string, quoted bool, items *string) error {
	var number int64
	if name == "created" || name == "expires" {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return errFormat
		}
		number = n
	}
	switch name {
	case "created":
		s.Created, s.hasCreated = number, true
		return nil
	case "expires":
		s.Expires, s.hasExpires = number, true
		return nil
	}
	var field *string
	switch name {
	case "keyId":
		field = &s.KeyID
	case "algorithm":
		field = &s.Algorithm
	case "headers":
		field = items
	case "signature":
		field = &s.Signature
	case "opaque":
		field, s.hasOpaque = &s.Opaque, true
	default:
		return nil
	}
	if !quoted {
		return errFormat // a number where only text makes sense
	}
	*field = value
	return nil
}
