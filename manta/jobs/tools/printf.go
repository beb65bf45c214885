package tools

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A pattern is a printf pattern with one conversion, as maggr's -t and -T take them: %[-+ 0#][width][.precision]{d,i,u,f,e,E,g,G,x,X,o,s}, and text around it.
type pattern struct {
	before, after string
	flags         string
	width         int
	precision     int // -1 if none was given
	verb          byte
}

func parsePattern(text string) (pattern, error) {
	pt := pattern{precision: -1}
	bad := fmt.Errorf("unsupported format: %q", text)
	i := strings.IndexByte(text, '%')
	for i >= 0 && i+1 < len(text) && text[i+1] == '%' {
		next := strings.IndexByte(text[i+2:], '%')
		if next < 0 {
			i = -1
			break
		}
		i += 2 + next
	}
	if i < 0 {
		pt.before = strings.ReplaceAll(text, "%%", "%")
		return pt, nil
	}
	pt.before = strings.ReplaceAll(text[:i], "%%", "%")
	rest := text[i+1:]
	n := len(rest) - len(strings.TrimLeft(rest, "-+ 0#"))
	pt.flags, rest = rest[:n], rest[n:]
	number := func() (int, bool) {
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if n == 0 {
			return 0, true
		}
		v, err := strconv.Atoi(rest[:n])
		rest = rest[n:]
		return v, err == nil && v <= 1000
	}
	var ok bool
	if pt.width, ok = number(); !ok {
		return pt, bad
	}
	if strings.HasPrefix(rest, ".") {
		rest = rest[1:]
		if pt.precision, ok = number(); !ok || pt.precision > 100 {
			return pt, bad
		}
	}
	if rest == "" || !strings.Contains("diufeEgGxXos", rest[:1]) {
		return pt, bad
	}
	pt.verb = rest[0]
	pt.after = strings.ReplaceAll(rest[1:], "%%", "%")
	return pt, nil
}

// format applies the pattern to what maggr found, a number or a text.
func (pt *pattern) format(text string) string {
	if pt.verb == 0 {
		return pt.before
	}
	return pt.before + pt.pad(pt.convert(text)) + pt.after
}

func (pt *pattern) convert(text string) string {
	if pt.verb == 's' {
		if pt.precision >= 0 && pt.precision < len(text) {
			return text[:pt.precision]
		}
		return text
	}
	f, ok := jsParseFloat(text)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		return text
	}
	var s string
	switch pt.verb {
	case 'd', 'i', 'u':
		s = strconv.FormatFloat(math.Trunc(f), 'f', 0, 64)
	case 'x', 'X', 'o':
		base, prefix := 16, "0x"
		if pt.verb == 'o' {
			base, prefix = 8, "0"
		}
		n := int64(f)
		if n < 0 { // its 32 bits, as the original has it
			n = int64(uint32(n))
		}
		s = strconv.FormatInt(n, base)
		if strings.Contains(pt.flags, "#") {
			s = prefix + s
		}
		if pt.verb == 'X' {
			s = strings.ToUpper(s)
		}
	case 'f':
		if math.Abs(f) >= 1e21 {
			s = jsNumber(f)
			break
		}
		fallthrough
	default:
		precision := pt.precision
		if precision < 0 {
			precision = 6
		}
		s = strconv.FormatFloat(f, pt.verb, precision, 64)
	}
	if s[0] != '-' {
		switch {
		case strings.Contains(pt.flags, "+"):
			s = "+" + s
		case strings.Contains(pt.flags, " "):
			s = " " + s
		}
	}
	return s
}

func (pt *pattern) pad(s string) string {
	missing := pt.width - len(s)
	switch {
	case missing <= 0:
		return s
	case strings.Contains(pt.flags, "-"):
		return s + strings.Repeat(" ", missing)
	case strings.Contains(pt.flags, "0") && pt.verb != 's':
		sign := 0
		if s[0] == '-' || s[0] == '+' || s[0] == ' ' {
			sign = 1
		}
		return s[:sign] + strings.Repeat("0", missing) + s[sign:]
	}
	return strings.Repeat(" ", missing) + s
}
