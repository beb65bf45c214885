//go:build linux

package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// join puts a cable with an address at each end between two hosts.
func join(t *testing.T, a, b *Network, addrA, addrB string) {
	t.Helper()
	if err := a.h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "under0"}, PeerName: "under0", PeerNamespace: netlink.NsFd(b.host.Fd())}); err != nil {
		t.Fatal(err)
	}
	for n, addr := range map[*Network]string{a: addrA, b: addrB} {
		l, err := n.h.LinkByName("under0")
		if err != nil {
			t.Fatal(err)
		}
		ip, err := netlink.ParseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(n.h.AddrAdd(l, ip), n.h.LinkSetUp(l)); err != nil {
			t.Fatal(err)
		}
	}
	awaitCarrier(a.h, "under0")
	awaitCarrier(b.h, "under0")
}

// Two hosts, two fabrics with the same addresses on them.
func TestFabric(t *testing.T) {
	a, b := newHost(t), newHost(t)
	join(t, a, b, "172.16.0.1/24", "172.16.0.2/24")
	fabric := func(local string) Tag {
		return Tag{Name: "test", VXLAN: &VXLAN{VNI: 1000, VLANs: map[int]uint32{2: 1002}, Local: netip.MustParseAddr(local)}}
	}
	putTag(t, a, fabric("172.16.0.1"))
	putTag(t, b, fabric("172.16.0.2"))
	onTwo := func(nic zones.NIC) zones.NIC { nic.VLANID = 2; return nic }
	attach(t, a, Request{Zone: zoneA, NICs: []zones.NIC{nicOf(macA, "10.1.0.10/24")}})
	attach(t, b, Request{Zone: zoneB, NICs: []zones.NIC{nicOf(macB, "10.1.0.11/24")}})
	attach(t, b, Request{Zone: zoneC, NICs: []zones.NIC{onTwo(nicOf(macC, "10.1.0.11/24"))}})
	peer := func(n *Network, vlan int, vtep, mac string) {
		t.Helper()
		p := Peer{VTEP: netip.MustParseAddr(vtep)}
		if mac != "" {
			p.MAC = mustMAC(mac)
		}
		for range 2 {
			if err := n.SetPeers(t.Context(), "test", vlan, []Peer{p}); err != nil {
				t.Fatal(err)
			}
		}
	}
	crosses := func(to string, tries int) bool {
		t.Helper()
		return reachAcross(t, a, zoneA, b, to, netip.MustParseAddr("10.1.0.11"), tries)
	}
	if crosses(zoneB, mustNot) {
		t.Error("hosts that know nothing of each other are connected")
	}
	peer(a, 0, "172.16.0.2", macB)
	peer(b, 0, "172.16.0.1", "")
	if !crosses(zoneB, must) {
		t.Error("the fabric does not carry between hosts")
	}
	if crosses(zoneC, mustNot) {
		t.Error("a fabric leaks into another with the same addresses")
	}
	// Zone A moves to the second VLAN, where zone C has the address.
	attach(t, a, Request{Zone: zoneA, NICs: []zones.NIC{onTwo(nicOf(macA, "10.1.0.10/24"))}})
	peer(a, 2, "172.16.0.2", "")
	peer(b, 2, "172.16.0.1", "")
	in(t, a, zoneA, func() error { // what it learned of neighbours on the other VLAN
		list, err := netlink.NeighList(0, netlink.FAMILY_V4)
		for _, e := range list {
			err = errors.Join(err, netlink.NeighDel(&e))
		}
		return err
	})
	if !crosses(zoneC, must) || crosses(zoneB, mustNot) {
		t.Error("the second VLAN is not where zone A is")
	}
	if mtu := mtuOf(t, a, zoneA); mtu != 1400 {
		t.Errorf("mtu on a fabric is %d", mtu)
	}
	if err := a.SetPeers(t.Context(), "test", 2, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.SetPeers(t.Context(), "test", 2, nil); err != nil {
		t.Fatal(err)
	}
	list, err := a.h.NeighList(0, 7) // AF_BRIDGE
	if err != nil {
		t.Fatal(err)
	}
	vx, err := a.h.LinkByName(a.segmentName(vxlanPrefix, "test", 2))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.LinkIndex == vx.Attrs().Index && e.IP != nil && e.State&netlink.NUD_PERMANENT != 0 {
			t.Errorf("a forgotten peer is still known: %v", e)
		}
	}
	odd := nicOf(macA, "10.1.0.10/24")
	odd.VLANID = 9
	if _, err := a.Attach(t.Context(), Request{Zone: zoneC, NICs: []zones.NIC{odd}}); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("a VLAN without a network number: %v", err)
	}
}

func mtuOf(t *testing.T, n *Network, zone string) (mtu int) {
	in(t, n, zone, func() error {
		l, err := net.InterfaceByName("net0")
		if err == nil {
			mtu = l.MTU
		}
		return err
	})
	return mtu
}

// reachAcross is reach between zones of two hosts.
func reachAcross(t *testing.T, a *Network, from string, b *Network, to string, addr netip.Addr, tries int) bool {
	t.Helper()
	return reachFrom(t, b, to, addr, tries, func(f func() error) { in(t, a, from, f) })
}

