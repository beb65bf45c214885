package aperture

import (
	"regexp"
	"strings"
)

// A matcher is one identifier of a list.
type matcher interface {
	matches(s string) bool
	format(b *printer)
}

// exact is a word or a quoted string.
type exact string

func (e exact) matches(s string) bool { return s == string(e) }

// pattern is a regular expression.
type pattern struct {
	re     *regexp.Regexp
	source string // /body/flags
}

func (p pattern) matches(s string) bool { return p.re.MatchString(s) }

// glob is a word with asterisks: its text begins with the first part, ends with the last, and has the others in between in order.
type glob struct {
	parts  []string
	source string
}

// newGlob reads a word that contains an asterisk. With none but escaped ones it is an exact word.
func newGlob(source string) matcher {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(source); i++ {
		switch {
		case source[i] == '\\' && i+1 < len(source) && source[i+1] == '*':
			b.WriteByte('*')
			i++
		case source[i] == '*':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(source[i])
		}
	}
	if parts == nil {
		return exact(b.String())
	}
	return glob{parts: append(parts, b.String()), source: source}
}

func (g glob) matches(s string) bool {
	last := len(g.parts) - 1
	s, ok := strings.CutPrefix(s, g.parts[0])
	if !ok {
		return false
	}
	if s, ok = strings.CutSuffix(s, g.parts[last]); !ok {
		return false
	}
	for _, part := range g.parts[1:last] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}
