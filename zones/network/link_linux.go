package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// zoneLinks lists the host's ends of a zone's NICs.
func (n *Network) zoneLinks(zone string) ([]ourLink, error) {
	all, err := n.ours()
	if err != nil {
		return nil, err
	}
	var out []ourLink
	for _, l := range all {
		if l.kind == "zone" && l.zone == zone {
			out = append(out, l)
		}
	}
	return out, nil
}

// namedLinks looks for a zone's interfaces by their names. One that has no alias yet is the zone's too, as its name says.
func (n *Network) namedLinks(zone string, names []string) ([]ourLink, error) {
	var out []ourLink
	for _, name := range names {
		l, err := n.h.LinkByName(name)
		if err != nil {
			if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
				continue
			}
			return out, err
		}
		o, ok := n.parseAlias(l.Attrs().Alias)
		if !ok || o.zone == zone {
			out = append(out, ourLink{o, l})
		}
	}
	return out, nil
}

// attachedLinks are a zone's interfaces as its own namespace tells, which costs the same whatever else the host has; those of
// a VM, which has none, are looked for among all.
func (n *Network) attachedLinks(zone string) ([]ourLink, error) {
	ns, err := n.openNS(zone)
	if err != nil {
		return n.zoneLinks(zone)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	inner, err := linkList(h)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range inner {
		if mac := l.Attrs().HardwareAddr; len(mac) == 6 && l.Attrs().Flags&net.FlagLoopback == 0 {
			names = append(names, n.nicName(zone, mac))
		}
	}
	return n.namedLinks(zone, names)
}

// attachVeths brings a zone's namespace to its NICs and routes.
func (n *Network) attachVeths(zone string, nics []nic, routes []route, ns *os.File) error {
	var h *netlink.Handle
	err := inNS(ns, func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return errors.Join(err,
			// Addresses and routes are what the operator says and not what a router does.
			sysctl("ipv6/conf/default/accept_ra", "0"), sysctl("ipv6/conf/all/accept_ra", "0"))
	})
	if h != nil {
		defer h.Close()
	}
	if err != nil {
		return err
	}
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	indexes := make([]int, len(nics))
	for i := range nics {
		w := &nics[i]
		bridge, err := n.segment(w.tag, w.vlan)
		if err != nil {
			return err
		}
		mtu, err := nicMTU(w, bridge)
		if err != nil {
			return err
		}
		inner, err := n.veth(zone, w, bridge, mtu, ns, h)
		if err != nil {
			return fmt.Errorf("nic %s: %w", w.mac, err)
		}
		indexes[i] = inner.Attrs().Index
		if err := configure(h, inner, w, ns); err != nil {
			return fmt.Errorf("nic %s: %w", w.mac, err)
		}
		awaitCarrier(n.h, n.nicName(zone, w.mac))
		awaitCarrier(h, w.iface)
	}
	return setRoutes(h, nics, indexes, routes)
}

func nicMTU(w *nic, bridge netlink.Link) (int, error) {
	most := bridge.Attrs().MTU
	if w.mtu > most {
		return 0, fmt.Errorf("%w: nic %s: mtu %d is above %d of nic tag %s", zones.ErrInvalid, w.mac, w.mtu, most, w.tag)
	}
	if w.mtu != 0 {
		return w.mtu, nil
	}
	return most, nil
}

// veth makes sure of a pair: one end a port of the bridge, the other in the zone's namespace. It answers the latter.
func (n *Network) veth(zone string, w *nic, bridge netlink.Link, mtu int, ns *os.File, h *netlink.Handle) (netlink.Link, error) {
	name := n.nicName(zone, w.mac)
	outer, err := n.h.LinkByName(name)
	if err == nil {
		inner, err := h.LinkByName(w.iface)
		if err == nil && inner.Attrs().HardwareAddr.String() == w.mac.String() && outer.Attrs().Alias == n.nicAlias(zone, w.mac, w.iface) {
			if inner.Attrs().MTU != mtu {
				if err := errors.Join(n.h.LinkSetMTU(outer, mtu), h.LinkSetMTU(inner, mtu)); err != nil {
					return nil, err
				}
			}
			return inner, n.plug(outer, w, bridge)
		}
		// Half made, of another name, or somebody's whose hash is the same.
		if o, ok := n.parseAlias(outer.Attrs().Alias); ok && o.zone != zone {
			return nil, fmt.Errorf("%w: interface %s is of zone %s", zones.ErrExist, name, o.zone)
		}
		if err := n.deleteLink(outer); err != nil {
			return nil, err
		}
	}
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu, TxQLen: 1000},
		PeerName:  w.iface, PeerHardwareAddr: w.mac, PeerNamespace: netlink.NsFd(ns.Fd()), PeerTxQLen: 1000,
	}
	if err := n.h.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("make interface %s: %w", w.iface, err)
	}
	if outer, err = n.h.LinkByName(name); err != nil {
		return nil, err
	}
	// The alias comes at once, so that whatever happens next the pair can be found.
	if err := n.h.LinkSetAlias(outer, n.nicAlias(zone, w.mac, w.iface)); err != nil {
		return nil, err
	}
	if err := n.plug(outer, w, bridge); err != nil {
		return nil, err
	}
	return h.LinkByName(w.iface)
}

