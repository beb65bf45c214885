package httpsig

import (
	"net/url"
	"strings"
)

// A KeyID names the key that signed a request.
type KeyID struct {
	Account string // login
	User    string // login of a user below the account; "" for the account itself
	Key     string // fingerprint, or for CloudAPI the key's name

	// CloudAPI says that a user was named in CloudAPI's form, with "users" between account and user. Manta knows the other form only.
	CloudAPI bool
}

var errKeyID = &Error{Kind: BadKeyID, Message: "the KeyId token you provided is invalid"}

// ParseKeyID reads /account/keys/key, /account/user/keys/key or /account/users/user/keys/key. Each part may be percent-encoded.
func ParseKeyID(s string) (KeyID, error) {
	if len(s) > 1024 {
		return KeyID{}, errKeyID
	}
	var parts [7]string
	n := 0
	for part := range strings.SplitSeq(s, "/") {
		if n == len(parts) {
			return KeyID{}, errKeyID
		}
		parts[n] = part
		n++
	}
	var id KeyID
	switch {
	case n == 4 && parts[2] == "keys":
		id = KeyID{Account: parts[1], Key: parts[3]}
	case n == 5 && parts[3] == "keys" && parts[2] != "":
		id = KeyID{Account: parts[1], User: parts[2], Key: parts[4]}
	case n == 6 && parts[2] == "users" && parts[4] == "keys" && parts[3] != "":
		id = KeyID{Account: parts[1], User: parts[3], Key: parts[5], CloudAPI: true}
	default:
		return KeyID{}, errKeyID
	}
	if parts[0] != "" {
		return KeyID{}, errKeyID
	}
	for _, p := range []*string{&id.Account, &id.User, &id.Key} {
		if strings.IndexByte(*p, '%') < 0 {
			continue
		}
		v, err := url.PathUnescape(*p)
		if err != nil {
			return KeyID{}, errKeyID
		}
		*p = v
	}
	if id.Account == "" || id.Key == "" || id.User == "" && n != 4 {
		return KeyID{}, errKeyID
	}
	return id, nil
}

// String returns the key id as clients send it. Reading it again gives the same KeyID.
func (id KeyID) String() string {
	var b strings.Builder
	b.WriteByte('/')
	b.WriteString(escape(id.Account))
	if id.User != "" {
		if id.CloudAPI {
			b.WriteString("/users")
		}
		b.WriteByte('/')
		b.WriteString(escape(id.User))
	}
	b.WriteString("/keys/")
	b.WriteString(escape(id.Key))
	return b.String()
}

// escape encodes what could end a part of a key id or the quotes around it.
func escape(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/%"\`, r) }) {
		return s
	}
	return url.PathEscape(s)
}
