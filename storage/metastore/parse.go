package metastore

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of the filter language.
const (
	MaxFilter      = 64 << 10 // bytes of a filter's text
	MaxFilterDepth = 100      // how deep filters may nest
)

// The matching rules of [Ext].
const (
	CaseIgnoreMatch           = "caseIgnoreMatch"           // equal but for case
	CaseIgnoreSubstringsMatch = "caseIgnoreSubstringsMatch" // as Substr, but for case; the value is a pattern with '*'
	Overlaps                  = "overlaps"                  // an array shares an element with the list; a subnet shares an address with the other
	Contains                  = "contains"                  // an array has every element of the list; a subnet contains the address or subnet
	Within                    = "within"                    // every element of an array is in the list; an address or subnet lies in the subnet
)

// ParseFilter reads a filter in Moray's dialect of the LDAP filter language (RFC 4515):
//
//	(field=value)  (field=*)  (field>=value)  (field<=value)  (field=pre*mid*post)
//	(&(…)(…))  (|(…)(…))  (!(…))  (field:rule:=value)
//
// In a value a backslash before one of ( ) * \ = makes it literal, and a backslash before two hexadecimal digits is the character
// with that code. The outermost parentheses may be missing. Values are strings; the field's index type gives them their meaning
// when a store evaluates the filter. (&) selects all and (|) nothing. An error is [ErrInvalid].
func ParseFilter(text string) (Filter, error) {
	if len(text) > MaxFilter {
		return nil, fmt.Errorf("%w: filter of %d bytes is longer than %d", ErrInvalid, len(text), MaxFilter)
	}
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%w: filter is not UTF-8", ErrInvalid)
	}
	p := filterParser{text: text}
	if !strings.HasPrefix(text, "(") {
		p.text = "(" + text + ")"
	}
	f, err := p.filter(0)
	if err == nil && p.pos != len(p.text) {
		err = p.errorf("unexpected text after the filter")
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

type filterParser struct {
	text string
	pos  int
}

func (p *filterParser) errorf(format string, args ...any) error {
	return fmt.Errorf("%w: filter: %s at byte %d", ErrInvalid, fmt.Sprintf(format, args...), p.pos)
}

func (p *filterParser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

func (p *filterParser) take(c byte) bool {
	if p.pos < len(p.text) && p.text[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// filter reads one filter; Moray also takes a negation without parentheses of its own inside a list.
func (p *filterParser) filter(depth int) (Filter, error) {
	if depth > MaxFilterDepth {
		return nil, p.errorf("nested deeper than %d", MaxFilterDepth)
	}
	if p.take('!') {
		inner, err := p.filter(depth + 1)
		return Not{inner}, err
	}
	if !p.take('(') {
		return nil, p.errorf("want '('")
	}
	var f Filter
	var err error
	switch p.peek() {
	case '&':
		p.pos++
		var list []Filter
		list, err = p.list(depth)
		f = And(list)
	case '|':
		p.pos++
		var list []Filter
		list, err = p.list(depth)
		f = Or(list)
	case '!':
		f, err = p.filter(depth)
	default:
		f, err = p.predicate()
	}
	if err != nil {
		return nil, err
	}
	if !p.take(')') {
		return nil, p.errorf("want ')'")
	}
	return f, nil
}

func (p *filterParser) list(depth int) ([]Filter, error) {
	list := []Filter{}
	for p.pos < len(p.text) && p.peek() != ')' {
		f, err := p.filter(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// predicate reads up to the closing parenthesis.
func (p *filterParser) predicate() (Filter, error) {
	start := p.pos
	for p.pos < len(p.text) && isFieldByte(p.text[p.pos]) {
		p.pos++
	}
	field := p.text[start:p.pos]
	if field == "" {
		return nil, p.errorf("want a field name")
	}
	rest := p.text[p.pos:]
	end := indexUnescaped(rest, ')')
	if end < 0 {
		return nil, p.errorf("unbalanced parentheses")
	}
	rest = rest[:end]
	var f Filter
	var err error
	switch {
	case rest == "=*":
		f = Has{field}
	case strings.HasPrefix(rest, "="):
		if indexUnescaped(rest[1:], '*') >= 0 {
			var s Substr
			s, err = p.pattern(rest[1:])
			s.Field = field
			f = s
			break
		}
		var v string
		v, err = p.unescape(rest[1:])
		f = Eq{field, v}
	case strings.HasPrefix(rest, ">="):
		var v string
		v, err = p.unescape(rest[2:])
		f = Ge{field, v}
	case strings.HasPrefix(rest, "<="):
		var v string
		v, err = p.unescape(rest[2:])
		f = Le{field, v}
	case strings.HasPrefix(rest, ":"):
		rule, value, ok := strings.Cut(rest[1:], ":=")
		switch {
		case !ok:
			return nil, p.errorf("want ':='")
		case !isRule(rule):
			return nil, p.errorf("unknown matching rule")
		}
		if rule == CaseIgnoreSubstringsMatch {
			var s Substr
			if s, err = p.pattern(value); err != nil {
				return nil, err
			}
			if indexUnescaped(value, '*') < 0 {
				// Only one part: the pattern is exact.
				f = Ext{field, rule, quotePattern(s.Initial)}
			} else {
				f = Ext{field, rule, joinPattern(s, quotePattern)}
			}
			break
		}
		var v string
		v, err = p.unescape(value)
		f = Ext{field, rule, v}
	default:
		return nil, p.errorf("want '=', '>=', '<=' or ':'")
	}
	if err != nil {
		return nil, err
	}
	p.pos += end
	return f, nil
}

// pattern splits a value at its wildcards. Without any wildcard it is all Initial.
func (p *filterParser) pattern(text string) (Substr, error) {
	var parts []string
	for {
		i := indexUnescaped(text, '*')
		if i < 0 {
			break
		}
		parts = append(parts, text[:i])
		text = text[i+1:]
	}
	parts = append(parts, text)
	var s Substr
	for i, part := range parts {
		v, err := p.unescape(part)
		switch {
		case err != nil:
			return Substr{}, err
		case i == 0:
			s.Initial = v
		case i == len(parts)-1:
			s.Final = v
		case v != "":
			s.Any = append(s.Any, v)
		}
	}
	return s, nil
}

func (p *filterParser) unescape(text string) (string, error) {
	if !strings.ContainsAny(text, `\(`) {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '(':
			return "", p.errorf("unescaped '(' in a value")
		case '\\':
			i++
			switch {
			case i < len(text) && strings.IndexByte(`()*\=`, text[i]) >= 0:
				b.WriteByte(text[i])
			case i+1 < len(text):
				code, err := strconv.ParseUint(text[i:i+2], 16, 8)
				if err != nil {
					return "", p.errorf("invalid escape")
				}
				b.WriteRune(rune(code))
				i++
			default:
				return "", p.errorf("invalid escape")
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// indexUnescaped finds the first c that no backslash precedes.
func indexUnescaped(text string, c byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case c:
			return i
		}
	}
	return -1
}

func isFieldByte(c byte) bool {
	return c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isRule(rule string) bool {
	switch rule {
	case CaseIgnoreMatch, CaseIgnoreSubstringsMatch, Overlaps, Contains, Within:
		return true
	}
	return false
}
