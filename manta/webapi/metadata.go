package webapi

import (
	"net/http"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/mobulacloud/mobula/manta"
)

// MaxUserHeaders bounds the values of the m-* headers that are stored with an entry, in bytes. What does not fit any more is left out without a word,
// as the original does.
const MaxUserHeaders = 4 << 10

// corsHeaders are stored with an entry and decide about cross-origin reads.
var corsHeaders = []string{
	"access-control-allow-headers", "access-control-allow-origin", "access-control-allow-methods",
	"access-control-expose-headers", "access-control-max-age",
}

// storedHeaders returns what a PUT stores of its headers, by lower-case name; nil when it is nothing.
func storedHeaders(h http.Header) map[string]string {
	var stored map[string]string
	put := func(name, value string) {
		if stored == nil {
			stored = map[string]string{}
		}
		stored[name] = fromLatin1(value)
	}
	var user []string
	for name, values := range h {
		switch {
		case strings.HasPrefix(name, "M-") && len(name) > 2 && isWord(name[2]):
			user = append(user, name)
		case len(values) == 0 || values[0] == "":
		case name == "Cache-Control", name == "Surrogate-Key":
			put(strings.ToLower(name), strings.Join(values, ", "))
		case strings.HasPrefix(name, "Access-Control-"):
			lower := strings.ToLower(name)
			for _, known := range corsHeaders {
				if lower == known {
					put(lower, strings.Join(values, ", "))
				}
			}
		}
	}
	if user == nil {
		return stored
	}
	// The order in which they were sent is lost by now. The alphabetical one makes what is left out predictable.
	sort.Strings(user)
	size := 0
	for _, name := range user {
		value := strings.Join(h[name], ", ")
		if size += len(value); size < MaxUserHeaders {
			put(strings.ToLower(name), value)
		}
	}
	return stored
}

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// Header values are bytes, records are UTF-8. As in the original a byte is kept as the character of that number, so that what comes back is what
// was sent.
func fromLatin1(s string) string {
	if isASCII(s) {
		return s
	}
	b := make([]byte, 0, 2*len(s))
	for i := range len(s) {
		b = utf8.AppendRune(b, rune(s[i]))
	}
	return string(b)
}

func toLatin1(s string) string {
	if isASCII(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for _, c := range s {
		if c > 0xff {
			return s // not written by fromLatin1
		}
		b = append(b, byte(c))
	}
	return string(b)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// answerSpelling is how stored headers go out that the original does not send in lower case.
var answerSpelling = map[string]string{"cache-control": "Cache-Control", "surrogate-key": "Surrogate-Key"}

// stored sets the headers that are stored with an entry, those about origins only as far as the request's origin may see them.
func (r *Request) stored(e *manta.Entry) {
	if len(e.Roles) > 0 {
		if names := r.roleNames(e.Roles); len(names) > 0 {
			r.set("Role-Tag", strings.Join(names, ", "))
		}
	}
	if len(e.Headers) == 0 {
		return
	}
	origin := r.header("Origin")
	shared := origin == "" || sharedWith(e.Headers, origin, r.Method)
	for name, value := range e.Headers {
		if strings.HasPrefix(name, "access-control-") {
			if !shared {
				continue
			}
			if origin != "" {
				switch name {
				case "access-control-allow-origin":
					value = origin
				case "access-control-allow-methods", "access-control-expose-headers":
				default:
					continue // answers to a preflight, not to a request
				}
			}
		}
		if spelling := answerSpelling[name]; spelling != "" {
			name = spelling
		}
		r.set(name, toLatin1(value))
	}
}

// setMetadata is PUT ?metadata=true: it replaces an entry's headers and roles, and leaves its bytes alone.
func setMetadata(r *Request, m update) error {
	ctx, cancel := r.afterwards()
	defer cancel()
	stored, err := r.s.cfg.Namespace.SetMetadata(ctx, r.Key, m.Metadata, m.options)
	if err != nil {
		return err
	}
	r.Object = stored.ObjectID
	r.describe(stored)
	r.echoOrigin()
	r.Empty(http.StatusNoContent)
	return nil
}
