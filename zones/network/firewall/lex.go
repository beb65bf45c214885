package firewall

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokWord             // bare word: letters, digits, - and _
	tokString           // quoted, already unescaped
	tokAddr             // something with dots or colons: an address, judged by the parser
	tokPrefix           // "/" and digits
	tokPunct            // ( ) = , -
)

type token struct {
	kind tokenKind
	text string
	end  int // offset in the text just behind the token
}

// keyword gives the upper-case form of a bare word, for comparison with a keyword.
func (t token) keyword() string {
	if t.kind != tokWord || len(t.text) > 16 {
		return ""
	}
	return strings.ToUpper(t.text)
}

// found names the token as an error message does.
func (t token) found() string {
	switch t.kind {
	case tokEOF:
		return "end of rule"
	case tokWord:
		if k := t.keyword(); keywords[k] {
			return k
		}
		return "word"
	case tokString:
		return "string"
	case tokAddr:
		return "address"
	case tokPrefix:
		return "prefix length"
	}
	return "'" + t.text + "'"
}

var keywords = map[string]bool{
	"FROM": true, "TO": true, "IP": true, "SUBNET": true, "ANY": true, "ALL": true, "TAG": true, "VM": true, "VMS": true,
	"OR": true, "AND": true, "BLOCK": true, "ALLOW": true, "PORT": true, "PORTS": true, "TCP": true, "UDP": true,
	"ICMP": true, "ICMP6": true, "AH": true, "ESP": true, "TYPE": true, "CODE": true, "PRIORITY": true,
}

// lexer cuts a rule into tokens. An address or a range is recognised by its characters, so that "10.0.0.1" and "1-20"
// are one token each, as in the original.
type lexer struct {
	text string
	pos  int
}