// A zone behind NAT gets out under the host's address; nobody gets in, neither from outside nor from another network, and
// nobody gets at the host.
func TestGateway(t *testing.T) {
	n := newHost(t)
	_, worldNS := newNS(t)
	if err := n.h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(worldNS.Fd())}); err != nil {
		t.Fatal(err)
	}
	address(t, n.host, "eth0", "192.0.2.2/24", "")
	// The world knows a way to the zones' addresses, so that only rules keep it out.
	address(t, worldNS, "eth0", "192.0.2.1/24", "192.0.2.2")
	awaitCarrier(n.h, "eth0")

	putTag(t, n, Tag{Name: "test"})
	for vlan, addr := range map[int]string{0: "10.1.0.1/24", 2: "10.2.0.1/24"} {
		for range 2 {
			if err := n.PutGateway(t.Context(), Gateway{Tag: "test", VLAN: vlan, Addresses: []netip.Prefix{netip.MustParsePrefix(addr)}, NAT: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	nicA, nicB := nicOf(macA, "10.1.0.10/24"), nicOf(macB, "10.2.0.10/24")
	nicA.Gateway, nicB.Gateway, nicB.VLANID = "10.1.0.1", "10.2.0.1", 2
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicA}})
	attach(t, n, Request{Zone: zoneB, NICs: []zones.NIC{nicB}})

	if from := askWorld(t, n, zoneA, worldNS, "192.0.2.1", must); from != "192.0.2.2" {
		t.Errorf("the world sees zone A as %q, want the host's 192.0.2.2", from)
	}
	if reachFrom(t, n, zoneA, netip.MustParseAddr("10.1.0.10"), mustNot, func(f func() error) {
		if err := inNS(worldNS, f); err != nil {
			t.Fatal(err)
		}
	}) {
		t.Error("the world gets at a zone behind NAT")
	}
	if reach(t, n, zoneB, zoneA, netip.MustParseAddr("10.1.0.10"), mustNot) {
		t.Error("one network behind NAT gets at another")
	}
	// The host's services, at the gateway's address and at its own.
	for _, addr := range []string{"10.1.0.1", "192.0.2.2"} {
		var server net.PacketConn
		if err := inNS(n.host, func() (err error) { server, err = net.ListenPacket("udp", addr+":0"); return err }); err != nil {
			t.Fatal(err)
		}
		in(t, n, zoneA, func() error {
			c, err := net.Dial("udp", server.LocalAddr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("let me in"))
			return err
		})
		server.SetReadDeadline(time.Now().Add(120 * time.Millisecond))
		if k, _, err := server.ReadFrom(make([]byte, 16)); err == nil {
			t.Errorf("a zone gets %d bytes to the host at %s", k, addr)
		}
		server.Close()
	}
	overlap := Gateway{Tag: "test", VLAN: 3, Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.129/25")}}
	if err := n.PutGateway(t.Context(), overlap); !errors.Is(err, zones.ErrExist) {
		t.Errorf("overlapping gateways: %v", err)
	}
	// A network that is routed, not hidden, is reached.
	if err := n.PutGateway(t.Context(), Gateway{Tag: "test", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}}); err != nil {
		t.Fatal(err)
	}
	if !reachFrom(t, n, zoneA, netip.MustParseAddr("10.1.0.10"), must, func(f func() error) {
		if err := inNS(worldNS, f); err != nil {
			t.Fatal(err)
		}
	}) {
		t.Error("a routed network is not reached")
	}
	for range 2 {
		if err := n.DeleteGateway(t.Context(), "test", 0); err != nil {
			t.Fatal(err)
		}
	}
	if from := askWorld(t, n, zoneA, worldNS, "192.0.2.1", mustNot); from != "" {
		t.Errorf("without a gateway zone A still gets out, as %q", from)
	}
}

// address sets up one end of a cable, with a default route if asked.
func address(t *testing.T, ns *os.File, iface, addr, gateway string) {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	l, err := h.LinkByName(iface)
	if err != nil {
		t.Fatal(err)
	}
	ip, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.AddrAdd(l, ip), h.LinkSetUp(l)); err != nil {
		t.Fatal(err)
	}
	if gateway != "" {
		// The other end may not be up yet, and a route needs a link that is.
		if err := h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway)}); err != nil {
			t.Fatal(err)
		}
	}
}

// askWorld sends a datagram from a zone to the world and answers under what address it came.
func askWorld(t *testing.T, n *Network, zone string, world *os.File, addr string, tries int) string {
	t.Helper()
	var server net.PacketConn
	if err := inNS(world, func() (err error) { server, err = net.ListenPacket("udp", addr+":0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for range tries {
		in(t, n, zone, func() error {
			c, err := net.Dial("udp", server.LocalAddr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("hello"))
			return err
		})
		server.SetReadDeadline(time.Now().Add(120 * time.Millisecond))
		if _, from, err := server.ReadFrom(make([]byte, 16)); err == nil {
			return from.(*net.UDPAddr).IP.String()
		}
	}
	return ""
}
