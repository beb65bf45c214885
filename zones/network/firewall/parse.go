package firewall

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ErrInvalid is in the chain of every error that [Parse] gives.
var ErrInvalid = errors.New("invalid firewall rule")

// SyntaxError says where a text stops being a rule. Its text is the original's.
type SyntaxError struct {
	Offset   int      // in bytes: the end of the last thing understood
	Near     string   // what stands there
	Expected []string // what could have stood there
	Found    string
	Msg      string // instead of all but Offset, where set
}

// Error gives the message.
func (e *SyntaxError) Error() string {
	if e.Msg != "" {
		return fmt.Sprintf("Error at character %d: %s", e.Offset, e.Msg)
	}
	var expected string
	if len(e.Expected) > 0 {
		expected = "expected: '" + strings.Join(e.Expected, "', '") + "', "
	}
	return fmt.Sprintf("Error at character %d: '%s', %sfound: %s", e.Offset, e.Near, expected, e.Found)
}

// Is makes every SyntaxError match [ErrInvalid].
func (e *SyntaxError) Is(target error) bool { return target == ErrInvalid }

// ValueError says that a rule is well formed but means something that cannot be. Its text is the original's.
type ValueError struct{ Msg string }

// Error gives the message.
func (e *ValueError) Error() string { return e.Msg }

// Is makes every ValueError match [ErrInvalid].
func (e *ValueError) Is(target error) bool { return target == ErrInvalid }

func invalid(format string, args ...any) error { return &ValueError{fmt.Sprintf(format, args...)} }

// Options change what [ParseWith] takes.
type Options struct {
	// EnforceSubnetMask refuses a subnet with bits to the right of its mask. Without it such bits are kept as written
	// and mean nothing.
	EnforceSubnetMask bool
}

// Parse reads one rule. The error, if any, is a [*SyntaxError] or a [*ValueError]; both match [ErrInvalid] and print the
// messages that clients of the original know.
func Parse(text string) (Rule, error) { return ParseWith(text, Options{}) }

// ParseWith reads one rule under options.
func ParseWith(text string, opts Options) (Rule, error) {
	if len(text) > MaxText {
		return Rule{}, invalid("rule must be shorter than %d bytes", MaxText)
	}
	p := parser{lex: lexer{text: text}, opts: opts}
	if err := p.advance(); err != nil {
		return Rule{}, err
	}
	r, err := p.rule()
	if err != nil {
		return Rule{}, err
	}
	return r, r.check()
}

// check refuses rules that are too long, touch no machine, or mix address families under ICMP.
func (r *Rule) check() error {
	if len(r.Ports) > MaxPorts {
		return invalid("maximum of %d ports allowed", MaxPorts)
	}
	if len(r.Types) > MaxPorts {
		return invalid("maximum of %d types allowed", MaxPorts)
	}
	if len(r.From) > MaxTargets || len(r.To) > MaxTargets {
		return invalid("maximum of %d targets allowed per side", MaxTargets)
	}
	vm := false
	for _, t := range slices.Concat(r.From, r.To) {
		vm = vm || t.isVM()
		var is4 bool
		var noun string
		switch t.Kind {
		case IP:
			is4, noun = t.IP.Is4(), "address"
		case Subnet:
			is4, noun = t.Subnet.Addr().Is4(), "subnet"
		default:
			continue
		}
		if r.Protocol == ICMP && !is4 {
			return invalid("rule affects ICMPv4 but contains a non-IPv4 %s", noun)
		}
		if r.Protocol == ICMP6 && is4 {
			return invalid("rule affects ICMPv6 but contains a non-IPv6 %s", noun)
		}
	}
	if !vm {
		return invalid("rule does not affect VMs")
	}
	// Duplicates count against the limits, as they do in the original, and go only now.
	r.From, r.To = normalise(r.From), normalise(r.To)
	return nil
}

type parser struct {
	lex  lexer
	opts Options
	tok  token // the one under the eye
	last int   // end of the token before
}

func (p *parser) advance() (err error) {
	p.last = p.tok.end
	p.tok, err = p.lex.next()
	return err
}

func (p *parser) fail(expected ...string) error {
	rest := strings.TrimLeft(p.lex.text[min(p.last, len(p.lex.text)):], " \t\r\n\v\f")
	if p.tok.kind == tokWord || p.tok.kind == tokPunct {
		rest = p.tok.text
	}
	return &SyntaxError{Offset: p.last, Near: near(rest), Expected: expected, Found: p.tok.found()}
}

// accept takes the token if it is the keyword or the punctuation given in upper case.
func (p *parser) accept(what string) (bool, error) {
	if p.tok.keyword() == what || p.tok.kind == tokPunct && p.tok.text == what {
		return true, p.advance()
	}
	return false, nil
}

func (p *parser) expect(what string) error {
	ok, err := p.accept(what)
	if err == nil && !ok {
		err = p.fail(what)
	}
	return err
}

