package webapi

import (
	"errors"
	"mime"
	"net/url"
	"slices"
	"strings"
)

// canonicalDisposition reads a Content-Disposition and writes it anew: type and names in lower case, parameters in order of their names, values in quotes.
func canonicalDisposition(v string) (string, error) {
	kind, params, err := mime.ParseMediaType(v)
	if err != nil {
		return "", err
	}
	if strings.Contains(kind, "/") {
		return "", errors.New("no disposition type")
	}
	names := make([]string, 0, len(params))
	for name := range params {
		if name == "" {
			return "", errors.New("parameter without a name")
		}
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString(kind)
	for _, name := range names {
		value := params[name]
		b.WriteString("; ")
		b.WriteString(name)
		if !isASCII(value) {
			b.WriteString("*=UTF-8''")
			b.WriteString(strings.ReplaceAll(url.QueryEscape(value), "+", "%20"))
			continue
		}
		b.WriteString(`="`)
		for _, c := range []byte(value) {
			if c == '"' || c == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
		b.WriteByte('"')
	}
	return b.String(), nil
}
