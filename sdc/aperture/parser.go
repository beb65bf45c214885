package aperture

import (
	"errors"
	"fmt"
	"strings"
)

// MaxRule is the greatest length of a rule's text in bytes.
const MaxRule = 8 << 10

// maxDepth bounds how deeply conditions nest.
const maxDepth = 100

// A SyntaxError says where a rule's text stops making sense.
type SyntaxError struct {
	Offset  int // byte offset in the text
	Message string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("aperture: at offset %d: %s", e.Offset, e.Message)
}

// Parse reads a rule. types says of which type each condition is that does not say so itself; values are checked against their types here, so that a rule
// with a bad address or date is refused when it is written. With nil types, conditions without a type of their own are let through and never match.
func Parse(text string, types Types) (*Rule, error) {
	if len(text) > MaxRule {
		return nil, &SyntaxError{Offset: MaxRule, Message: "rule is too long"}
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens, types: types}
	return p.rule()
}

type parser struct {
	tokens []token
	types  Types
	depth  int
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.tokens[0]
	if t.kind != tokEnd {
		p.tokens = p.tokens[1:]
	}
	return t
}

// take consumes the next token if it is the keyword.
func (p *parser) take(keyword string) bool {
	if t := p.peek(); t.kind != tokKeyword || t.text != keyword {
		return false
	}
	p.next()
	return true
}

func unexpected(t token, want string) error {
	found := fmt.Sprintf("%q", t.text)
	if t.kind == tokEnd {
		found = "the end"
	}
	return &SyntaxError{Offset: t.pos, Message: "found " + found + " where " + want + " should be"}
}

func (p *parser) rule() (*Rule, error) {
	r := new(Rule)
	var err error
	if !p.take("CAN") {
		if r.principals, err = p.list("principals or CAN"); err != nil {
			return nil, err
		}
		if !p.take("CAN") {
			return nil, unexpected(p.peek(), "CAN")
		}
	}
	r.never = p.take("NOT")
	if r.actions, err = p.list("actions"); err != nil {
		return nil, err
	}
	if p.peek().kind != tokEnd && !p.atWhen() {
		if r.resources, err = p.list("resources or WHEN"); err != nil {
			return nil, err
		}
	}
	if p.atWhen() {
		p.next()
		if r.when, err = p.or(); err != nil {
			return nil, err
		}
	}
	if t := p.peek(); t.kind != tokEnd {
		return nil, unexpected(t, "the end")
	}
	return r, nil
}

func (p *parser) atWhen() bool {
	t := p.peek()
	return t.kind == tokKeyword && (t.text == "WHEN" || t.text == "IF" || t.text == "WHERE")
}

// list reads principals, actions or resources.
func (p *parser) list(what string) (*list, error) {
	if t := p.peek(); t.kind == tokStar || t.kind == tokKeyword && (t.text == "ALL" || t.text == "EVERYTHING" || t.text == "ANYTHING") {
		p.next()
		return &list{all: true}, nil
	}
	l := new(list)
	for {
		t := p.peek()
		m, err := identifier(t, what)
		if err != nil {
			return nil, err
		}
		p.next()
		l.items = append(l.items, m)
		if p.peek().kind == tokComma {
			p.next()
			p.take("AND")
		} else if !p.take("AND") {
			return l, nil
		}
		what = "an identifier"
	}
}

func identifier(t token, what string) (matcher, error) {
	switch t.kind {
	case tokWord, tokQuoted:
		return exact(t.text), nil
	case tokGlob:
		return newGlob(t.text), nil
	case tokRegexp:
		re, err := compileLiteral(t.text)
		if err != nil {
			return nil, &SyntaxError{Offset: t.pos, Message: err.Error()}
		}
		return pattern{re: re, source: t.text}, nil
	}
	return nil, unexpected(t, what)
}

func (p *parser) or() (condition, error) {
	return p.chain("OR", p.and, func(a, b condition) condition { return orOf{a, b} })
}

func (p *parser) and() (condition, error) {
	return p.chain("AND", p.not, func(a, b condition) condition { return andOf{a, b} })
}

func (p *parser) chain(keyword string, operand func() (condition, error), join func(a, b condition) condition) (condition, error) {
	left, err := operand()
	for err == nil && p.take(keyword) {
		var right condition
		if right, err = operand(); err == nil {
			left = join(left, right)
		}
	}
	return left, err
}

func (p *parser) not() (condition, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxDepth {
		return nil, &SyntaxError{Offset: p.peek().pos, Message: "conditions nest too deeply"}
	}
	if p.take("NOT") {
		c, err := p.not()
		if err != nil {
			return nil, err
		}
		return notOf{c}, nil
	}
	if p.peek().kind != tokOpen {
		return p.comparison()
	}
	p.next()
	c, err := p.or()
	if err != nil {
		return nil, err
	}
	if t := p.next(); t.kind != tokClose {
		return nil, unexpected(t, `")"`)
	}
	return c, nil
}

// text reads what is plain text inside a condition, asterisks and all.
func (p *parser) text(want string) (string, error) {
	t := p.next()
	switch t.kind {
	case tokWord, tokQuoted, tokGlob, tokStar:
		return t.text, nil
	}
	return "", unexpected(t, want)
}

func (p *parser) comparison() (condition, error) {
	start := p.peek().pos
	name, err := p.text("a condition")
	if err != nil {
		return nil, err
	}
	c := &comparison{name: name}
	if p.peek().kind == tokColons {
		p.next()
		s, err := p.text("a type")
		if err != nil {
			return nil, err
		}
		c.typ, c.explicit = Type(s), true
	}
	if p.take("IN") {
		if err := p.values(c); err != nil {
			return nil, err
		}
	} else {
		op, err := p.text("an operator")
		if err != nil {
			return nil, err
		}
		value, err := p.text("a value")
		if err != nil {
			return nil, err
		}
		c.op, c.values = strings.ToLower(op), []string{value}
	}
	if err := c.compile(p.types); err != nil {
		if e, ok := errors.AsType[*SyntaxError](err); ok {
			e.Offset = start
		}
		return nil, err
	}
	return c, nil
}

// values reads what follows IN.
func (p *parser) values(c *comparison) error {
	c.op, c.in = "=", true
	if t := p.next(); t.kind != tokOpen {
		return unexpected(t, `"("`)
	}
	for {
		value, err := p.text("a value")
		if err != nil {
			return err
		}
		c.values = append(c.values, value)
		switch t := p.next(); t.kind {
		case tokComma:
		case tokClose:
			return nil
		default:
			return unexpected(t, `"," or ")"`)
		}
	}
}
