package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Limits of one rule, as FWAPI has them.
const (
	MaxText        = 64 << 10 // bytes of a rule's text
	MaxTargets     = 24       // targets on each side
	MaxPorts       = 24       // ports, ranges, or ICMP types
	MaxPriority    = 100      // highest priority; 0 is the lowest and the default
	maxStringBytes = 4 << 10  // bytes of a tag's name or value
)

// Action is what happens to a packet.
type Action uint8

// The two actions. The zero value blocks.
const (
	Block Action = iota
	Allow
)

// String gives the keyword of the action in its normal form.
func (a Action) String() string {
	if a == Allow {
		return "ALLOW"
	}
	return "BLOCK"
}

// Protocol is what a rule speaks of: a transport or control protocol above IP.
type Protocol uint8

// The protocols of the language.
const (
	TCP Protocol = iota + 1
	UDP
	ICMP  // IPv4 only
	ICMP6 // IPv6 only
	AH
	ESP
)

var protocolNames = map[Protocol]string{TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMP6: "icmp6", AH: "ah", ESP: "esp"}

// String gives the protocol's keyword in its normal form.
func (p Protocol) String() string { return protocolNames[p] }

// Number gives the protocol's number in an IP header.
func (p Protocol) Number() uint8 {
	switch p {
	case TCP:
		return 6
	case UDP:
		return 17
	case ICMP:
		return 1
	case ICMP6:
		return 58
	case AH:
		return 51
	case ESP:
		return 50
	}
	return 0
}

// Kind says what a target names.
type Kind uint8

// Kinds of target, in the order of the normal form.
const (
	Any    Kind = iota + 1 // every address
	AllVMs                 // every machine the rule's owner has
	IP                     // one address
	Subnet                 // a range of addresses
	Tag                    // machines with a tag, or with a tag of one value
	VM                     // one machine
)

// Target is one entry of a rule's FROM or TO side. Only the fields of its Kind are set.
type Target struct {
	Kind     Kind
	IP       netip.Addr
	Subnet   netip.Prefix // as written: bits right of the mask are kept
	Tag      string
	Value    string // the tag's value, if HasValue
	HasValue bool
	VM       string // uuid, lower case
}

// String gives the target's normal form.
func (t Target) String() string {
	switch t.Kind {
	case Any:
		return "any"
	case AllVMs:
		return "all vms"
	case IP:
		return "ip " + t.IP.String()
	case Subnet:
		return "subnet " + t.Subnet.String()
	case Tag:
		if t.HasValue {
			return "tag " + quote(t.Tag) + " = " + quote(t.Value)
		}
		return "tag " + quote(t.Tag)
	case VM:
		return "vm " + t.VM
	}
	return "?"
}

// Ports is an inclusive range of ports, 1 to 65535; a single port has First and Last equal.
type Ports struct{ First, Last uint16 }

// ICMPType is an ICMP or ICMPv6 type, and a code if HasCode.
type ICMPType struct {
	Type, Code uint8
	HasCode    bool
}

// Rule is one parsed rule. Rules made by [Parse] are normal: targets without duplicates and sorted, ports and types
// sorted.
type Rule struct {
	From, To []Target
	Action   Action
	Protocol Protocol
	Ports    []Ports    // TCP and UDP; empty means all
	Types    []ICMPType // ICMP and ICMP6; empty means all
	Priority int        // 0 to MaxPriority; higher goes first
}

// String gives the rule's normal form, which [Parse] reads back to an equal rule.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString("FROM ")
	writeTargets(&b, r.From)
	b.WriteString(" TO ")
	writeTargets(&b, r.To)
	b.WriteByte(' ')
	b.WriteString(r.Action.String())
	b.WriteByte(' ')
	b.WriteString(r.Protocol.String())
	switch r.Protocol {
	case TCP, UDP:
		writePorts(&b, r.Ports)
	case ICMP, ICMP6:
		writeTypes(&b, r.Types)
	}
	if r.Priority > 0 {
		b.WriteString(" PRIORITY ")
		b.WriteString(strconv.Itoa(r.Priority))
	}
	return b.String()
}

func writeTargets(b *strings.Builder, targets []Target) {
	if len(targets) > 1 {
		b.WriteByte('(')
	}
	for i, t := range targets {
		if i > 0 {
			b.WriteString(" OR ")
		}
		b.WriteString(t.String())
	}
	if len(targets) > 1 {
		b.WriteByte(')')
	}
}

func writePorts(b *strings.Builder, ports []Ports) {
	ranged := slices.ContainsFunc(ports, func(p Ports) bool { return p.First != p.Last })
	switch {
	case len(ports) == 0:
		b.WriteString(" PORT all")
	case ranged:
		b.WriteString(" PORTS ")
		for i, p := range ports {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strconv.Itoa(int(p.First)))
			if p.First != p.Last {
				fmt.Fprintf(b, " - %d", p.Last)
			}
		}
	case len(ports) == 1:
		fmt.Fprintf(b, " PORT %d", ports[0].First)
	default:
		for i, p := range ports {
			if i == 0 {
				b.WriteString(" (")
			} else {
				b.WriteString(" AND ")
			}
			fmt.Fprintf(b, "PORT %d", p.First)
		}
		b.WriteByte(')')
	}
}

func writeTypes(b *strings.Builder, types []ICMPType) {
	if len(types) == 0 {
		b.WriteString(" TYPE all")
		return
	}
	b.WriteByte(' ')
	if len(types) > 1 {
		b.WriteByte('(')
	}
	for i, t := range types {
		if i > 0 {
			b.WriteString(" AND ")
		}
		fmt.Fprintf(b, "TYPE %d", t.Type)
		if t.HasCode {
			fmt.Fprintf(b, " CODE %d", t.Code)
		}
	}
	if len(types) > 1 {
		b.WriteByte(')')
	}
}

// normalise sorts the targets and drops those another target of the list covers: duplicates, and a tag's value where
// the tag itself is named.
func normalise(targets []Target) []Target {
	slices.SortFunc(targets, func(a, b Target) int {
		if c := cmp.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		switch a.Kind {
		case IP:
			return cmp.Compare(a.IP.String(), b.IP.String())
		case Subnet:
			return cmp.Compare(a.Subnet.String(), b.Subnet.String())
		case Tag:
			// The bare tag goes before its values, so that dropping covered values needs one pass.
			if c := cmp.Compare(a.Tag, b.Tag); c != 0 {
				return c
			}
			if a.HasValue != b.HasValue {
				if b.HasValue {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.Value, b.Value)
		}
		return cmp.Compare(a.VM, b.VM)
	})
	kept := targets[:0]
	for _, t := range targets {
		if n := len(kept); n > 0 {
			last := kept[n-1]
			if t == last || t.Kind == Tag && last.Kind == Tag && t.Tag == last.Tag && !last.HasValue {
				continue
			}
		}
		kept = append(kept, t)
	}
	return kept
}

// isVM reports whether the target picks machines, and so can make a rule apply to one.
func (t Target) isVM() bool { return t.Kind == AllVMs || t.Kind == Tag || t.Kind == VM }
