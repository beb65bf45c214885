package firewall

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Entry is a rule as an operator or owner keeps it.
type Entry struct {
	UUID    string
	Owner   string // uuid of the account whose machines it is for; empty means every machine (global)
	Enabled bool   // a disabled rule is kept and does nothing
	Log     bool   // ask for matching packets to be logged
	Rule    Rule
}

// Machine is what the compiler knows of one machine, local or remote.
type Machine struct {
	UUID  string
	Owner string // uuid of its account
	Tags  map[string]string
	IPs   []netip.Addr
}

// has reports whether the target picks the machine.
func (m *Machine) has(t Target) bool {
	switch t.Kind {
	case AllVMs:
		return true
	case VM:
		return m.UUID == t.VM
	case Tag:
		value, ok := m.Tags[t.Tag]
		return ok && (!t.HasValue || value == t.Value)
	}
	return false
}

// Match is one line of a [Policy].
type Match struct {
	Rule     string // uuid of the entry it comes from
	Log      bool
	Action   Action
	Protocol Protocol
	Anyone   bool           // every peer; Peers is then empty
	Peers    []netip.Prefix // addresses at the other end, sorted, none covered by another
	Ports    []Ports        // empty means all
	Types    []ICMPType     // empty means all
}

// Policy is what the firewall of one machine does: the first match decides. Without a match what comes in is blocked
// and what goes out is allowed.
type Policy struct{ In, Out []Match }

// Direction is the way of a packet, seen from the machine.
type Direction uint8

// The two directions.
const (
	In Direction = iota + 1
	Out
)

// Compile answers the policy of machine m under the entries. The fleet holds every machine that rules may name at the
// other end (m may be among them); an entry with an owner sees only machines of that owner.
//
// A rule applies to m inbound when its TO side picks m, outbound when its FROM side does. Higher priorities go first; at
// equal priority the action that goes against the default wins: allow inbound, block outbound. The result does
// not depend on the order of entries or fleet.
func Compile(m Machine, fleet []Machine, entries []Entry) Policy {
	var p Policy
	type ranked struct {
		Match
		priority int
	}
	var in, out []ranked
	for i := range entries {
		e := &entries[i]
		if !e.Enabled || e.Owner != "" && e.Owner != m.Owner {
			continue
		}
		line := Match{
			Rule: e.UUID, Log: e.Log, Action: e.Rule.Action, Protocol: e.Rule.Protocol,
			Ports: e.Rule.Ports, Types: e.Rule.Types,
		}
		if slices.ContainsFunc(e.Rule.To, m.has) && line.resolve(e.Rule.From, e.Owner, fleet) {
			in = append(in, ranked{line, e.Rule.Priority})
		}
		line.Anyone, line.Peers = false, nil
		if slices.ContainsFunc(e.Rule.From, m.has) && line.resolve(e.Rule.To, e.Owner, fleet) {
			out = append(out, ranked{line, e.Rule.Priority})
		}
	}
	order := func(first Action) func(a, b ranked) int {
		return func(a, b ranked) int {
			if c := cmp.Compare(b.priority, a.priority); c != 0 {
				return c
			}
			if a.Action != b.Action {
				if a.Action == first {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.Rule, b.Rule)
		}
	}
	slices.SortStableFunc(in, order(Allow))
	slices.SortStableFunc(out, order(Block))
	for _, r := range in {
		p.In = append(p.In, r.Match)
	}
	for _, r := range out {
		p.Out = append(p.Out, r.Match)
	}
	return p
}

// resolve turns one side's targets into addresses, and reports whether there is any.
func (l *Match) resolve(side []Target, owner string, fleet []Machine) bool {
	peers := map[netip.Prefix]struct{}{}
	add := func(p netip.Prefix) {
		// A control protocol of one family says nothing of addresses of the other.
		if is4 := p.Addr().Is4(); l.Protocol == ICMP && !is4 || l.Protocol == ICMP6 && is4 {
			return
		}
		peers[p.Masked()] = struct{}{}
	}
	for _, t := range side {
		switch t.Kind {
		case Any:
			l.Anyone = true
			return true
		case IP:
			add(netip.PrefixFrom(t.IP.WithZone(""), t.IP.BitLen()))
		case Subnet:
			add(t.Subnet)
		default:
			for i := range fleet {
				if f := &fleet[i]; (owner == "" || f.Owner == owner) && f.has(t) {
					for _, ip := range f.IPs {
						ip = ip.Unmap().WithZone("")
						add(netip.PrefixFrom(ip, ip.BitLen()))
					}
				}
			}
		}
	}
	l.Peers = uncovered(slices.Collect(maps.Keys(peers)))
	return len(l.Peers) > 0
}

// uncovered sorts prefixes and drops those that lie in another. Kernels refuse overlapping intervals.
func uncovered(prefixes []netip.Prefix) []netip.Prefix {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range prefixes {
		if len(out) == 0 || !out[len(out)-1].Contains(p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}

// Packet is the first packet of a flow, as [Policy.Decide] looks at it.
type Packet struct {
	Direction Direction
	Peer      netip.Addr // the other end
	Protocol  Protocol   // 0 for one that the language has no name for
	Port      uint16     // destination port of TCP and UDP
	Type      uint8      // of ICMP and ICMP6
	Code      uint8
}

// Decide answers what the policy does with a packet that belongs to no known flow, and the uuid of the rule that
// decided (empty for the default).
func (p Policy) Decide(pkt Packet) (Action, string) {
	lines, def := p.In, Block
	if pkt.Direction == Out {
		lines, def = p.Out, Allow
	}
	for i := range lines {
		if lines[i].matches(pkt) {
			return lines[i].Action, lines[i].Rule
		}
	}
	return def, ""
}

func (l *Match) matches(pkt Packet) bool {
	if l.Protocol != pkt.Protocol {
		return false
	}
	if is4 := pkt.Peer.Is4(); l.Protocol == ICMP && !is4 || l.Protocol == ICMP6 && is4 {
		return false
	}
	if !l.Anyone && !slices.ContainsFunc(l.Peers, func(p netip.Prefix) bool { return p.Contains(pkt.Peer) }) {
		return false
	}
	if len(l.Ports) > 0 && !slices.ContainsFunc(l.Ports, func(r Ports) bool { return r.First <= pkt.Port && pkt.Port <= r.Last }) {
		return false
	}
	return len(l.Types) == 0 || slices.ContainsFunc(l.Types, func(t ICMPType) bool {
		return t.Type == pkt.Type && (!t.HasCode || t.Code == pkt.Code)
	})
}
