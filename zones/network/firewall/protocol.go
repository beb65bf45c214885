package firewall

import (
	"cmp"
	"slices"
	"strings"
)

// protocol reads the protocol and its ports or types.
func (p *parser) protocol(r *Rule) error {
	switch p.tok.keyword() {
	case "TCP":
		r.Protocol = TCP
	case "UDP":
		r.Protocol = UDP
	case "ICMP":
		r.Protocol = ICMP
	case "ICMP6":
		r.Protocol = ICMP6
	case "AH":
		r.Protocol = AH
	case "ESP":
		r.Protocol = ESP
	default:
		return p.fail("TCP", "UDP", "ICMP", "ICMP6", "AH", "ESP")
	}
	if err := p.advance(); err != nil {
		return err
	}
	switch r.Protocol {
	case TCP, UDP:
		return p.ports(r)
	case ICMP, ICMP6:
		return p.types(r)
	}
	return nil
}

func (p *parser) ports(r *Rule) error {
	if ok, err := p.accept("PORTS"); err != nil {
		return err
	} else if ok {
		return p.ranges(r)
	}
	open, err := p.accept("(")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if p.tok.keyword() != "PORT" {
			if n == 0 && !open {
				return p.fail("(", "PORT", "PORTS")
			}
			return p.fail("PORT")
		}
		if err := p.advance(); err != nil {
			return err
		}
		if n == 0 {
			if all, err := p.accept("ALL"); err != nil {
				return err
			} else if all {
				break
			}
		}
		port, err := p.number("Port number", 1, 65535)
		if err != nil {
			return err
		}
		if n == MaxPorts {
			return invalid("maximum of %d ports allowed", MaxPorts)
		}
		r.Ports = append(r.Ports, Ports{uint16(port), uint16(port)})
		if !open {
			break
		}
		if more, err := p.accept("AND"); err != nil {
			return err
		} else if !more {
			break
		}
	}
	sortPorts(r)
	if open {
		return p.expect(")")
	}
	return nil
}

// ranges reads the list behind PORTS: numbers and ranges, the dash with or without space around it.
func (p *parser) ranges(r *Rule) error {
	for {
		if p.tok.kind != tokWord || keywords[p.tok.keyword()] {
			return p.fail("WORD")
		}
		first, last, ranged := strings.Cut(p.tok.text, "-")
		if strings.Contains(last, "-") {
			return invalid("%q is not a valid port number or range", p.tok.text)
		}
		text := p.tok.text
		if err := p.advance(); err != nil {
			return err
		}
		switch {
		case ranged && last == "": // "80- 90"
			if p.tok.kind != tokWord || keywords[p.tok.keyword()] {
				return invalid("%q is not a valid port number or range", text)
			}
			last = p.tok.text
			if err := p.advance(); err != nil {
				return err
			}
		case !ranged && p.tok.kind == tokWord && strings.HasPrefix(p.tok.text, "-"): // "80 -90"
			ranged, last = true, p.tok.text[1:]
			if err := p.advance(); err != nil {
				return err
			}
		case !ranged:
			dash, err := p.accept("-")
			if err != nil {
				return err
			}
			if dash {
				if p.tok.kind != tokWord || keywords[p.tok.keyword()] {
					return p.fail("WORD")
				}
				ranged, last = true, p.tok.text
				if err := p.advance(); err != nil {
					return err
				}
			}
		}
		low, err := parseNumber("Port number", first, 1, 65535)
		if err != nil {
			return err
		}
		high := low
		if ranged {
			if high, err = parseNumber("Port number", last, 1, 65535); err != nil {
				return err
			}
			if high < low {
				return invalid("The end of the range (%d) cannot be less than the start (%d)", high, low)
			}
		}
		if len(r.Ports) == MaxPorts {
			return invalid("maximum of %d ports allowed", MaxPorts)
		}
		r.Ports = append(r.Ports, Ports{uint16(low), uint16(high)})
		if more, err := p.accept(","); err != nil {
			return err
		} else if !more {
			break
		}
	}
	sortPorts(r)
	return nil
}

func sortPorts(r *Rule) {
	slices.SortStableFunc(r.Ports, func(a, b Ports) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
}

func (p *parser) types(r *Rule) error {
	open, err := p.accept("(")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if p.tok.keyword() != "TYPE" {
			if n == 0 && !open {
				return p.fail("(", "TYPE")
			}
			return p.fail("TYPE")
		}
		if err := p.advance(); err != nil {
			return err
		}
		if n == 0 {
			if all, err := p.accept("ALL"); err != nil {
				return err
			} else if all {
				break
			}
		}
		num, err := p.number("ICMP type", 0, 255)
		if err != nil {
			return err
		}
		t := ICMPType{Type: uint8(num)}
		if t.HasCode, err = p.accept("CODE"); err != nil {
			return err
		}
		if t.HasCode {
			if num, err = p.number("ICMP code", 0, 255); err != nil {
				return err
			}
			t.Code = uint8(num)
		}
		if n == MaxPorts {
			return invalid("maximum of %d types allowed", MaxPorts)
		}
		r.Types = append(r.Types, t)
		if !open {
			break
		}
		if more, err := p.accept("AND"); err != nil {
			return err
		} else if !more {
			break
		}
	}
	slices.SortStableFunc(r.Types, func(a, b ICMPType) int {
		if c := cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Code, b.Code)); c != 0 {
			return c
		}
		if a.HasCode == b.HasCode {
			return 0
		}
		if b.HasCode {
			return -1
		}
		return 1
	})
	if open {
		return p.expect(")")
	}
	return nil
}
