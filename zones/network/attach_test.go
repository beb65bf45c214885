//go:build linux

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

func TestAttach(t *testing.T) {
	n := newHost(t)
	putTag(t, n, Tag{Name: "test", MTU: 9000})
	nicA := nicOf(macA, "10.1.0.10/24")
	nicA.IPs = append(nicA.IPs, "fd01::a/64")
	nicA.Gateway = "10.1.0.1"
	nicA.Gateways = []string{"fd01::1"}
	nicB := nicOf(macB, "10.1.0.11/24")
	nicB.IPs = append(nicB.IPs, "fd01::b/64")
	nicB.MTU = 1400
	a := attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicA}, Routes: map[string]string{"192.0.2.0/24": "10.1.0.11", "198.51.100.1": "nics[0]"}})
	attach(t, n, Request{Zone: zoneB, NICs: []zones.NIC{nicB}})
	if a.NetNS == "" || len(a.Interfaces) > 0 {
		t.Errorf("attachment of a container: %+v", a)
	}
	for _, addr := range []string{"10.1.0.11", "fd01::b"} {
		if !reach(t, n, zoneA, zoneB, netip.MustParseAddr(addr), must) {
			t.Errorf("zone B cannot be reached at %s", addr)
		}
	}
	state := func() (out []string) {
		in(t, n, zoneA, func() error {
			links, err := netlink.LinkList()
			if err != nil {
				return err
			}
			for _, l := range links {
				at := l.Attrs()
				out = append(out, at.Name+" "+at.HardwareAddr.String()+" "+strings.Join(strings.Fields(at.Flags.String()), ""))
				addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
				if err != nil {
					return err
				}
				for _, a := range addrs {
					if !a.IP.IsLinkLocalUnicast() {
						out = append(out, a.IPNet.String())
					}
				}
			}
			routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
			for _, r := range routes {
				out = append(out, "route "+r.Dst.String()+" via "+r.Gw.String())
			}
			return err
		})
		return out
	}
	before := state()
	for _, want := range []string{"net0 " + macA, "10.1.0.10/24", "fd01::a/64", "127.0.0.1/8", "route 0.0.0.0/0 via 10.1.0.1", "route ::/0 via fd01::1", "route 192.0.2.0/24 via 10.1.0.11", "route 198.51.100.1/32 via"} {
		if !strings.Contains(strings.Join(before, "\n"), want) {
			t.Errorf("zone A has no %q in\n%s", want, strings.Join(before, "\n"))
		}
	}
	// Again: the same, and the same interface.
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicA}, Routes: map[string]string{"192.0.2.0/24": "10.1.0.11", "198.51.100.1": "nics[0]"}})
	if got := strings.Join(state(), "\n"); got != strings.Join(before, "\n") {
		t.Errorf("attaching again changed\n%s\nto\n%s", strings.Join(before, "\n"), got)
	}
	// Live change: another address, a second NIC, other routes.
	nicA.IPs, nicA.Gateway = []string{"10.1.0.99/24"}, "10.1.0.2"
	second := zones.NIC{MAC: macC, NICTag: "test", VLANID: 7, IPs: []string{"10.2.0.10/24"}}
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicA, second}})
	got := strings.Join(state(), "\n")
	for _, gone := range []string{"10.1.0.10/24", "fd01::a", "192.0.2.0"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is still there:\n%s", gone, got)
		}
	}
	for _, want := range []string{"10.1.0.99/24", "net1 " + macC, "10.2.0.10/24", "route 0.0.0.0/0 via 10.1.0.2"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not there:\n%s", want, got)
		}
	}
	// And away again.
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicA}})
	if got := strings.Join(state(), "\n"); strings.Contains(got, "net1") {
		t.Errorf("the second NIC is still there:\n%s", got)
	}
	if ids, err := n.Zones(t.Context()); err != nil || len(ids) != 2 {
		t.Errorf("Zones() = %v, %v", ids, err)
	}
	for range 2 {
		if err := n.Detach(t.Context(), zoneA); err != nil {
			t.Fatal(err)
		}
	}
	if ids, _ := n.Zones(t.Context()); len(ids) != 1 || ids[0] != zoneB {
		t.Errorf("after Detach: Zones() = %v", ids)
	}
}

