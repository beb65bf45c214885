package network

import (
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Labels of the rules that drop, and so of the counters in [Counters].
const (
	dropMAC        = "mac-spoof"
	dropARP        = "arp-spoof"
	dropIP         = "ip-spoof"
	dropND         = "nd-spoof"
	dropDHCP       = "dhcp-spoof"
	dropRestricted = "restricted-traffic"
	dropForeign    = "foreign-frame"
	dropPort       = "blocked-port"
	dropFirewall   = "firewall"
	dropFull       = "flow-table-full"
	dropFragment   = "bad-fragment"
)

// zoneMark is set on what zones send, so that the host can tell it from what comes in over an uplink on the same bridge.
const zoneMark = 1 << 22

// leaseTime bounds how long an address that a DHCP server gave is believed; a renewal starts it again.
const leaseTime = 24 * time.Hour

// mapSets are the two maps by which the base chains find a NIC's rules.
func mapSets() (from, to *nftables.Set) {
	vmap := func(name string) *nftables.Set {
		return &nftables.Set{Name: name, IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict, KeyByteOrder: binaryutil.NativeEndian}
	}
	return vmap("from"), vmap("to")
}

// closedSet has the addresses of our bridges without a gateway. A kernel that forwards would be one for whoever addresses
// frames to the bridge.
func closedSet() *nftables.Set {
	return &nftables.Set{Name: "closed", KeyType: nftables.TypeEtherAddr, KeyByteOrder: binaryutil.BigEndian}
}

// forbidHost closes a bridge of ours to frames for the host itself, or opens it.
func (n *Network) forbidHost(bridge netlink.Link, closed bool) error {
	b, err := n.newBatch(nftables.TableFamilyBridge)
	if err != nil {
		return err
	}
	defer b.release()
	s := closedSet()
	s.Table = b.t
	e := nftables.SetElement{Key: bridge.Attrs().HardwareAddr}
	if closed {
		b.add(s, e)
	} else {
		b.remove(s, e)
	}
	return b.commit()
}

// baseBridge writes the bridge table's own chains anew, leaving the NICs' rules.
func (b *batch) baseBridge() {
	b.c.AddTable(b.t)
	from, to := mapSets()
	b.set(from, nil)
	b.set(to, nil)
	closed := b.set(closedSet(), nil)
	for _, c := range []struct {
		name string
		hook *nftables.ChainHook
		key  expr.MetaKey
		set  *nftables.Set
	}{
		{"prerouting", nftables.ChainHookPrerouting, expr.MetaKeyIIFNAME, from},
		{"postrouting", nftables.ChainHookPostrouting, expr.MetaKeyOIFNAME, to},
	} {
		chain := b.c.AddChain(&nftables.Chain{
			Table: b.t, Name: c.name, Type: nftables.ChainTypeFilter, Hooknum: c.hook,
			Priority: nftables.ChainPriorityRaw, Policy: new(nftables.ChainPolicyAccept),
		})
		b.c.FlushChain(chain)
		if c.set == from {
			b.rule(chain, "no-gateway", link(0, 6), lookup(closed, false), drop)
		}
		b.rule(chain, "", meta(c.key), []expr.Any{&expr.Lookup{
			SourceRegister: reg, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: c.set.Name, SetID: c.set.ID,
		}})
	}
}

// nicChains names the chains of a NIC, from and to the zone. They begin with the zone, so that they are found when the
// interface is long gone.
func nicChains(zone, name string) (out, in string) {
	return zone + "-" + name + "-out", zone + "-" + name + "-in"
}

func leaseSet(zone, name string) *nftables.Set {
	return &nftables.Set{
		Name: zone + "-" + name + "-lease", KeyType: nftables.TypeIPAddr, KeyByteOrder: binaryutil.BigEndian,
		Dynamic: true, HasTimeout: true, Timeout: leaseTime, Size: 4,
	}
}

// filterNIC writes the rules of one NIC. The zone's firewall chains must be there, or come earlier in the batch.
func (b *batch) filterNIC(zone, name string, n *nic) {
	outName, inName := nicChains(zone, name)
	out, in := b.emptyChain(outName), b.emptyChain(inName)
	var lease *nftables.Set
	if n.dhcp {
		lease = b.set(leaseSet(zone, name), nil)
	}
	b.fromZone(out, n, lease)
	b.toZone(in, n, lease)
	fwOut, fwIn := zoneChains(zone)
	b.rule(out, "", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(^uint32(zoneMark)), Xor: binaryutil.NativeEndian.PutUint32(zoneMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg},
	}, verdict(expr.VerdictGoto, fwOut))
	b.rule(in, "", verdict(expr.VerdictGoto, fwIn))
	from, to := mapSets()
	from.Table, to.Table = b.t, b.t
	b.add(from, nftables.SetElement{Key: ifname(name), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: outName}})
	b.add(to, nftables.SetElement{Key: ifname(name), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: inName}})
}

// dropNIC removes what filterNIC wrote.
func (b *batch) dropNIC(zone, name string) {
	outName, inName := nicChains(zone, name)
	b.chain(outName)
	b.chain(inName)
	from, to := mapSets()
	from.Table, to.Table = b.t, b.t
	b.remove(from, nftables.SetElement{Key: ifname(name), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: outName}})
	b.remove(to, nftables.SetElement{Key: ifname(name), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: inName}})
	b.dropChain(outName)
	b.dropChain(inName)
	b.dropSet(leaseSet(zone, name))
}

