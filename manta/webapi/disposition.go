package webapi

import (
	"errors"
	"mime"
	"path"
	"strings"
)

// canonicalDisposition reads a Content-Disposition and writes it anew, as the original does: the type in lower case, and of the parameters only the name of
// the file, without directories, in quotes. A name with characters beyond Latin-1 is there twice, the second time as RFC 8187 has it.
func canonicalDisposition(v string) (string, error) {
	kind, params, err := mime.ParseMediaType(v)
	if err != nil {
		return "", err
	}
	if strings.Contains(kind, "/") {
		return "", errors.New("no disposition type")
	}
	name := params["filename"]
	if name == "" {
		return kind, nil
	}
	name = path.Base(name)
	plain := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' && c < 0xa0 || c > 0xff {
			return '?'
		}
		return c
	}, name)
	var b strings.Builder
	b.WriteString(kind)
	b.WriteString(`; filename="`)
	for _, c := range plain {
		if c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	b.WriteByte('"')
	if plain != name || strings.Contains(name, "%") {
		b.WriteString("; filename*=UTF-8''")
		for _, c := range []byte(name) {
			if isAttrChar(c) {
				b.WriteByte(c)
			} else {
				b.WriteByte('%')
				b.WriteByte("0123456789ABCDEF"[c>>4])
				b.WriteByte("0123456789ABCDEF"[c&15])
			}
		}
	}
	return b.String(), nil
}

// isAttrChar reports whether a byte stands for itself in an extended parameter.
func isAttrChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$&+-.^_`|~", c) >= 0
}
