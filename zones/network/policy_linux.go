package network

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/network/firewall"
)

// firewallZone writes the firewall of a zone; a nil policy turns it off. Flows that are known stay known: a change
// decides over new ones. fresh says that the zone has no rules yet: removing what is not there is right but slow, as the
// kernel waits for every processor to forget it.
func (b *batch) firewallZone(zone string, f *flows, p *firewall.Policy, fresh bool) {
	outName, inName := zoneChains(zone)
	newOutName, newInName := newFlowChains(zone)
	out, in := b.emptyChain(outName), b.emptyChain(inName)
	if p == nil {
		if fresh {
			return
		}
		b.dropChain(newOutName)
		b.dropChain(newInName)
		for _, s := range f.all() {
			b.dropSet(s)
		}
		return
	}
	for _, s := range f.all() {
		b.set(s, nil)
	}
	b.newFlow(b.emptyChain(newOutName), f, true)
	b.newFlow(b.emptyChain(newInName), f, false)

	b.knownFlows(out, f, true)
	// Neighbour discovery is how IPv6 works at all, and no flow: judging it by rules would cut a zone off.
	b.discovery(out)
	b.lines(out, p.Out, newOutName)
	b.rule(out, "", verdict(expr.VerdictGoto, newOutName))

	b.knownFlows(in, f, false)
	b.discovery(in)
	for _, fam := range f.families() {
		for _, typ := range errorTypes(fam.icmp) {
			b.rule(in, "", fam.is, proto(fam.icmp), transport(0, 1), is(typ), fam.quoted(), known(fam.open), accept)
		}
	}
	b.lines(in, p.In, newInName)
	b.rule(in, dropFirewall, isIPv4, drop)
	b.rule(in, dropFirewall, isIPv6, drop)
}

// dropZone removes a zone's chains and sets. Its NICs' chains must be gone, or go earlier in the batch.
func (b *batch) dropZone(zone string, f *flows) {
	out, in := zoneChains(zone)
	newOut, newIn := newFlowChains(zone)
	for _, c := range []string{out, in, newOut, newIn} {
		b.emptyChain(c)
	}
	for _, c := range []string{out, in, newOut, newIn} {
		b.c.DelChain(&nftables.Chain{Table: b.t, Name: c})
	}
	for _, s := range f.all() {
		b.dropSet(s)
	}
}

// errorTypes are the ICMP types that quote the packet they are about.
func errorTypes(icmp byte) []byte {
	if icmp == unix.IPPROTO_ICMP {
		return []byte{3, 11, 12}
	}
	return []byte{1, 2, 3, 4}
}

// discovery lets router and neighbour discovery and multicast listener queries and reports pass. What a zone may claim
// in them is the matter of its anti-spoofing rules.
func (b *batch) discovery(c *nftables.Chain) {
	var types []nftables.SetElement
	for _, t := range []byte{130, 131, 132, 133, 134, 135, 136, 143} {
		types = append(types, nftables.SetElement{Key: []byte{t}})
	}
	b.rule(c, "", isIPv6, proto(unix.IPPROTO_ICMPV6), transport(0, 1), b.in(nftables.TypeICMP6Type, false, types, false), accept)
}

// lines writes a policy's matches in order; what is allowed goes to the chain named.
func (b *batch) lines(c *nftables.Chain, lines []firewall.Match, allowed string) {
	peerOffset := map[bool][2]uint32{true: {12, 8}, false: {16, 24}}[allowedIn(allowed)]
	for i := range lines {
		l := &lines[i]
		verdictOf := drop
		label := dropFirewall
		if l.Action == firewall.Allow {
			verdictOf, label = verdict(expr.VerdictGoto, allowed), ""
		}
		for _, m := range b.matches(l, peerOffset) {
			if l.Log {
				b.rule(c, logLabel+l.Rule, m(), logged(l))
			}
			b.rule(c, label, m(), verdictOf)
		}
	}
}

// matches gives what a line matches, once for each rule that it takes. Each call makes sets that one rule must use: the kernel refuses a batch
// with a set that none does.
func (b *batch) matches(l *firewall.Match, peerOffset [2]uint32) (out []func() []expr.Any) {
	if l.Anyone {
		// IPv4 and IPv6 alike; the control protocols' numbers belong to one of them.
		return []func() []expr.Any{func() []expr.Any {
			switch what := b.what(l); l.Protocol {
			case firewall.ICMP:
				return match(isIPv4, what)
			case firewall.ICMP6:
				return match(isIPv6, what)
			default:
				return what
			}
		}}
	}
	v4, v6 := split(l.Peers)
	if len(v4) > 0 {
		out = append(out, func() []expr.Any {
			return match(isIPv4, ip(peerOffset[0], 4), b.in(nftables.TypeIPAddr, true, prefixes(v4), false), b.what(l))
		})
	}
	if len(v6) > 0 {
		out = append(out, func() []expr.Any {
			return match(isIPv6, ip(peerOffset[1], 16), b.in(nftables.TypeIP6Addr, true, prefixes(v6), false), b.what(l))
		})
	}
	return out
}

// allowedIn tells from the chain of new flows whether lines are inbound.
func allowedIn(chain string) bool { return len(chain) > 3 && chain[len(chain)-3:] == "-in" }

// what matches a line's protocol with its ports or types.
func (b *batch) what(l *firewall.Match) []expr.Any {
	m := proto(l.Protocol.Number())
	var ranges []span
	offset := uint32(2) // destination port
	for _, p := range l.Ports {
		ranges = append(ranges, span{p.First, p.Last})
	}
	for _, t := range l.Types {
		offset = 0 // type and code, read as one number
		first := uint16(t.Type) << 8
		if t.HasCode {
			ranges = append(ranges, span{first | uint16(t.Code), first | uint16(t.Code)})
		} else {
			ranges = append(ranges, span{first, first | 0xff})
		}
	}
	if len(ranges) == 0 {
		return m
	}
	return match(m, transport(offset, 2), b.in(nftables.TypeInetService, true, spans(ranges), false))
}

// What is written to the kernel's log is bounded for each rule, so that nobody can fill the host's disk by sending: LogRate lines a second, and
// LogBurst at once. Counters say how many packets there were.
const (
	LogRate  = 10
	LogBurst = 50

	logLabel = "log "
)

// logged counts a packet, and writes a line with the rule's uuid to the kernel's log unless there were too many.
func logged(l *firewall.Match) []expr.Any {
	prefix := "mobula " + l.Rule + " " + l.Action.String() + " "
	return []expr.Any{
		&expr.Counter{},
		&expr.Limit{Type: expr.LimitTypePkts, Rate: LogRate, Unit: expr.LimitTimeSecond, Burst: LogBurst},
		&expr.Counter{},
		&expr.Log{Key: 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_LEVEL, Level: expr.LogLevelInfo, Data: []byte(prefix[:min(len(prefix), 120)])},
	}
}