func TestVLANsAreApart(t *testing.T) {
	n := newHost(t)
	putTag(t, n, Tag{Name: "test"})
	nicA, nicB := nicOf(macA, "10.1.0.10/24"), nicOf(macB, "10.1.0.11/24")
	nicB.VLANID = 5
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicA}})
	attach(t, n, Request{Zone: zoneB, NICs: []zones.NIC{nicB}})
	if reach(t, n, zoneA, zoneB, netip.MustParseAddr("10.1.0.11"), mustNot) {
		t.Error("a zone without a VLAN reaches one on VLAN 5")
	}
	nicA.VLANID = 5
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicA}})
	if !reach(t, n, zoneA, zoneB, netip.MustParseAddr("10.1.0.11"), must) {
		t.Error("two zones on VLAN 5 do not reach each other, after one was moved there")
	}
}

func TestUplinkVLAN(t *testing.T) {
	n := newHost(t)
	_, far := newNS(t)
	if err := n.h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(far.Fd())}); err != nil {
		t.Fatal(err)
	}
	address(t, far, "eth0", "10.1.0.98/24", "")
	putTag(t, n, Tag{Name: "test", Uplink: "eth0"})
	tagged := nicOf(macA, "10.1.0.10/24")
	tagged.VLANID = 5
	_, err := n.Attach(t.Context(), Request{Zone: zoneA, NICs: []zones.NIC{tagged}})
	if n.Capabilities().VLAN {
		if err != nil {
			t.Fatal(err)
		}
		// Beyond the uplink is a trunk, on which the zone is reached on its VLAN and nowhere else.
		h, err := netlink.NewHandleAt(netns.NsHandle(far.Fd()), unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		parent, err := h.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		fromFar := func(f func() error) {
			if err := inNS(far, f); err != nil {
				t.Fatal(err)
			}
		}
		if reachFrom(t, n, zoneA, netip.MustParseAddr("10.1.0.10"), mustNot, fromFar) {
			t.Error("a zone on VLAN 5 is reached without a tag")
		}
		addrs, err := h.AddrList(parent, netlink.FAMILY_V4)
		if err != nil || len(addrs) != 1 {
			t.Fatal(addrs, err)
		}
		if err := errors.Join(h.AddrDel(parent, &addrs[0]), h.LinkAdd(&netlink.Vlan{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0.5", ParentIndex: parent.Attrs().Index}, VlanId: 5, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q,
		})); err != nil {
			t.Fatal(err)
		}
		address(t, far, "eth0.5", "10.1.0.98/24", "")
		if !reachFrom(t, n, zoneA, netip.MustParseAddr("10.1.0.10"), must, fromFar) {
			t.Error("a zone on VLAN 5 is not reached with the tag")
		}
	} else if !errors.Is(err, zones.ErrNotSupported) || len(n.Capabilities().Missing) == 0 {
		t.Errorf("without 802.1Q: %v, missing %q", err, n.Capabilities().Missing)
	}
	attach(t, n, Request{Zone: zoneB, NICs: []zones.NIC{nicOf(macB, "10.1.0.11/24")}})
	up, err := n.h.LinkByName("eth0")
	if err != nil || up.Attrs().MasterIndex == 0 {
		t.Errorf("the uplink is no port: %v", err)
	}
	// The uplink is the host's and outlives the tag.
	if err := n.DeleteTag(t.Context(), "test"); !errors.Is(err, zones.ErrBusy) {
		t.Errorf("DeleteTag under a zone = %v", err)
	}
	if err := errors.Join(n.Detach(t.Context(), zoneA), n.Detach(t.Context(), zoneB), n.DeleteTag(t.Context(), "test")); err != nil {
		t.Fatal(err)
	}
	if up, err = n.h.LinkByName("eth0"); err != nil || up.Attrs().MasterIndex != 0 {
		t.Errorf("after DeleteTag the uplink: %v", err)
	}
}

