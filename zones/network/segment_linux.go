package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/mobulacloud/mobula/zones"
)

// PutTag makes a tag known, or changes it. Its segments are made when a NIC, a gateway or a peer first needs them; those
// that exist take the new MTU. What must exist already (an uplink, a bridge) is looked for now: zones.ErrNotExist.
//
// A tag is remembered by this process only; the caller puts its tags again after a restart, before it attaches.
func (n *Network) PutTag(ctx context.Context, t Tag) error {
	if err := t.check(); err != nil {
		return err
	}
	for _, name := range []string{t.Uplink, t.Bridge} {
		if name == "" {
			continue
		}
		l, err := n.h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("nic tag %s: interface %s: %w", t.Name, name, notExist(err))
		}
		if name == t.Bridge && l.Type() != "bridge" {
			return fmt.Errorf("%w: nic tag %s: %s is no bridge", zones.ErrInvalid, t.Name, name)
		}
	}
	n.mu.Lock()
	n.tags[t.Name] = t
	n.mu.Unlock()
	links, err := n.ours()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.tag == t.Name && l.kind == "bridge" && l.link.Attrs().MTU != t.MTU {
			if _, err := n.segment(t.Name, l.vlan); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// Tags answers the tags that were put, by name.
func (n *Network) Tags() []Tag {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Tag
	for _, t := range n.tags {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Tag) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// DeleteTag forgets a tag and removes its segments. While a zone has a NIC on one it is zones.ErrBusy. A tag that never
// was: nil.
func (n *Network) DeleteTag(ctx context.Context, name string) error {
	if err := n.ensureTables(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	links, err := n.ours()
	if err != nil {
		return err
	}
	bridges := map[int]bool{}
	for _, l := range links {
		if l.tag == name && l.kind == "bridge" {
			bridges[l.link.Attrs().Index] = true
		}
	}
	for _, l := range links {
		if l.kind == "zone" && bridges[l.link.Attrs().MasterIndex] {
			return fmt.Errorf("nic tag %s: %w: zone %s is on it", name, zones.ErrBusy, l.zone)
		}
	}
	for _, l := range links {
		if l.tag == name {
			if err := n.deleteLink(l.link); err != nil {
				return err
			}
			if l.kind == "bridge" {
				if err := n.gatewayRules(l.link, nil, false); err != nil {
					return err
				}
				if err := n.forbidHost(l.link, false); err != nil {
					return err
				}
			}
		}
	}
	delete(n.tags, name)
	return ctx.Err()
}

func notExist(err error) error {
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok || errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("%w: %w", zones.ErrNotExist, err)
	}
	return err
}

// segment makes sure that the bridge of a tag and VLAN is there and up, with what leads off the host, and answers it.
func (n *Network) segment(tag string, vlan int) (netlink.Link, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, ok := n.tags[tag]
	if !ok {
		return nil, fmt.Errorf("nic tag %s: %w", tag, zones.ErrNotExist)
	}
	if t.Bridge != "" {
		if vlan != 0 {
			return nil, fmt.Errorf("nic tag %s: %w: VLANs on a bridge that is the operator's", tag, zones.ErrNotSupported)
		}
		l, err := n.h.LinkByName(t.Bridge)
		if err != nil {
			return nil, fmt.Errorf("nic tag %s: bridge %s: %w", tag, t.Bridge, notExist(err))
		}
		return l, nil
	}
	name := n.segmentName(bridgePrefix, tag, vlan)
	if l, err := n.h.LinkByName(name); err == nil && l.Attrs().MTU == t.MTU && l.Attrs().Flags&net.FlagUp != 0 &&
		n.isSegment(l, tag, vlan) {
		// The alias is written last, so a bridge that has it is whole.
		if t.Uplink == "" || vlan != 0 || n.uplinked(t.Uplink, l.Attrs().Index) {
			return l, nil
		}
	}
	return n.makeSegment(&t, vlan, name)
}

// isSegment reports whether a bridge says of itself to be the segment's.
func (n *Network) isSegment(l netlink.Link, tag string, vlan int) bool {
	o, ok := n.parseAlias(l.Attrs().Alias)
	return ok && o.kind == "bridge" && o.tag == tag && o.vlan == vlan
}

func (n *Network) uplinked(uplink string, bridge int) bool {
	l, err := n.h.LinkByName(uplink)
	return err == nil && l.Attrs().MasterIndex == bridge
}

func (n *Network) makeSegment(t *Tag, vlan int, name string) (netlink.Link, error) {
	fail := func(what string, err error) (netlink.Link, error) {
		return nil, fmt.Errorf("nic tag %s, vlan %d: %s: %w", t.Name, vlan, what, err)
	}
	if err := n.ensureTables(); err != nil {
		return nil, err
	}
	var vni uint32
	if t.VXLAN != nil {
		var ok bool
		if vni, ok = t.VXLAN.vni(vlan); !ok {
			return fail("find its network number", zones.ErrNotSupported)
		}
	}
	if t.Uplink != "" && vlan != 0 && !n.vlan() {
		return fail("the kernel has no 802.1Q interfaces", zones.ErrNotSupported)
	}
	bridge, err := n.ensureLink(&netlink.Bridge{
		LinkAttrs: netlink.LinkAttrs{Name: name, MTU: t.MTU, HardwareAddr: newMAC()},
		// Snooping without a querier cuts off IPv6's neighbour discovery after a while.
		MulticastSnooping: new(false),
	})
	if err != nil {
		return fail("make bridge", err)
	}
	if bridge.Attrs().MTU != t.MTU {
		if err := n.h.LinkSetMTU(bridge, t.MTU); err != nil {
			return fail("set mtu", err)
		}
	}
	// The host takes no part in a segment but through a gateway.
	if !n.hasAddress(bridge) {
		// With an uplink the host may have its own addresses on the bridge.
		if err := n.forbidHost(bridge, t.Uplink == ""); err != nil {
			return fail("keep the host off it", err)
		}
		if err := n.inHost(func() error { return sysctl("ipv6/conf/"+name+"/disable_ipv6", "1") }); err != nil {
			return fail("keep the host off it", err)
		}
	}
	if err := n.h.LinkSetUp(bridge); err != nil {
		return fail("bring up", err)
	}
	var port netlink.Link
	switch {
	case vni != 0:
		port, err = n.ensureLink(&netlink.Vxlan{
			LinkAttrs: netlink.LinkAttrs{Name: n.segmentName(vxlanPrefix, t.Name, vlan), MTU: t.MTU},
			VxlanId:   int(vni), SrcAddr: t.VXLAN.Local.AsSlice(), Port: cmp.Or(t.VXLAN.Port, 4789), Learning: true, UDPCSum: true,
		})
		if err == nil {
			err = n.h.LinkSetAlias(port, n.segmentAlias("vxlan", t.Name, vlan))
		}
	case t.Uplink != "":
		port, err = n.h.LinkByName(t.Uplink)
		if err == nil && vlan != 0 {
			// A VLAN cannot be up on an interface that is down.
			if err := n.h.LinkSetUp(port); err != nil {
				return fail("bring up "+t.Uplink, err)
			}
			port, err = n.ensureLink(&netlink.Vlan{
				LinkAttrs: netlink.LinkAttrs{Name: n.segmentName(vlanPrefix, t.Name, vlan), ParentIndex: port.Attrs().Index, MTU: t.MTU},
				VlanId:    vlan, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q,
			})
			if err == nil {
				err = n.h.LinkSetAlias(port, n.segmentAlias("vlan", t.Name, vlan))
			}
		}
	}
	if err != nil {
		return fail("make the way off the host", err)
	}
	if port != nil {
		if m := port.Attrs().MasterIndex; m != 0 && m != bridge.Attrs().Index {
			return fail(port.Attrs().Name+" is a port of another bridge", zones.ErrBusy)
		}
		if err := errors.Join(n.h.LinkSetMaster(port, bridge), n.h.LinkSetUp(port)); err != nil {
			return fail("join "+port.Attrs().Name, err)
		}
	}
	if !n.isSegment(bridge, t.Name, vlan) {
		if err := n.h.LinkSetAlias(bridge, n.segmentAlias("bridge", t.Name, vlan)); err != nil {
			return fail("name bridge", err)
		}
	}
	return n.h.LinkByName(name)
}

// newMAC is a bridge's address: a bridge without one of its own takes its ports', and changes under the zones' eyes. It is
// drawn, as the bridges of one fabric on many hosts must differ.
func newMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = mac[0]&^1 | 2
	return mac
}

// ensureLink makes a link unless one of the name is there, and answers what is there.
func (n *Network) ensureLink(l netlink.Link) (netlink.Link, error) {
	if err := n.h.LinkAdd(l); err != nil && !errors.Is(err, syscall.EEXIST) {
		return nil, err
	}
	got, err := n.h.LinkByName(l.Attrs().Name)
	if err != nil {
		return nil, err
	}
	if got.Type() != l.Type() {
		return nil, fmt.Errorf("%w: interface %s is a %s", zones.ErrExist, l.Attrs().Name, got.Type())
	}
	return got, nil
}

func (n *Network) deleteLink(l netlink.Link) error {
	err := n.h.LinkDel(l)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// ourLink is an interface with our alias.
type ourLink struct {
	owner
	link netlink.Link
}

// linkList lists interfaces. A list that changed while it was read is not whole, and is read again; on a busy host that is often.
func linkList(h *netlink.Handle) ([]netlink.Link, error) {
	for tries := 0; ; tries++ {
		links, err := h.LinkList()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || tries == 50 {
			return links, err
		}
	}
}

// ours lists the instance's interfaces.
func (n *Network) ours() ([]ourLink, error) {
	links, err := linkList(n.h)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var out []ourLink
	for _, l := range links {
		if o, ok := n.parseAlias(l.Attrs().Alias); ok {
			out = append(out, ourLink{o, l})
		}
	}
	return out, nil
}

// inHost calls f on a thread in the host's namespace.
func (n *Network) inHost(f func() error) error {
	if n.own {
		return f()
	}
	return inNS(n.host, f)
}

func (n *Network) hasAddress(l netlink.Link) bool {
	addrs, err := n.h.AddrList(l, netlink.FAMILY_ALL)
	return err == nil && len(addrs) > 0
}

// SetPeers says where the other members of a fabric's segment are, all of them: who is left out is forgotten. Frames for
// everybody go to each peer's host, frames for a known MAC to its host alone. Setting the same peers again does nothing.
func (n *Network) SetPeers(ctx context.Context, tag string, vlan int, peers []Peer) error {
	n.mu.Lock()
	t, ok := n.tags[tag]
	n.mu.Unlock()
	switch {
	case !ok:
		return fmt.Errorf("nic tag %s: %w", tag, zones.ErrNotExist)
	case t.VXLAN == nil:
		return fmt.Errorf("nic tag %s: %w: it has no peers, being no fabric", tag, zones.ErrNotSupported)
	}
	if _, err := n.segment(tag, vlan); err != nil {
		return err
	}
	dev, err := n.h.LinkByName(n.segmentName(vxlanPrefix, tag, vlan))
	if err != nil {
		return fmt.Errorf("nic tag %s: %w", tag, notExist(err))
	}
	type entry struct{ mac, vtep string }
	flood := net.HardwareAddr(make([]byte, 6)).String()
	want := map[entry]bool{}
	for _, p := range peers {
		if !hostAddr(p.VTEP) || p.VTEP.Is4() != t.VXLAN.Local.Is4() {
			return fmt.Errorf("%w: peer %q of nic tag %s", zones.ErrInvalid, p.VTEP, tag)
		}
		want[entry{flood, p.VTEP.String()}] = true
		if len(p.MAC) == 6 {
			want[entry{p.MAC.String(), p.VTEP.String()}] = true
		} else if len(p.MAC) != 0 {
			return fmt.Errorf("%w: peer MAC %q of nic tag %s", zones.ErrInvalid, p.MAC, tag)
		}
	}
	have, err := n.h.NeighList(dev.Attrs().Index, syscall.AF_BRIDGE)
	if err != nil {
		return fmt.Errorf("nic tag %s: list peers: %w", tag, err)
	}
	for _, e := range have {
		if e.IP == nil || e.State&netlink.NUD_PERMANENT == 0 {
			continue // learned, or the bridge's own
		}
		key := entry{e.HardwareAddr.String(), e.IP.String()}
		if want[key] {
			delete(want, key)
			continue
		}
		if err := n.h.NeighDel(&e); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("nic tag %s: forget peer %s: %w", tag, e.IP, err)
		}
	}
	for e := range want {
		mac, _ := net.ParseMAC(e.mac)
		neigh := &netlink.Neigh{
			LinkIndex: dev.Attrs().Index, Family: syscall.AF_BRIDGE, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP,
			Flags: netlink.NTF_SELF, IP: netip.MustParseAddr(e.vtep).AsSlice(), HardwareAddr: mac,
		}
		add := n.h.NeighSet
		if e.mac == flood {
			add = n.h.NeighAppend
		}
		if err := add(neigh); err != nil && !errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("nic tag %s: add peer %s: %w", tag, e.vtep, err)
		}
	}
	return ctx.Err()
}
