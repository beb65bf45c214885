package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// inetSets are the segments that have a gateway, those behind NAT, and what addresses NAT is for.
type inetSets struct{ gateways, hidden, subnets4, subnets6 *nftables.Set }

func newINetSets() inetSets {
	names := func(name string) *nftables.Set {
		return &nftables.Set{Name: name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	}
	subnets := func(name string, t nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Name: name, KeyType: t, Interval: true, KeyByteOrder: binaryutil.BigEndian}
	}
	return inetSets{names("gateways"), names("hidden"), subnets("nat4", nftables.TypeIPAddr), subnets("nat6", nftables.TypeIP6Addr)}
}

func lookup(s *nftables.Set, invert bool) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID, Invert: invert}}
}

// established matches packets of connections that the host's tracking knows.
var established = []expr.Any{
	&expr.Ct{Key: expr.CtKeySTATE, Register: reg},
	&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
	&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
}

// baseINet writes the table that guards the host and hides networks behind it. What is in the sets stays.
func (b *batch) baseINet() {
	b.c.AddTable(b.t)
	s := newINetSets()
	for _, set := range []*nftables.Set{s.gateways, s.hidden, s.subnets4, s.subnets6} {
		b.set(set, nil)
	}
	base := func(name string, hook *nftables.ChainHook, kind nftables.ChainType, prio *nftables.ChainPriority) *nftables.Chain {
		c := b.c.AddChain(&nftables.Chain{
			Table: b.t, Name: name, Type: kind, Hooknum: hook, Priority: prio, Policy: new(nftables.ChainPolicyAccept),
		})
		b.c.FlushChain(c)
		return c
	}
	// From zones to the host itself: what keeps a gateway working, and nothing else, on whatever bridge they are.
	in := base("input", nftables.ChainHookInput, nftables.ChainTypeFilter, nftables.ChainPriorityFilter)
	mark := binaryutil.NativeEndian.PutUint32(zoneMark)
	b.rule(in, "", meta(expr.MetaKeyMARK), masked(mark...), compare(expr.CmpOpEq, make([]byte, 4)), accept)
	b.rule(in, "", established, accept)
	echo := func(number, typ byte) []expr.Any { return match(proto(number), transport(0, 1), is(typ)) }
	b.rule(in, "", echo(unix.IPPROTO_ICMP, 8), accept)
	for _, typ := range []byte{128, 133, 135, 136} {
		b.rule(in, "", echo(unix.IPPROTO_ICMPV6, typ), accept)
	}
	b.rule(in, "host", drop)

	// Towards networks behind NAT comes nothing unasked, and never from another of our networks: fabrics are apart.
	fwd := base("forward", nftables.ChainHookForward, nftables.ChainTypeFilter, nftables.ChainPriorityFilter)
	b.rule(fwd, "", meta(expr.MetaKeyOIFNAME), lookup(s.hidden, false), established, accept)
	b.rule(fwd, "hidden", meta(expr.MetaKeyOIFNAME), lookup(s.hidden, false), drop)

	nat := base("postrouting", nftables.ChainHookPostrouting, nftables.ChainTypeNAT, nftables.ChainPriorityNATSource)
	masq := []expr.Any{&expr.Masq{}}
	family := func(f byte) []expr.Any { return match(meta(expr.MetaKeyNFPROTO), is(f)) }
	b.rule(nat, "", family(unix.NFPROTO_IPV4), ip(12, 4), lookup(s.subnets4, false), meta(expr.MetaKeyOIFNAME), lookup(s.gateways, true), masq)
	b.rule(nat, "", family(unix.NFPROTO_IPV6), ip(8, 16), lookup(s.subnets6, false), meta(expr.MetaKeyOIFNAME), lookup(s.gateways, true), masq)
}

// PutGateway gives the host its addresses on a segment and opens the way out; what an earlier gateway there had more is
// taken away. Two gateways whose subnets overlap would make the host's routes ambiguous: zones.ErrExist.
//
// A gateway needs forwarding, so this turns it on for the whole namespace.
func (n *Network) PutGateway(ctx context.Context, g Gateway) error {
	what := func(err error) error {
		return fmt.Errorf("gateway on nic tag %s, vlan %d: %w", g.Tag, g.VLAN, err)
	}
	if len(g.Addresses) == 0 || len(g.Addresses) > MaxAddresses {
		return what(fmt.Errorf("%w: 1 to %d addresses", zones.ErrInvalid, MaxAddresses))
	}
	for _, p := range g.Addresses {
		if !hostAddr(p.Addr()) || p.Bits() == 0 {
			return what(fmt.Errorf("%w: address %q", zones.ErrInvalid, p))
		}
	}
	if err := n.ensureTables(); err != nil {
		return what(err)
	}
	bridge, err := n.segment(g.Tag, g.VLAN)
	if err != nil {
		return err
	}
	if o, ok := n.parseAlias(bridge.Attrs().Alias); !ok || o.kind != "bridge" {
		return what(fmt.Errorf("%w: the bridge is the operator's, and so are its addresses", zones.ErrNotSupported))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.overlaps(bridge, g.Addresses); err != nil {
		return what(err)
	}
	if err := n.markNAT(bridge, g.NAT); err != nil {
		return what(err)
	}
	// Rules first: no address may answer before they hold.
	if err := n.gatewayRules(bridge, g.Addresses, g.NAT); err != nil {
		return what(err)
	}
	name := bridge.Attrs().Name
	err = n.inHost(func() error {
		return errors.Join(
			sysctl("ipv6/conf/"+name+"/disable_ipv6", "0"), sysctl("ipv6/conf/"+name+"/accept_ra", "0"),
			sysctl("ipv4/ip_forward", "1"), sysctl("ipv6/conf/all/forwarding", "1"))
	})
	if err != nil {
		return what(err)
	}
	want := map[netip.Prefix]bool{}
	for _, p := range g.Addresses {
		want[p] = true
	}
	for _, have := range n.bridgeAddresses(bridge) {
		if want[have] {
			delete(want, have)
		} else if err := n.h.AddrDel(bridge, &netlink.Addr{IPNet: ipNet(have)}); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return what(err)
		}
	}
	for p := range want {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := n.h.AddrAdd(bridge, a); err != nil && !errors.Is(err, syscall.EEXIST) {
			return what(fmt.Errorf("add address %s: %w", p, err))
		}
	}
	return ctx.Err()
}