func TestAttachRefuses(t *testing.T) {
	n := newHost(t)
	putTag(t, n, Tag{Name: "test"})
	good := nicOf(macA, "10.1.0.10/24")
	change := func(f func(*zones.NIC)) []zones.NIC {
		c := good
		f(&c)
		return []zones.NIC{c}
	}
	for name, tt := range map[string]struct {
		nics []zones.NIC
		want error
		text []string
	}{
		"mac":      {change(func(n *zones.NIC) { n.MAC = "01:00:5e:00:00:01" }), zones.ErrInvalid, []string{"nics[0].mac"}},
		"no tag":   {change(func(n *zones.NIC) { n.NICTag = "nowhere" }), zones.ErrNotExist, []string{"nowhere"}},
		"mtu":      {change(func(n *zones.NIC) { n.MTU = 9000 }), zones.ErrInvalid, []string{"mtu"}},
		"two":      {[]zones.NIC{good, good}, zones.ErrInvalid, []string{"nics[1].mac", "nics[1].interface"}},
		"many":     {change(func(n *zones.NIC) { n.IPs, n.VLANID, n.Gateway = []string{"x"}, 5000, "y" }), zones.ErrInvalid, []string{"ips", "vlan_id", "gateway"}},
		"loopback": {change(func(n *zones.NIC) { n.Interface = "lo" }), zones.ErrInvalid, []string{"interface"}},
		"path":     {change(func(n *zones.NIC) { n.Interface = "../x" }), zones.ErrInvalid, []string{"interface"}},
		"cids":     {change(func(n *zones.NIC) { n.AllowedDHCPCIDs = []string{"a"} }), zones.ErrNotSupported, []string{"allowed_dhcp_cids"}},
		"router":   {change(func(n *zones.NIC) { n.VRRPVRID = 5 }), zones.ErrNotSupported, []string{"vrrp_vrid"}},
	} {
		_, err := n.Attach(t.Context(), Request{Zone: zoneA, NICs: tt.nics})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
			continue
		}
		for _, part := range tt.text {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q says nothing of %s", name, err, part)
			}
		}
	}
	vm := Request{Zone: zoneA, VM: true, TapOwner: 1000, NICs: change(func(n *zones.NIC) { n.VRRPVRID, n.VRRPPrimaryIP = 5, "10.1.0.256" })}
	if _, err := n.Attach(t.Context(), vm); !errors.Is(err, zones.ErrInvalid) || !strings.Contains(err.Error(), "00:00:5e:00:01:05") ||
		!strings.Contains(err.Error(), "vrrp_primary_ip") {
		t.Errorf("a router with a MAC of its own: %v", err)
	}
	if _, err := n.Attach(t.Context(), Request{Zone: "../../etc", NICs: []zones.NIC{good}}); !errors.Is(err, zones.ErrInvalid) {
		t.Errorf("a path as zone: %v", err)
	}
	if _, err := n.Attach(t.Context(), Request{Zone: zoneA, NICs: []zones.NIC{good}, Routes: map[string]string{"0.0.0.0/0": "nics[9]", "x": "10.1.0.1"}}); !errors.Is(err, zones.ErrInvalid) {
		t.Errorf("wrong routes: %v", err)
	}
	if ids, err := n.Zones(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("refused zones left %v, %v", ids, err)
	}
}

func TestTap(t *testing.T) {
	n := newHost(t)
	putTag(t, n, Tag{Name: "test"})
	if _, err := n.Attach(t.Context(), Request{Zone: zoneA, NICs: []zones.NIC{nicOf(macA, "10.1.0.10/24")}, VM: true}); !errors.Is(err, zones.ErrInvalid) {
		t.Errorf("a tap for root: %v", err)
	}
	req := Request{Zone: zoneA, NICs: []zones.NIC{nicOf(macA, "10.1.0.10/24")}, VM: true, TapOwner: 100000}
	for range 2 {
		a := attach(t, n, req)
		if len(a.Interfaces) != 1 || a.NetNS != "" || a.Interfaces[0].MAC != macA || a.Interfaces[0].MTU != 1500 {
			t.Fatalf("attachment of a VM: %+v", a)
		}
		l, err := n.h.LinkByName(a.Interfaces[0].Host)
		if err != nil {
			t.Fatal(err)
		}
		tap, ok := l.(*netlink.Tuntap)
		if !ok || tap.Owner != 100000 || l.Attrs().MasterIndex == 0 || l.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("tap: %+v", l)
		}
	}
	if err := n.Detach(t.Context(), zoneA); err != nil {
		t.Fatal(err)
	}
	if ids, _ := n.Zones(t.Context()); len(ids) != 0 {
		t.Errorf("after Detach: %v", ids)
	}
}