// plug puts the host's end of a NIC on its bridge and brings it up.
func (n *Network) plug(outer netlink.Link, w *nic, bridge netlink.Link) error {
	if outer.Attrs().MasterIndex != bridge.Attrs().Index {
		// No link-local address: the host has no business on a zone's wire.
		if err := n.h.LinkSetIP6AddrGenMode(outer, 1); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EAFNOSUPPORT) {
			return fmt.Errorf("turn off host address: %w", err)
		}
		if err := n.h.LinkSetMaster(outer, bridge); err != nil {
			return fmt.Errorf("join bridge: %w", err)
		}
	}
	if outer.Attrs().Flags&net.FlagUp == 0 {
		if err := n.h.LinkSetUp(outer); err != nil {
			return fmt.Errorf("bring up: %w", err)
		}
	}
	return nil
}

// configure gives an interface in a zone its addresses, and takes away those it should not have.
func configure(h *netlink.Handle, l netlink.Link, w *nic, ns *os.File) error {
	if w.addrconf {
		err := inNS(ns, func() error { return sysctl("ipv6/conf/"+w.iface+"/accept_ra", "2") })
		if err != nil {
			return err
		}
	}
	want := map[netip.Prefix]bool{}
	for _, p := range w.addrs {
		want[p] = true
	}
	up := l.Attrs().Flags&net.FlagUp != 0
	if up { // an interface that is new has none
		have, err := h.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range have {
			ip, _ := netip.AddrFromSlice(a.IP)
			ones, _ := a.Mask.Size()
			p := netip.PrefixFrom(ip.Unmap(), ones)
			if want[p] {
				delete(want, p)
			} else if a.Flags&unix.IFA_F_PERMANENT != 0 && !ip.IsLinkLocalUnicast() {
				if err := h.AddrDel(l, &a); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
					return fmt.Errorf("remove address %s: %w", p, err)
				}
			}
		}
	}
	for _, p := range w.addrs { // in order: the first is the one the kernel prefers
		if !want[p] {
			continue
		}
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // nobody else can have it, and a second of waiting is a second of starting
		}
		if err := h.AddrAdd(l, a); err != nil && !errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	if !up {
		if err := h.LinkSetUp(l); err != nil {
			return fmt.Errorf("bring up: %w", err)
		}
	}
	return nil
}

// awaitCarrier waits until an end of a new pair passes frames. The kernel takes note of a carrier in the background, and
// drops what is sent until then (IPv6 even later). Newer kernels (6.8) catch up when asked for the link, so the first look
// is enough.
func awaitCarrier(h *netlink.Handle, name string) {
	for range 100 {
		l, err := h.LinkByName(name)
		if err != nil || l.Attrs().OperState == netlink.OperUp {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// routeProtocol marks our routes in a zone, so that those the zone's own programs add are left alone.
const routeProtocol = 0x6d

// setRoutes brings a zone's static routes to what they should be.
func setRoutes(h *netlink.Handle, nics []nic, indexes []int, routes []route) error {
	type key struct {
		dst  netip.Prefix
		via  netip.Addr
		link int
	}
	var order []key
	want := map[key]bool{}
	add := func(k key) {
		if !want[k] {
			want[k] = true
			order = append(order, k)
		}
	}
	// One default a family: the primary NIC's, or the first there is.
	for _, is4 := range []bool{true, false} {
		best := key{}
		for i, w := range nics {
			for _, g := range w.gateways {
				if g.Is4() == is4 && (best.link == 0 || w.primary && !nics[indexOf(indexes, best.link)].primary) {
					best = key{netip.PrefixFrom(zeroAddr(is4), 0), g, indexes[i]}
				}
			}
		}
		if best.link != 0 {
			add(best)
		}
	}
	for _, r := range routes {
		k := key{dst: r.dst, via: r.via}
		if r.nic >= 0 && !r.via.IsValid() {
			k.link = indexes[r.nic]
		} else {
			// The NIC whose subnet has the gateway.
			for i, w := range nics {
				for _, p := range w.addrs {
					if k.link == 0 && p.Contains(r.via) {
						k.link = indexes[i]
					}
				}
			}
			if k.link == 0 {
				return fmt.Errorf("%w: routes: no nic is on the subnet of gateway %s", zones.ErrInvalid, r.via)
			}
		}
		add(k)
	}
	have, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range have {
		k := key{link: r.LinkIndex}
		if r.Dst != nil {
			ip, _ := netip.AddrFromSlice(r.Dst.IP)
			ones, bits := r.Dst.Mask.Size()
			if bits == 32 {
				ip = ip.Unmap()
			}
			k.dst = netip.PrefixFrom(ip, ones)
		} else {
			k.dst = netip.PrefixFrom(zeroAddr(r.Gw.To4() != nil), 0)
		}
		if ip, ok := netip.AddrFromSlice(r.Gw); ok {
			k.via = ip.Unmap()
		}
		if want[k] {
			delete(want, k)
		} else if err := h.RouteDel(&r); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("remove route to %s: %w", k.dst, err)
		}
	}
	for _, k := range order {
		if !want[k] {
			continue
		}
		r := &netlink.Route{LinkIndex: k.link, Protocol: routeProtocol, Dst: &net.IPNet{IP: k.dst.Addr().AsSlice(), Mask: net.CIDRMask(k.dst.Bits(), k.dst.Addr().BitLen())}}
		if k.via.IsValid() {
			// A gateway off the NIC's subnet is reached on the link all the same, as providers with /32 addresses want.
			r.Gw, r.Flags = k.via.AsSlice(), int(netlink.FLAG_ONLINK)
		} else {
			r.Scope = netlink.SCOPE_LINK
		}
		if err := h.RouteReplace(r); err != nil {
			return fmt.Errorf("route to %s: %w", k.dst, err)
		}
	}
	return nil
}

func indexOf(list []int, v int) int {
	for i, x := range list {
		if x == v {
			return i
		}
	}
	return 0
}

func zeroAddr(is4 bool) netip.Addr {
	if is4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