func isWord(c byte) bool {
	return c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (l *lexer) next() (token, error) {
	last := l.pos // errors count from the end of the token before
	for l.pos < len(l.text) && strings.IndexByte(" \t\r\n\v\f", l.text[l.pos]) >= 0 {
		l.pos++
	}
	if l.pos == len(l.text) {
		return token{kind: tokEOF, end: last}, nil
	}
	start := l.pos
	switch c := l.text[start]; {
	case strings.IndexByte("()=,", c) >= 0:
		l.pos++
		return token{tokPunct, l.text[start:l.pos], l.pos}, nil
	case c == '"':
		return l.quoted()
	case c == '/':
		l.pos++
		for l.pos < len(l.text) && l.pos-start <= 3 && '0' <= l.text[l.pos] && l.text[l.pos] <= '9' {
			l.pos++
		}
		if l.pos == start+1 {
			return token{}, l.unexpected(start)
		}
		return token{tokPrefix, l.text[start:l.pos], l.pos}, nil
	}
	if n := dotted(l.text[start:]); n > 0 {
		l.pos += n
		return token{tokAddr, l.text[start:l.pos], l.pos}, nil
	}
	if n := coloned(l.text[start:]); n > 0 {
		l.pos += n
		return token{tokAddr, l.text[start:l.pos], l.pos}, nil
	}
	for l.pos < len(l.text) && isWord(l.text[l.pos]) {
		l.pos++
	}
	if l.pos == start {
		return token{}, l.unexpected(start)
	}
	text := l.text[start:l.pos]
	if text == "-" {
		return token{tokPunct, text, l.pos}, nil
	}
	return token{tokWord, text, l.pos}, nil
}

// dotted gives the length of four numbers of up to three digits with dots between at the start of s, or 0.
func dotted(s string) int {
	pos := 0
	for part := range 4 {
		if part > 0 {
			if pos >= len(s) || s[pos] != '.' {
				return 0
			}
			pos++
		}
		n := 0
		for pos < len(s) && n < 3 && '0' <= s[pos] && s[pos] <= '9' {
			pos++
			n++
		}
		if n == 0 {
			return 0
		}
	}
	return pos
}

// coloned gives the length of what looks like an IPv6 address (hexadecimal digits and at least two colons, perhaps with
// an IPv4 tail) at the start of s, or 0.
func coloned(s string) int {
	pos, colons := 0, 0
	for pos < len(s) && (isHex(s[pos]) || s[pos] == ':' || s[pos] == '.' && colons >= 2) {
		if s[pos] == ':' {
			colons++
		}
		pos++
	}
	if colons < 2 {
		return 0
	}
	return pos
}

// quoted reads a string in double quotes with the language's escapes.
func (l *lexer) quoted() (token, error) {
	start := l.pos
	var b strings.Builder
	for pos := start + 1; pos < len(l.text); {
		switch c := l.text[pos]; c {
		case '"':
			l.pos = pos + 1
			if b.Len() > maxStringBytes {
				return token{}, &SyntaxError{Offset: start, Msg: "string is too long"}
			}
			return token{tokString, b.String(), l.pos}, nil
		case '\\':
			n, ok := unescape(&b, l.text[pos+1:])
			if !ok {
				return token{}, l.unexpected(start)
			}
			pos += 1 + n
		default:
			// A rule is text: bytes that are no UTF-8 would not come back the same through JSON.
			r, n := utf8.DecodeRuneInString(l.text[pos:])
			if r == utf8.RuneError && n == 1 {
				return token{}, l.unexpected(start)
			}
			b.WriteRune(r)
			pos += n
		}
	}
	return token{}, l.unexpected(start)
}

var escapes = map[byte]byte{
	'"': '"', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', '/': '/', '(': '(', ')': ')', '\\': '\\',
}

// unescape writes what the escape at the start of s (behind its backslash) stands for, and gives its length.
func unescape(b *strings.Builder, s string) (int, bool) {
	if s == "" {
		return 0, false
	}
	if s[0] != 'u' {
		c, ok := escapes[s[0]]
		if ok {
			b.WriteByte(c)
		}
		return 1, ok
	}
	high, ok := hex4(s[1:])
	if !ok {
		return 0, false
	}
	if !utf16.IsSurrogate(high) {
		b.WriteRune(high)
		return 5, true
	}
	// Outside the first 65,536 characters JavaScript writes two escapes.
	if len(s) < 11 || s[5] != '\\' || s[6] != 'u' {
		return 0, false
	}
	low, ok := hex4(s[7:])
	if !ok {
		return 0, false
	}
	r := utf16.DecodeRune(high, low)
	if r == utf8.RuneError {
		return 0, false
	}
	b.WriteRune(r)
	return 11, true
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:4], 16, 16)
	return rune(n), err == nil
}

// quote prints a string as a normal form does. Parentheses are escaped because old parsers want them so, and white
// space and control characters because an operator must see them.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '(', ')', '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '\b':
			b.WriteString(`\b`)
		case '\t':
			b.WriteString(`\t`)
		case '\n':
			b.WriteString(`\n`)
		case '\f':
			b.WriteString(`\f`)
		case '\r':
			b.WriteString(`\r`)
		default:
			if hidden(r) {
				fmt.Fprintf(&b, `\u%04X`, r)
			} else {
				b.WriteRune(r)
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}

// hidden reports whether r is a control character or a white space that is easily taken for a plain one.
func hidden(r rune) bool {
	switch {
	case r < 0x20, r == 0x7f, r == 0x85, r == 0xa0, r == 0x1680, r == 0x180e, 0x2000 <= r && r <= 0x200d,
		r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x2060, r == 0x3000, r == 0xfeff:
		return true
	}
	return false
}

func (l *lexer) unexpected(start int) error {
	return &SyntaxError{Offset: start, Near: near(l.text[start:]), Found: "unexpected text"}
}

// near cuts the start of s for an error message, at a character's boundary.
func near(s string) string {
	if len(s) > 20 {
		s = s[:20]
		for len(s) > 0 && !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}
