package httpsig

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// A param is one parameter of a query, decoded. Values of a repeated parameter are joined by commas, as the original shows them.
type param struct{ name, value string }

// maxParams bounds the parameters of a pre-signed URL.
const maxParams = 256

// parseQuery decodes a query string. It reports false when there are too many parameters.
func parseQuery(raw string) ([]param, bool) {
	var params []param
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, value = decode(name), decode(value)
		if i := slices.IndexFunc(params, func(p param) bool { return p.name == name }); i >= 0 {
			params[i].value += "," + value
			continue
		}
		if len(params) == maxParams {
			return nil, false
		}
		params = append(params, param{name, value})
	}
	return params, true
}

// decode undoes form encoding. What is no valid encoding of UTF-8 stays as it is, as in the original.
func decode(s string) string {
	s = strings.ReplaceAll(s, "+", " ")
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	if v, err := url.PathUnescape(s); err == nil && utf8.ValidString(v) {
		return v
	}
	return s
}

func lookupParam(params []param, name string) string {
	for _, p := range params {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// encode joins the parameters, RFC 3986-encoded, in the order given.
func encode(params []param) string {
	var b strings.Builder
	for i, p := range params {
		if i > 0 {
			b.WriteByte('&')
		}
		appendRFC3986(&b, p.name)
		b.WriteByte('=')
		appendRFC3986(&b, p.value)
	}
	return b.String()
}

func appendRFC3986(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
}

// collation is the order of printable ASCII in JavaScript's localeCompare, by which Node clients sort parameters. Letters differ by case only after everything
// else is equal.
const collation = ` _-,;:!?.'"()[]{}@*/\&#%` + "`" + `^+<=>|~$0123456789aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrRsStTuUvVwWxXyYzZ`

// rank gives each byte its place: letters of either case have the same primary one. Control characters are ignored; what is
// not ASCII sorts after it.
var rank = func() (r [256]struct{ primary, full int }) {
	for i := 0x80; i < 0x100; i++ {
		r[i].primary, r[i].full = 0x100+i, 0x100+i
	}
	for i := range len(collation) {
		c := collation[i]
		r[c].full = i + 1
		r[c].primary = i + 1
		if 'A' <= c && c <= 'Z' {
			r[c].primary = i
		}
	}
	return r
}()

// localeCompare orders two names as JavaScript does, for ASCII.
func localeCompare(a, b string) int {
	tie := 0
	i, j := 0, 0
	for {
		for i < len(a) && rank[a[i]].primary == 0 {
			i++
		}
		for j < len(b) && rank[b[j]].primary == 0 {
			j++
		}
		switch {
		case i == len(a) && j == len(b):
			return tie
		case i == len(a):
			return -1
		case j == len(b):
			return 1
		}
		x, y := rank[a[i]], rank[b[j]]
		if x.primary != y.primary {
			return x.primary - y.primary
		}
		if tie == 0 {
			tie = x.full - y.full
		}
		i++
		j++
	}
}

// orders returns the parameters encoded in each order that clients sign them in: JavaScript's first, then bytewise where that differs.
func orders(params []param) []string {
	sorted := slices.Clone(params)
	slices.SortStableFunc(sorted, func(a, b param) int { return localeCompare(a.name, b.name) })
	texts := []string{encode(sorted)}
	less := func(a, b param) int { return strings.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(sorted, less) {
		slices.SortStableFunc(sorted, less)
		texts = append(texts, encode(sorted))
	}
	return texts
}