// fromZone judges what a zone sends.
func (b *batch) fromZone(c *nftables.Chain, n *nic, lease *nftables.Set) {
	if !n.allowMAC {
		b.rule(c, dropMAC, link(6, 6), isNot(n.mac...), drop)
		b.rule(c, dropARP, isARP, ip(8, 6), isNot(n.mac...), drop)
		// The link-layer address in an advertisement or solicitation, where it stands first, as kernels put it.
		for typ, option := range map[byte]byte{135: 1, 136: 2} {
			b.rule(c, dropND, isIPv6, proto(unix.IPPROTO_ICMPV6), transport(0, 1), is(typ),
				transport(24, 1), is(option), transport(26, 6), isNot(n.mac...), drop)
		}
	}
	if !n.allowIP {
		b.sources(c, n, lease)
	}
	if !n.allowDHCP {
		udpFrom := func(port byte, high byte) []expr.Any {
			return match(proto(unix.IPPROTO_UDP), transport(0, 2), is(high, port))
		}
		b.rule(c, dropDHCP, isIPv4, udpFrom(67, 0), drop)
		b.rule(c, dropDHCP, isIPv6, udpFrom(0x23, 0x02), drop) // 547
		// A router's advertisement configures its hearers just as DHCP does.
		b.rule(c, dropDHCP, isIPv6, proto(unix.IPPROTO_ICMPV6), transport(0, 1), is(134), drop)
	}
	if !n.allowOther {
		b.rule(c, dropRestricted, link(12, 2), isNot(0x08, 0x00), isNot(0x08, 0x06), isNot(0x86, 0xdd), drop)
	}
	if len(n.blocked) > 0 {
		var ports []span
		for _, p := range n.blocked {
			ports = append(ports, span{p, p})
		}
		for _, p := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			b.rule(c, dropPort, proto(p), transport(2, 2), b.in(nftables.TypeInetService, true, spans(ports), false), drop)
		}
	}
}

// sources holds a zone to its own addresses, in packets and in what it says of itself to neighbours.
func (b *batch) sources(c *nftables.Chain, n *nic, lease *nftables.Set) {
	v4, v6 := split(n.allowed)
	none4, none6 := netip.PrefixFrom(netip.IPv4Unspecified(), 32), netip.PrefixFrom(netip.IPv6Unspecified(), 128)
	_, v6 = split(append(v6, netip.PrefixFrom(n.linkLocal(), 128)))
	leased := func(reg uint32) []expr.Any {
		if lease == nil {
			return nil
		}
		return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: lease.Name, SetID: lease.ID, Invert: true}}
	}
	notOwn4 := func(extra ...netip.Prefix) []expr.Any {
		list, _ := split(append(extra, v4...))
		return match(b.notIn(list), leased(reg))
	}
	// An ARP probe asks with no address of its own whether one is taken.
	b.rule(c, dropARP, isARP, ip(14, 4), notOwn4(none4), drop)
	if n.dhcp {
		b.rule(c, "", isIPv4, ip(12, 4), is(0, 0, 0, 0), proto(unix.IPPROTO_UDP), transport(0, 4), is(0, 68, 0, 67), accept)
	}
	b.rule(c, dropIP, isIPv4, ip(12, 4), notOwn4(), drop)

	notOwn6 := func(base func(o, l uint32) []expr.Any, offset uint32, extra ...netip.Prefix) []expr.Any {
		_, list := split(append(extra, v6...))
		m := match(base(offset, 16), b.notIn(list))
		if n.addrconf {
			id := n.eui64()
			m = match(base(offset+8, 8), isNot(id[:]...), m)
		}
		return m
	}
	b.rule(c, dropIP, isIPv6, notOwn6(ip, 8, none6), drop)
	// Without an address it may only find out whether one is taken, and say which groups it listens to.
	b.rule(c, dropIP, isIPv6, ip(8, 16), is(make([]byte, 16)...), meta(expr.MetaKeyL4PROTO), isNot(unix.IPPROTO_ICMPV6), drop)
	b.rule(c, dropIP, isIPv6, ip(8, 16), is(make([]byte, 16)...), transport(0, 1),
		isNot(131), isNot(132), isNot(135), isNot(143), drop)
	b.rule(c, dropND, isIPv6, proto(unix.IPPROTO_ICMPV6), transport(0, 1), is(136), notOwn6(transport, 8), drop)
	// Redirects are a router's to send.
	b.rule(c, dropND, isIPv6, proto(unix.IPPROTO_ICMPV6), transport(0, 1), is(137), drop)
	b.rule(c, dropIP, isIPv4, proto(unix.IPPROTO_ICMP), transport(0, 1), is(5), drop)
}

// toZone judges what reaches a zone before its firewall does.
func (b *batch) toZone(c *nftables.Chain, n *nic, lease *nftables.Set) {
	if !n.allowPromisc && !n.allowMAC {
		// Frames for one receiver only (the lowest bit of the first byte is clear) that is somebody else.
		b.rule(c, dropForeign, link(0, 1), masked(1), is(0), link(0, 6), isNot(n.mac...), drop)
	}
	if lease != nil {
		// "Your address" in a server's answer to this NIC.
		b.rule(c, "", isIPv4, proto(unix.IPPROTO_UDP), transport(0, 4), is(0, 67, 0, 68), transport(8, 1), is(2),
			transport(8+28, 6), is(n.mac...),
			payload(expr.PayloadBaseTransportHeader, 8+16, 4, word(0)), remember(lease, leaseTime))
	}
}
