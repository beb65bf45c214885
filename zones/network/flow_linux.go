package network

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// How long a flow is remembered after its last packet. A TCP connection counts as open once the other end has answered
// and until one end closes.
const (
	tcpOpen    = 24 * time.Hour
	tcpOther   = 2 * time.Minute
	udpIdle    = 3 * time.Minute
	echoIdle   = time.Minute
	otherIdle  = 10 * time.Minute
	setTimeout = 2 * time.Minute // a set needs a default; every entry says its own
)

// zoneChains names the chains of a zone's firewall, for what it sends and for what it gets. Both are empty, and so let
// everything pass, while the firewall is off.
func zoneChains(zone string) (out, in string) { return zone + "-out", zone + "-in" }

// newFlowChains names the chains that note a new flow and let it pass.
func newFlowChains(zone string) (out, in string) { return zone + "-new-out", zone + "-new-in" }

// flows are the sets of a zone's known flows and of those about to end, by IP family. A key is protocol, the zone's
// address, the peer's address, the zone's port, the peer's port; it is the same whichever way a packet goes.
type flows struct{ open4, open6, closing4, closing6 *nftables.Set }

func (n *Network) zoneFlows(zone string) flows {
	set := func(name string, addr nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{
			Name: zone + name, KeyByteOrder: binaryutil.BigEndian,
			KeyType: concat(nftables.TypeInetProto, addr, addr, nftables.TypeInetService, nftables.TypeInetService),
			Dynamic: true, HasTimeout: true, Timeout: setTimeout, Size: uint32(n.maxFlows),
		}
	}
	return flows{
		set("-flows4", nftables.TypeIPAddr), set("-flows6", nftables.TypeIP6Addr),
		set("-closing4", nftables.TypeIPAddr), set("-closing6", nftables.TypeIP6Addr),
	}
}

func (f *flows) all() []*nftables.Set {
	return []*nftables.Set{f.open4, f.open6, f.closing4, f.closing6}
}

// family is what differs between IPv4 and IPv6 when a key is put together.
type family struct {
	is            []expr.Any
	size          uint32 // of an address
	src, dst      uint32 // where addresses stand in the header
	words         int    // registers an address takes
	icmp          byte
	request       byte // echo request
	reply         byte // echo reply
	open, closing *nftables.Set
}

func (f *flows) families() []family {
	return []family{
		{isIPv4, 4, 12, 16, 1, unix.IPPROTO_ICMP, 8, 0, f.open4, f.closing4},
		{isIPv6, 16, 8, 24, 4, unix.IPPROTO_ICMPV6, 128, 129, f.open6, f.closing6},
	}
}

// What stands in a key for the ports.
const (
	withoutPorts = iota
	withPorts
	withEcho // the identifier of an echo, as the zone's port
)

// key loads the flow's key to word(0) and on. fromZone says whether the packet's source is the zone.
func (f *family) key(fromZone bool, ports int) []expr.Any {
	local, peer := f.src, f.dst
	localPort, peerPort := uint32(0), uint32(2)
	if !fromZone {
		local, peer = peer, local
		localPort, peerPort = 2, 0
	}
	w := 1 + 2*f.words
	m := match(
		[]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word(0)}},
		payload(expr.PayloadBaseNetworkHeader, local, f.size, word(1)),
		payload(expr.PayloadBaseNetworkHeader, peer, f.size, word(1+f.words)))
	th := func(offset uint32, to int) []expr.Any {
		return payload(expr.PayloadBaseTransportHeader, offset, 2, word(to))
	}
	// A register keeps what an earlier rule left in it, so unused ones are cleared.
	zero := func(to int) []expr.Any { return []expr.Any{&expr.Immediate{Register: word(to), Data: make([]byte, 4)}} }
	switch ports {
	case withPorts:
		return match(m, th(localPort, w), th(peerPort, w+1))
	case withEcho:
		return match(m, th(4, w), zero(w+1))
	}
	return match(m, zero(w), zero(w+1))
}