func (p *parser) rule() (r Rule, err error) {
	if err = p.expect("FROM"); err != nil {
		return r, err
	}
	if r.From, err = p.side(); err != nil {
		return r, err
	}
	if err = p.expect("TO"); err != nil {
		return r, err
	}
	if r.To, err = p.side(); err != nil {
		return r, err
	}
	switch p.tok.keyword() {
	case "ALLOW":
		r.Action = Allow
	case "BLOCK":
		r.Action = Block
	default:
		return r, p.fail("BLOCK", "ALLOW")
	}
	if err = p.advance(); err != nil {
		return r, err
	}
	if err = p.protocol(&r); err != nil {
		return r, err
	}
	if ok, err := p.accept("PRIORITY"); err != nil {
		return r, err
	} else if ok {
		if r.Priority, err = p.number("Priority level", 0, MaxPriority); err != nil {
			return r, err
		}
		if p.tok.kind != tokEOF {
			return r, p.fail("EOF")
		}
	}
	if p.tok.kind != tokEOF {
		return r, p.fail("EOF", "PRIORITY")
	}
	return r, nil
}

// side reads the targets between FROM and TO, or behind TO.
func (p *parser) side() ([]Target, error) {
	open, err := p.accept("(")
	if err != nil {
		return nil, err
	}
	first, err := p.target(true, open)
	if err != nil {
		return nil, err
	}
	targets := []Target{first}
	for open && first.Kind != Any && first.Kind != AllVMs {
		more, err := p.accept("OR")
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		t, err := p.target(false, true)
		if err != nil {
			return nil, err
		}
		if len(targets) == MaxTargets {
			return nil, invalid("maximum of %d targets allowed per side", MaxTargets)
		}
		targets = append(targets, t)
	}
	if open {
		if err := p.expect(")"); err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// target reads one target; wild says whether the wildcards may stand here.
func (p *parser) target(wild, open bool) (t Target, err error) {
	key := p.tok.keyword()
	switch {
	case key == "ANY" && wild:
		return Target{Kind: Any}, p.advance()
	case key == "ALL" && wild:
		if err := p.advance(); err != nil {
			return t, err
		}
		return Target{Kind: AllVMs}, p.expect("VMS")
	case key == "IP":
		return p.address()
	case key == "SUBNET":
		return p.subnet()
	case key == "TAG":
		return p.tag()
	case key == "VM":
		if err := p.advance(); err != nil {
			return t, err
		}
		if p.tok.kind != tokWord {
			return t, p.fail("WORD")
		}
		if !isUUID(p.tok.text) {
			return t, invalid("UUID %q is invalid", p.tok.text)
		}
		t = Target{Kind: VM, VM: p.tok.text}
		return t, p.advance()
	}
	expected := []string{"ip", "subnet", "vm", "tag"}
	if wild {
		expected = append([]string{"all", "any"}, expected...)
		if !open {
			expected = append([]string{"("}, expected...)
		}
	}
	return t, p.fail(expected...)
}

func (p *parser) address() (t Target, err error) {
	if err := p.advance(); err != nil {
		return t, err
	}
	if p.tok.kind != tokAddr {
		return t, p.fail("IPV4ADDR", "IPV6ADDR")
	}
	text := p.tok.text
	addr, err := netip.ParseAddr(text)
	if strings.Contains(text, ":") {
		if err != nil || addr.Is4In6() {
			return t, invalid("IPv6 address %q is invalid", text)
		}
	} else if err != nil || addr.IsUnspecified() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return t, invalid("IPv4 address %q is invalid", text)
	}
	return Target{Kind: IP, IP: addr}, p.advance()
}

func (p *parser) subnet() (t Target, err error) {
	if err := p.advance(); err != nil {
		return t, err
	}
	if p.tok.kind != tokAddr {
		return t, p.fail("IPV4ADDR", "IPV6ADDR")
	}
	text := p.tok.text
	if err := p.advance(); err != nil {
		return t, err
	}
	if p.tok.kind != tokPrefix {
		return t, p.fail("CIDRSUFFIX")
	}
	length := p.tok.text
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Is4In6() {
		return t, invalid("Subnet %q is invalid (bad address component)", text+length)
	}
	bits, err := strconv.Atoi(length[1:])
	if err != nil || bits > addr.BitLen() {
		return t, invalid("Subnet %q is invalid (bad prefix length)", text+length)
	}
	prefix := netip.PrefixFrom(addr, bits)
	if p.opts.EnforceSubnetMask && prefix.Masked() != prefix {
		return t, invalid("Subnet %q is invalid (bits set to right of mask)", text+length)
	}
	return Target{Kind: Subnet, Subnet: prefix}, p.advance()
}

func (p *parser) tag() (t Target, err error) {
	if err := p.advance(); err != nil {
		return t, err
	}
	name, err := p.str()
	if err != nil {
		return t, err
	}
	t = Target{Kind: Tag, Tag: name}
	if t.HasValue, err = p.accept("="); err == nil && t.HasValue {
		t.Value, err = p.str()
	}
	return t, err
}

// str reads a bare word that is no keyword, or a quoted string.
func (p *parser) str() (string, error) {
	if p.tok.kind != tokString && (p.tok.kind != tokWord || keywords[p.tok.keyword()]) {
		return "", p.fail("STRING", "WORD")
	}
	text := p.tok.text
	return text, p.advance()
}

// number reads a whole number between low and high; what names it in the error.
func (p *parser) number(what string, low, high int) (int, error) {
	if p.tok.kind != tokWord || keywords[p.tok.keyword()] {
		return 0, p.fail("WORD")
	}
	n, err := parseNumber(what, p.tok.text, low, high)
	if err != nil {
		return 0, err
	}
	return n, p.advance()
}

func parseNumber(what, text string, low, high int) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || len(text) > 5 || int(n) < low || int(n) > high {
		return 0, invalid("%s %q is invalid", what, text)
	}
	return int(n), nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
				return false
			}
		}
	}
	return true
}