// What any crash can leave is some of what Attach makes; each piece alone must be found by the next process.
func TestSweepFindsPieces(t *testing.T) {
	path, _ := newNS(t)
	dir := t.TempDir()
	n := openHost(t, path, dir)
	putTag(t, n, Tag{Name: "test"})
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicOf(macA, "10.1.0.10/24")}})
	attach(t, n, Request{Zone: zoneB, NICs: []zones.NIC{nicOf(macB, "10.1.0.11/24")}})
	clean := func() {
		t.Helper()
		again := openHost(t, path, dir)
		if err := again.Sweep(t.Context(), func(zone string) bool { return zone == zoneA }); err != nil {
			t.Fatal(err)
		}
		ids, err := again.Zones(t.Context())
		if err != nil || len(ids) != 1 || ids[0] != zoneA {
			t.Errorf("after Sweep: %v, %v", ids, err)
		}
		links, err := n.h.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, nicPrefix) && l.Attrs().Name != n.nicName(zoneA, mustMAC(macA)) {
				t.Errorf("left behind: %s", l.Attrs().Name)
			}
		}
	}
	clean()
	// Only a namespace, bound or not.
	ns, err := n.makeNS(zoneB)
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
	clean()
	if err := os.WriteFile(n.nsPath(zoneC), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	clean()
	// Only an interface, with and without its alias.
	name := n.nicName(zoneB, mustMAC(macB))
	for _, alias := range []string{n.nicAlias(zoneB, mustMAC(macB), "net0"), ""} {
		if err := n.h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "x"}); err != nil {
			t.Fatal(err)
		}
		if alias != "" {
			l, _ := n.h.LinkByName(name)
			if err := n.h.LinkSetAlias(l, alias); err != nil {
				t.Fatal(err)
			}
		}
		clean()
	}
	// Only rules: the interface went with its namespace.
	attach(t, n, Request{Zone: zoneB, NICs: []zones.NIC{nicOf(macB, "10.1.0.11/24")}})
	l, err := n.h.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.h.LinkDel(l), n.dropNS(zoneB)); err != nil {
		t.Fatal(err)
	}
	clean()
	// What was kept still works.
	attach(t, n, Request{Zone: zoneB, NICs: []zones.NIC{nicOf(macB, "10.1.0.11/24")}})
	if !reach(t, n, zoneA, zoneB, netip.MustParseAddr("10.1.0.11"), must) {
		t.Error("zone A lost its network")
	}
}

func TestDestroyLeavesNothing(t *testing.T) {
	path, ns := newNS(t)
	n := openHost(t, path, t.TempDir())
	putTag(t, n, Tag{Name: "test"})
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nicOf(macA, "10.1.0.10/24")}})
	if err := n.PutGateway(t.Context(), Gateway{Tag: "test", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}, NAT: true}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Destroy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	err := inNS(ns, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		if len(links) != 1 {
			t.Errorf("%d interfaces left", len(links)-1)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.newBatch(0)
	if err != nil {
		t.Fatal(err)
	}
	if tables, err := b.c.ListTables(); err != nil || len(tables) > 0 {
		t.Errorf("tables left: %v, %v", tables, err)
	}
}

func BenchmarkAttach(b *testing.B) {
	n := newHost(b)
	putTag(b, n, Tag{Name: "test"})
	i, before := 0, cpuTime(b)
	for b.Loop() {
		i++
		nic := nicOf(fmt.Sprintf("90:b8:d0:00:%02x:%02x", i>>8, i&255), fmt.Sprintf("10.1.%d.%d/16", i>>8, i&255))
		nic.Gateway = "10.1.255.254"
		attach(b, n, Request{Zone: fmt.Sprintf("%08x-1111-4111-8111-111111111111", i), NICs: []zones.NIC{nic}})
	}
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/1000/float64(i), "cpu-ms/op")
}

// cpuTime is the processor time this process has had, the kernel's work for it included: on a busy machine the steadier figure.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