// quoted loads the key of the flow that an ICMP error quotes: a packet that the zone once sent.
func (f *family) quoted() []expr.Any {
	th := func(offset, size uint32, to int) []expr.Any {
		return payload(expr.PayloadBaseTransportHeader, 8+offset, size, word(to))
	}
	w := 1 + 2*f.words
	if f.size == 4 {
		// Without options, as practically all are: version and length in one byte.
		return match(transport(8, 1), is(0x45),
			th(9, 1, 0), th(12, 4, 1), th(16, 4, 2), th(20, 2, w), th(22, 2, w+1))
	}
	return match(th(6, 1, 0), th(8, 16, 1), th(24, 16, 1+f.words), th(40, 2, w), th(42, 2, w+1))
}

// tcp and its flags: which of SYN, ACK, RST and FIN are set.
var isTCP = proto(unix.IPPROTO_TCP)

const fin, syn, rst, ack = 1, 2, 4, 16

// knownFlows lets packets of known flows pass and keeps the flows alive. It stands first in both directions.
func (b *batch) knownFlows(c *nftables.Chain, f *flows, fromZone bool) {
	b.fragments(c)
	for _, fam := range f.families() {
		key := fam.key(fromZone, withPorts)
		// Closing, by either end: short-lived from here on, and noted so that the last acknowledgement does not make
		// it long-lived again.
		b.rule(c, "", fam.is, isTCP, transport(13, 1), masked(fin|rst), isNot(0), key, known(fam.open),
			remember(fam.closing, tcpOther), remember(fam.open, tcpOther), accept)
		b.rule(c, "", fam.is, isTCP, transport(13, 1), masked(syn|ack), is(ack), key, known(fam.open),
			[]expr.Any{&expr.Lookup{SourceRegister: word(0), SetName: fam.closing.Name, SetID: fam.closing.ID, Invert: true}},
			remember(fam.open, tcpOpen), accept)
		b.rule(c, "", fam.is, isTCP, key, known(fam.open), remember(fam.open, tcpOther), accept)
		b.rule(c, "", fam.is, proto(unix.IPPROTO_UDP), key, known(fam.open), remember(fam.open, udpIdle), accept)
		b.rule(c, "", fam.is, proto(fam.icmp), transport(0, 1), is(fam.reply), fam.key(fromZone, withEcho),
			known(fam.open), remember(fam.open, echoIdle), accept)
		b.rule(c, "", fam.is, meta(expr.MetaKeyL4PROTO), isNot(unix.IPPROTO_TCP), isNot(unix.IPPROTO_UDP), isNot(fam.icmp),
			fam.key(fromZone, withoutPorts), known(fam.open), remember(fam.open, otherIdle), accept)
	}
}

// fragments lets the later pieces of a packet pass: they carry no ports to judge by, and are worth nothing without
// the first, which is judged. A second piece so early that it could rewrite the first's ports is none we let pass.
func (b *batch) fragments(c *nftables.Chain) {
	offset := match(ip(6, 2), masked(0x1f, 0xff))
	b.rule(c, dropFragment, isIPv4, offset, is(0, 1), drop)
	b.rule(c, "", isIPv4, offset, isNot(0, 0), accept)
	frag := []expr.Any{&expr.Exthdr{DestRegister: reg, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}}
	b.rule(c, "", isIPv6, frag, masked(0xff, 0xf8), isNot(0, 0), accept)
}

// newFlow notes a flow and lets it pass; it is where a policy's allow leads. When the set is full, the packet is
// dropped: a flow that cannot be remembered could not be answered either.
func (b *batch) newFlow(c *nftables.Chain, f *flows, fromZone bool) {
	for _, fam := range f.families() {
		key := fam.key(fromZone, withPorts)
		b.rule(c, "", fam.is, isTCP, key, remember(fam.open, tcpOther), accept)
		b.rule(c, "", fam.is, proto(unix.IPPROTO_UDP), key, remember(fam.open, udpIdle), accept)
		b.rule(c, "", fam.is, proto(fam.icmp), transport(0, 1), is(fam.request), fam.key(fromZone, withEcho), remember(fam.open, echoIdle), accept)
		b.rule(c, "", fam.is, proto(fam.icmp), transport(0, 1), isNot(fam.request), accept)
		for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, fam.icmp} {
			b.rule(c, dropFull, fam.is, proto(p), drop)
		}
		b.rule(c, "", fam.is, fam.key(fromZone, withoutPorts), remember(fam.open, otherIdle), accept)
		b.rule(c, dropFull, fam.is, drop)
	}
	b.rule(c, "", accept) // ARP, and whatever allow_restricted_traffic lets out
}