// markNAT notes on a bridge whether its gateway hides it, for whoever must write the rules again.
func (n *Network) markNAT(bridge netlink.Link, nat bool) error {
	o, ok := n.parseAlias(bridge.Attrs().Alias)
	if !ok || o.nat == nat {
		return nil
	}
	alias := n.segmentAlias("bridge", o.tag, o.vlan)
	if nat {
		alias += " nat"
	}
	return n.h.LinkSetAlias(bridge, alias)
}

// DeleteGateway takes the host off a segment. There being no gateway: nil.
func (n *Network) DeleteGateway(ctx context.Context, tag string, vlan int) error {
	if err := n.ensureTables(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	bridge, err := n.h.LinkByName(n.segmentName(bridgePrefix, tag, vlan))
	if err != nil {
		return nil
	}
	for _, p := range n.bridgeAddresses(bridge) {
		if err := n.h.AddrDel(bridge, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fmt.Errorf("gateway on nic tag %s: remove address %s: %w", tag, p, err)
		}
	}
	if err := n.inHost(func() error { return sysctl("ipv6/conf/"+bridge.Attrs().Name+"/disable_ipv6", "1") }); err != nil {
		return err
	}
	return errors.Join(n.gatewayRules(bridge, nil, false), n.markNAT(bridge, false), ctx.Err())
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// bridgeAddresses are a bridge's addresses, but for the one the kernel makes itself.
func (n *Network) bridgeAddresses(bridge netlink.Link) []netip.Prefix {
	addrs, err := n.h.AddrList(bridge, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ones, _ := a.Mask.Size(); ok && !ip.IsLinkLocalUnicast() {
			out = append(out, netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	return out
}

func (n *Network) overlaps(bridge netlink.Link, addrs []netip.Prefix) error {
	links, err := n.ours()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.kind != "bridge" || l.link.Attrs().Index == bridge.Attrs().Index {
			continue
		}
		for _, have := range n.bridgeAddresses(l.link) {
			for _, p := range addrs {
				if p.Overlaps(have) {
					return fmt.Errorf("%w: %s overlaps %s of nic tag %s, vlan %d", zones.ErrExist, p, have, l.tag, l.vlan)
				}
			}
		}
	}
	return nil
}

// gatewayRules brings the sets to what a segment's gateway is now; its old addresses are read from the bridge.
func (n *Network) gatewayRules(bridge netlink.Link, addrs []netip.Prefix, nat bool) error {
	b, err := n.newBatch(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	defer b.release()
	s := newINetSets()
	for _, set := range []*nftables.Set{s.gateways, s.hidden, s.subnets4, s.subnets6} {
		set.Table = b.t
	}
	have4, err := b.elements(s.subnets4)
	if err != nil {
		return err
	}
	have6, err := b.elements(s.subnets6)
	if err != nil {
		return err
	}
	byFamily := func(p netip.Prefix) (*nftables.Set, map[string]bool) {
		if p.Addr().Is4() {
			return s.subnets4, have4
		}
		return s.subnets6, have6
	}
	keep := map[netip.Prefix]bool{}
	for _, p := range addrs {
		keep[p.Masked()] = nat
	}
	seen := map[netip.Prefix]bool{}
	for _, p := range append(n.bridgeAddresses(bridge), addrs...) {
		if p = p.Masked(); seen[p] {
			continue
		}
		seen[p] = true
		set, have := byFamily(p)
		there := have[string(p.Addr().AsSlice())]
		switch {
		case keep[p] && !there:
			b.add(set, prefixes([]netip.Prefix{p})...)
		case !keep[p] && there:
			if err := b.c.SetDeleteElements(set, prefixes([]netip.Prefix{p})); err != nil {
				return err
			}
		}
	}
	element := nftables.SetElement{Key: ifname(bridge.Attrs().Name)}
	put := func(set *nftables.Set, in bool) {
		if in {
			b.add(set, element)
		} else {
			b.remove(set, element)
		}
	}
	put(s.gateways, len(addrs) > 0)
	put(s.hidden, nat)
	if err := b.commit(); err != nil {
		return err
	}
	return n.forbidHost(bridge, len(addrs) == 0)
}

// elements reads the keys of a set.
func (b *batch) elements(s *nftables.Set) (map[string]bool, error) {
	list, err := b.c.GetSetElements(s)
	if err != nil {
		return nil, fmt.Errorf("read nftables set %s: %w", s.Name, err)
	}
	out := map[string]bool{}
	for _, e := range list {
		if !e.IntervalEnd {
			out[string(e.Key)] = true
		}
	}
	return out, nil
}
