package aperture

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	tokEnd     kind = iota
	tokWord         // a plain word
	tokGlob         // a word with an asterisk, escaped or not
	tokStar         // a lone asterisk
	tokQuoted       // text in quotes, unescaped
	tokRegexp       // /body/flags, the suffix ::regex removed
	tokComma        // ,
	tokOpen         // (
	tokClose        // )
	tokColons       // ::
	tokKeyword      // text is the keyword in upper case
)

type token struct {
	kind kind
	text string
	pos  int
}

// keywords are reserved in any case; TO is one of the original's that its grammar never uses.
var keywords = map[string]bool{
	"AND": true, "OR": true, "NOT": true, "CAN": true, "TO": true, "IF": true, "WHEN": true, "WHERE": true,
	"ALL": true, "EVERYTHING": true, "ANYTHING": true, "IN": true,
}

func isSpace(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' }

// lex splits a rule into tokens; the last one is tokEnd.
func lex(s string) ([]token, error) {
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		return nil, &SyntaxError{Message: "rule is not text in UTF-8"}
	}
	var tokens []token
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if isSpace(r) {
			i += size
			continue
		}
		t := token{pos: i}
		switch {
		case strings.HasPrefix(s[i:], "::"):
			t.kind, t.text = tokColons, "::"
			i += 2
		case r == ',':
			t.kind, t.text = tokComma, ","
			i++
		case r == '(':
			t.kind, t.text = tokOpen, "("
			i++
		case r == ')':
			t.kind, t.text = tokClose, ")"
			i++
		case r == '"':
			text, n, ok := scanQuoted(s[i:])
			if !ok {
				return nil, &SyntaxError{Offset: i, Message: "quoted string does not end, or has an escape that means nothing"}
			}
			t.kind, t.text = tokQuoted, text
			i += n
		default:
			if literal, n, ok := scanRegexp(s[i:]); ok {
				t.kind, t.text = tokRegexp, literal
				i += n
				break
			}
			n := scanWord(s[i:])
			if n == 0 {
				return nil, &SyntaxError{Offset: i, Message: fmt.Sprintf("unexpected %q", r)}
			}
			t.text = s[i : i+n]
			i += n
			switch upper := strings.ToUpper(t.text); {
			case keywords[upper]:
				t.kind, t.text = tokKeyword, upper
			case t.text == "*":
				t.kind = tokStar
			case strings.Contains(t.text, "*"):
				t.kind = tokGlob
			default:
				t.kind = tokWord
			}
		}
		tokens = append(tokens, t)
	}
	return append(tokens, token{kind: tokEnd, pos: len(s)}), nil
}

// scanWord returns the length of the word that s begins with: no white space, commas, parentheses or double colons. A single colon may follow
// any other character.
func scanWord(s string) int {
	n := 0
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if isSpace(r) || r == ',' || r == '(' || r == ')' {
			break
		}
		if r == ':' && (n == 0 || s[n-1] == ':' || strings.HasPrefix(s[n:], "::")) {
			break
		}
		n += size
	}
	return n
}

// scanQuoted reads a string in double quotes with JSON's escapes.
func scanQuoted(s string) (text string, n int, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), i + 1, true
		case '\\':
			i++
			if i == len(s) {
				return "", 0, false
			}
			switch s[i] {
			case '"', '/', '\\':
				b.WriteByte(s[i])
			case 'b':
				b.WriteByte('\b')
			case 'f':
				b.WriteByte('\f')
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case 'u':
				r, ok := hexRune(s[i+1:], 4)
				if !ok || r == 0 || !utf8.ValidRune(r) {
					return "", 0, false
				}
				b.WriteRune(r)
				i += 4
			default:
				return "", 0, false
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, false
}

// hexRune reads n hexadecimal digits.
func hexRune(s string, n int) (rune, bool) {
	if len(s) < n {
		return 0, false
	}
	var r rune
	for i := range n {
		d := strings.IndexByte("0123456789abcdef", s[i]|0x20)
		if d < 0 {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

// scanRegexp reads /body/flags::regex or ::regexp. Anything else that begins with a slash is a word.
func scanRegexp(s string) (literal string, n int, ok bool) {
	if len(s) < 2 || s[0] != '/' || s[1] == '*' || s[1] == '/' {
		return "", 0, false
	}
	i, class := 1, false
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\n' || c == '\r':
			return "", 0, false
		case c == '\\':
			i++
			if i == len(s) || s[i] == '\n' || s[i] == '\r' {
				return "", 0, false
			}
			continue
		case c == '[':
			class = true
			continue
		case c == ']':
			class = false
			continue
		case c != '/' || class:
			continue
		}
		break
	}
	if i >= len(s) {
		return "", 0, false
	}
	end := i + 1
	for end < len(s) && (s[end]|0x20) >= 'a' && (s[end]|0x20) <= 'z' {
		end++
	}
	const suffix = "::regex"
	if len(s) < end+len(suffix) || !strings.EqualFold(s[end:end+len(suffix)], suffix) {
		return "", 0, false
	}
	n = end + len(suffix)
	if n < len(s) && s[n]|0x20 == 'p' {
		n++
	}
	return s[:end], n, true
}
