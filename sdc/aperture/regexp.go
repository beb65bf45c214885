package aperture

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxRegexp bounds the source of a regular expression.
const maxRegexp = 1000

var (
	errNotLiteral  = errors.New("must be a regular expression /body/flags")
	errUnsupported = errors.New("regular expression uses look-around or a back reference, which are not supported")
)

// compileLiteral compiles a JavaScript regular expression literal, /body/flags.
func compileLiteral(literal string) (*regexp.Regexp, error) {
	last := strings.LastIndexByte(literal, '/')
	if last < 1 || literal[0] != '/' {
		return nil, errNotLiteral
	}
	if len(literal) > maxRegexp {
		return nil, errors.New("regular expression is too long")
	}
	body, flags := literal[1:last], literal[last+1:]
	prefix, dotAll, sticky := "", false, false
	for i, f := range flags {
		if strings.ContainsRune(flags[:i], f) {
			return nil, fmt.Errorf("flag %q is repeated", f)
		}
		switch f {
		case 'i', 'm':
			prefix += string(f)
		case 's':
			dotAll = true
		case 'y':
			sticky = true
		case 'g', 'u', 'd': // make no difference to whether there is a match
		default:
			return nil, fmt.Errorf("unknown flag %q", f)
		}
	}
	source, err := translate(body, dotAll)
	if err != nil {
		return nil, err
	}
	if sticky {
		source = `\A(?:` + source + `)`
	}
	if prefix != "" {
		source = "(?" + prefix + ")" + source
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, errors.New("not a valid regular expression")
	}
	return re, nil
}

// translate rewrites the body of a JavaScript regular expression in Go's syntax. What RE2 cannot do is refused.
func translate(body string, dotAll bool) (string, error) {
	var b strings.Builder
	class := false
	for i := 0; i < len(body); {
		r, size := utf8.DecodeRuneInString(body[i:])
		rest := body[i:]
		switch {
		case r == '\\':
			text, n, err := escape(rest, class)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
			i += n
			continue
		case class && r == ']':
			class = false
		case class && r == '[': // plain in JavaScript, the start of [:alpha:] in Go
			b.WriteString(`\[`)
			i++
			continue
		case class:
		case strings.HasPrefix(rest, "[^]"):
			b.WriteString(`(?s:.)`)
			i += 3
			continue
		case strings.HasPrefix(rest, "[]"): // matches nothing
			b.WriteString(`[^\x00-\x{10FFFF}]`)
			i += 2
			continue
		case r == '[':
			class = true
			if strings.HasPrefix(rest, "[^") {
				b.WriteString("[^")
				i += 2
				continue
			}
		case r == '.':
			if dotAll {
				b.WriteString(`(?s:.)`)
			} else {
				b.WriteString(`[^\n\r\x{2028}\x{2029}]`)
			}
			i++
			continue
		case strings.HasPrefix(rest, "(?"):
			if !strings.HasPrefix(rest, "(?:") && (!strings.HasPrefix(rest, "(?<") || strings.HasPrefix(rest, "(?<=") || strings.HasPrefix(rest, "(?<!")) {
				return "", errUnsupported
			}
			b.WriteString("(?")
			i += 2
			continue
		}
		b.WriteString(rest[:size])
		i += size
	}
	if class {
		return "", errors.New("character class does not end")
	}
	return b.String(), nil
}

// escape rewrites one escape sequence and returns its length.
func escape(s string, class bool) (string, int, error) {
	if len(s) < 2 {
		return "", 0, errors.New("regular expression ends in a backslash")
	}
	r, size := utf8.DecodeRuneInString(s[1:])
	n := 1 + size
	switch {
	case strings.ContainsRune("dDwWsSfnrtv", r):
		return s[:n], n, nil
	case r == 'b' && class:
		return `\x08`, n, nil
	case r == 'b', r == 'B':
		if class {
			return "B", n, nil
		}
		return s[:n], n, nil
	case r == '0' && (len(s) == n || s[n] < '0' || s[n] > '9'):
		return `\x00`, n, nil
	case r >= '0' && r <= '9', r == 'k', r == 'p', r == 'P':
		return "", 0, errUnsupported
	case r == 'c' && len(s) > n && (s[n]|0x20) >= 'a' && (s[n]|0x20) <= 'z':
		return fmt.Sprintf(`\x%02x`, s[n]&31), n + 1, nil
	case r == 'x', r == 'u':
		digits := map[rune]int{'x': 2, 'u': 4}[r]
		if v, ok := hexRune(s[n:], digits); ok {
			if !utf8.ValidRune(v) {
				return "", 0, errors.New("regular expression names half a character")
			}
			return fmt.Sprintf(`\x{%x}`, v), n + digits, nil
		}
		return string(r), n, nil
	case r < utf8.RuneSelf && (r|0x20 < 'a' || r|0x20 > 'z'):
		return `\` + string(r), n, nil
	}
	return string(r), n, nil // a letter that means nothing after a backslash is that letter
}
