package aperture

import (
	"fmt"
	"strings"
)

// String returns the rule in its normal form: keywords in capitals, words quoted only where they must be, types written where the sentence wrote them. Parsing
// it again gives the same rule.
func (r *Rule) String() string {
	var p printer
	if r.principals != nil {
		r.principals.format(&p)
		p.WriteByte(' ')
	}
	p.WriteString("CAN ")
	if r.never {
		p.WriteString("NOT ")
	}
	r.actions.format(&p)
	if r.resources != nil {
		p.WriteByte(' ')
		r.resources.format(&p)
	}
	if r.when != nil {
		p.WriteString(" WHEN ")
		r.when.format(&p)
	}
	return p.String()
}

type printer struct{ strings.Builder }

// word prints text so that it is read back as one token of one of these kinds with this very text, or else quoted.
func (p *printer) word(text string, kinds ...kind) {
	tokens, err := lex(text)
	if err == nil && len(tokens) == 2 && tokens[0].text == text {
		for _, k := range kinds {
			if tokens[0].kind == k {
				p.WriteString(text)
				return
			}
		}
	}
	p.quote(text)
}

func (p *printer) quote(text string) {
	p.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			p.WriteByte('\\')
			p.WriteRune(r)
		case r < ' ':
			fmt.Fprintf(p, `\u%04x`, r)
		default:
			p.WriteRune(r)
		}
	}
	p.WriteByte('"')
}

func (l *list) format(p *printer) {
	if l.all {
		p.WriteByte('*')
		return
	}
	for i, m := range l.items {
		switch {
		case i == 0:
		case i < len(l.items)-1:
			p.WriteString(", ")
		case i == 1:
			p.WriteString(" AND ")
		default:
			p.WriteString(", AND ")
		}
		m.format(p)
	}
}

func (e exact) format(p *printer)   { p.word(string(e), tokWord) }
func (x pattern) format(p *printer) { p.WriteString(x.source + "::regex") }
func (g glob) format(p *printer)    { p.WriteString(g.source) }
func (orOf) level() int             { return 0 }
func (andOf) level() int            { return 1 }
func (notOf) level() int            { return 2 }
func (*comparison) level() int      { return 3 }
func (o orOf) format(p *printer)    { p.pair(o, o.a, o.b, " OR ") }
func (a andOf) format(p *printer)   { p.pair(a, a.a, a.b, " AND ") }
func (n notOf) format(p *printer)   { p.WriteString("NOT "); p.operand(n.c, n.level()) }
func (c *comparison) text(p *printer, s string) {
	p.word(s, tokWord, tokGlob, tokStar)
}

// pair prints two operands. Chains grow to the left, so a right operand of the same level keeps its parentheses.
func (p *printer) pair(self, a, b condition, joiner string) {
	p.operand(a, self.level())
	p.WriteString(joiner)
	p.operand(b, self.level()+1)
}

func (p *printer) operand(c condition, level int) {
	if c.level() >= level {
		c.format(p)
		return
	}
	p.WriteByte('(')
	c.format(p)
	p.WriteByte(')')
}

func (c *comparison) format(p *printer) {
	c.text(p, c.name)
	if c.explicit {
		p.WriteString("::")
		c.text(p, string(c.typ))
	}
	if !c.in {
		p.WriteByte(' ')
		c.text(p, c.op)
		p.WriteByte(' ')
		c.text(p, c.values[0])
		return
	}
	p.WriteString(" IN (")
	for i, v := range c.values {
		if i > 0 {
			p.WriteString(", ")
		}
		c.text(p, v)
	}
	p.WriteByte(')')
}
