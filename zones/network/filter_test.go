//go:build linux

package network

import (
	"bytes"
	"net"
	"testing"

	"github.com/mobulacloud/mobula/zones"
)

// passes sends frames from one wire and reports which arrive on another. The marker is sent behind them, from a wire and
// with a frame that may pass.
func passes(t *testing.T, from, to *wire, frames [][]byte, marker []byte) []bool {
	t.Helper()
	for _, f := range frames {
		from.send(t, f)
	}
	from.send(t, marker)
	got := make([]bool, len(frames))
	to.until(t, "marker", func(frame []byte) {
		for i, f := range frames {
			if bytes.Equal(f[12:14], []byte{0x81, 0}) {
				f = append(bytes.Clone(f[:12]), f[16:]...) // a packet socket shows a tag beside the frame, not in it
			}
			if len(frame) >= len(f) && bytes.Equal(frame[:len(f)], f) {
				got[i] = true
			}
		}
	})
	return got
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

type spoof struct {
	name  string
	frame []byte
	drop  string               // the counter it falls to; empty if it may always pass
	allow func(nic *zones.NIC) // what lets it pass
}

// spoofs is what a zone with macA, 10.1.0.10 and fd01::a tries.
func spoofs() []spoof {
	a, b := mustMAC(macA), mustMAC(macB)
	allowMAC := func(n *zones.NIC) { n.AllowMACSpoofing = true }
	allowIP := func(n *zones.NIC) { n.AllowIPSpoofing = true }
	allowDHCP := func(n *zones.NIC) { n.AllowDHCPSpoofing = true }
	allowOther := func(n *zones.NIC) { n.AllowRestrictedTraffic = true }
	v4 := func(mac net.HardwareAddr, src string, body []byte, proto byte) []byte {
		return ether(broadcast, mac, 0x0800, ipv4(src, "10.1.0.255", proto, body))
	}
	v6 := func(src string, body []byte, proto byte) []byte {
		return ether(broadcast, a, 0x86dd, ipv6(src, "ff02::1", proto, body))
	}
	advert := func(target string, mac net.HardwareAddr) []byte {
		body := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, ipv6(target, target, 0, nil)[8:24]...)
		return append(append(body, 2, 1), mac...)
	}
	solicit := func(mac net.HardwareAddr) []byte {
		body := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, ipv6("fd01::b", "::", 0, nil)[8:24]...)
		return append(append(body, 1, 1), mac...)
	}
	tagged := append([]byte{0, 5, 0x08, 0x00}, ipv4("10.1.0.99", "10.1.0.255", 17, udp(9, 9, "tagged"))...)
	return []spoof{
		{"own address", v4(a, "10.1.0.10", udp(1, 1, "own"), 17), "", nil},
		{"own IPv6 address", v6("fd01::a", udp(1, 1, "own6"), 17), "", nil},
		{"own link-local address", v6("fe80::92b8:d0ff:fe00:a", udp(1, 1, "ll"), 17), "", nil},
		{"own ARP", ether(broadcast, a, 0x0806, arp(1, a, "10.1.0.10", "10.1.0.11")), "", nil},
		{"ARP probe", ether(broadcast, a, 0x0806, arp(1, a, "0.0.0.0", "10.1.0.10")), "", nil},
		{"own advertisement", v6("fd01::a", advert("fd01::a", a), 58), "", nil},
		{"own solicitation", v6("fd01::a", solicit(a), 58), "", nil},
		{"detection of duplicates", v6("::", solicit(a)[:24], 58), "", nil},
		{"allowed address", v4(a, "10.7.0.9", udp(1, 1, "allowed"), 17), "", nil},

		{"foreign MAC", v4(b, "10.1.0.10", udp(2, 2, "mac"), 17), dropMAC, allowMAC},
		{"foreign MAC in ARP", ether(broadcast, a, 0x0806, arp(2, b, "10.1.0.10", "10.1.0.11")), dropARP, allowMAC},
		{"foreign MAC in advertisement", v6("fd01::a", advert("fd01::a", b), 58), dropND, allowMAC},
		{"foreign MAC in solicitation", v6("fd01::a", solicit(b), 58), dropND, allowMAC},

		{"foreign IPv4 address", v4(a, "10.1.0.11", udp(3, 3, "ip"), 17), dropIP, allowIP},
		{"no IPv4 address", v4(a, "0.0.0.0", udp(68, 67, "dhcp"), 17), dropIP, allowIP},
		{"foreign IPv6 address", v6("fd01::b", udp(3, 3, "ip6"), 17), dropIP, allowIP},
		{"foreign link-local address", v6("fe80::1", udp(3, 3, "ll2"), 17), dropIP, allowIP},
		{"no IPv6 address", v6("::", udp(3, 3, "none"), 17), dropIP, allowIP},
		{"foreign address in ARP", ether(broadcast, a, 0x0806, arp(2, a, "10.1.0.11", "10.1.0.12")), dropARP, allowIP},
		{"gateway's address in ARP", ether(broadcast, a, 0x0806, arp(1, a, "10.1.0.1", "10.1.0.1")), dropARP, allowIP},
		{"foreign address in advertisement", v6("fd01::a", advert("fd01::1", a), 58), dropND, allowIP},
		{"redirect", v4(a, "10.1.0.10", []byte{5, 1, 0, 0, 10, 1, 0, 10}, 1), dropIP, allowIP},
		{"IPv6 redirect", v6("fe80::92b8:d0ff:fe00:a", []byte{137, 0, 0, 0, 0, 0, 0, 0}, 58), dropND, allowIP},

		{"DHCP server", v4(a, "10.1.0.10", udp(67, 68, "offer"), 17), dropDHCP, allowDHCP},
		{"DHCPv6 server", v6("fd01::a", udp(547, 546, "offer6"), 17), dropDHCP, allowDHCP},
		{"router advertisement", v6("fe80::92b8:d0ff:fe00:a", []byte{134, 0, 0, 0, 64, 0, 7, 8}, 58), dropDHCP, allowDHCP},

		{"other ethertype", ether(broadcast, a, 0x88cc, []byte("lldp")), dropRestricted, allowOther},
		{"spanning tree", ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0}, a, 38, []byte{0x42, 0x42, 3}), dropRestricted, nil},
		{"VLAN tag", ether(broadcast, a, 0x8100, tagged), dropRestricted, allowOther},
		{"blocked port", v4(a, "10.1.0.10", tcp(1024, 25, 2), 6), dropPort, nil},
		{"blocked port over IPv6", v6("fd01::a", udp(1024, 25, "smtp"), 17), dropPort, nil},
	}
}

func spoofNIC() zones.NIC {
	nic := nicOf(macA, "10.1.0.10/24")
	nic.IPs = append(nic.IPs, "fd01::a/64")
	nic.AllowedIPs = []string{"10.7.0.0/24"}
	nic.BlockedOutgoingPorts = []int{25}
	return nic
}

func TestSpoofing(t *testing.T) {
	n := newHost(t)
	putTag(t, n, Tag{Name: "test"})
	nic := spoofNIC()
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nic}})
	world := outside(t, n, "test")
	zone := zoneWire(t, n, zoneA)
	marker := ether(broadcast, mustMAC(macA), 0x0800, ipv4("10.1.0.10", "10.1.0.255", 17, udp(7, 7, "marker")))
	cases := spoofs()
	want := map[string]uint64{}
	var frames [][]byte
	for _, c := range cases {
		frames = append(frames, c.frame)
		if c.drop != "" {
			want[c.drop]++
		}
	}
	for i, ok := range passes(t, zone, world, frames, marker) {
		if ok != (cases[i].drop == "") {
			t.Errorf("%s passes: %v", cases[i].name, ok)
		}
	}
	counters, err := n.Counters(t.Context(), zoneA)
	if err != nil || len(counters) != 1 {
		t.Fatalf("Counters() = %+v, %v", counters, err)
	}
	for label, count := range want {
		if got := counters[0].Dropped[label]; got != count {
			t.Errorf("%s counts %d, want %d", label, got, count)
		}
	}
	if u := counters[0].Usage; u.TxPackets < uint64(len(frames)) || u.Interface != "net0" {
		t.Errorf("usage: %+v", u)
	}
	// Each switch lets its own pass, and nothing else.
	switches := map[string]func(*zones.NIC){
		"mac":   func(n *zones.NIC) { n.AllowMACSpoofing = true },
		"ip":    func(n *zones.NIC) { n.AllowIPSpoofing = true },
		"dhcp":  func(n *zones.NIC) { n.AllowDHCPSpoofing = true },
		"other": func(n *zones.NIC) { n.AllowRestrictedTraffic = true },
	}
	for name, on := range switches {
		nic := spoofNIC()
		on(&nic)
		attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nic}})
		for i, ok := range passes(t, zone, world, frames, marker) {
			c := cases[i]
			may := c.drop == ""
			if c.allow != nil {
				var a, b zones.NIC
				c.allow(&a)
				on(&b)
				may = a.AllowMACSpoofing == b.AllowMACSpoofing && a.AllowIPSpoofing == b.AllowIPSpoofing &&
					a.AllowDHCPSpoofing == b.AllowDHCPSpoofing && a.AllowRestrictedTraffic == b.AllowRestrictedTraffic
			}
			if ok != may && c.name != "spanning tree" { // a bridge keeps those to itself
				t.Errorf("with %s: %s passes: %v, want %v", name, c.name, ok, may)
			}
		}
	}
}

// A virtual router's NIC speaks with the router's MAC, for the router's address and for its machine's own, and for no other.
func TestRouterNIC(t *testing.T) {
	n := newHost(t)
	putTag(t, n, Tag{Name: "test"})
	nic := nicOf("", "10.1.0.1/24")
	nic.VRRPVRID, nic.VRRPPrimaryIP = 7, "10.1.0.10"
	nic.MAC = nic.VRRPMAC()
	nics, err := parseNICs([]zones.NIC{nic})
	if err != nil {
		t.Fatal(err)
	}
	// A guest's NIC is a tap; the rules are the same on a veth, from which a test can send.
	ns, err := n.makeNS(zoneA)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if _, err := n.attach(Request{Zone: zoneA}, nics, nil, ns, nil, true); err != nil {
		t.Fatal(err)
	}
	mac, group := mustMAC(nic.MAC), net.HardwareAddr{1, 0, 0x5e, 0, 0, 18}
	from := func(mac net.HardwareAddr, src string) []byte {
		return ether(group, mac, 0x0800, ipv4(src, "224.0.0.18", 112, make([]byte, 20)))
	}
	cases := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"advertisement", from(mac, "10.1.0.10"), true},
		{"the router's address", from(mac, "10.1.0.1"), true},
		{"taking the address over", ether(broadcast, mac, 0x0806, arp(1, mac, "10.1.0.1", "10.1.0.1")), true},
		{"another address", from(mac, "10.1.0.11"), false},
		{"another router's MAC", from(net.HardwareAddr{0, 0, 0x5e, 0, 1, 8}, "10.1.0.10"), false},
	}
	var frames [][]byte
	for _, c := range cases {
		frames = append(frames, c.frame)
	}
	marker := ether(broadcast, mac, 0x0800, ipv4("10.1.0.1", "10.1.0.255", 17, udp(7, 7, "marker")))
	for i, ok := range passes(t, zoneWire(t, n, zoneA), outside(t, n, "test"), frames, marker) {
		if ok != cases[i].want {
			t.Errorf("%s passes: %v", cases[i].name, ok)
		}
	}
}

// A zone sees broadcasts and what is for it, unless it is trusted with more.
func TestForeignFrames(t *testing.T) {
	n := newHost(t)
	putTag(t, n, Tag{Name: "test"})
	nic := nicOf(macA, "10.1.0.10/24")
	frames := [][]byte{
		ether(mustMAC(macA), mustMAC(macC), 0x0800, ipv4("10.1.0.12", "10.1.0.10", 17, udp(1, 1, "mine"))),
		ether(mustMAC(macB), mustMAC(macC), 0x0800, ipv4("10.1.0.12", "10.1.0.11", 17, udp(1, 1, "foreign"))),
		ether(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mustMAC(macC), 0x86dd, ipv6("fe80::c", "ff02::1", 17, udp(1, 1, "all"))),
	}
	marker := ether(broadcast, mustMAC(macC), 0x0800, ipv4("10.1.0.12", "10.1.0.255", 17, udp(7, 7, "marker")))
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nic}})
	world, zone := outside(t, n, "test"), zoneWire(t, n, zoneA)
	if got := passes(t, world, zone, frames, marker); !got[0] || got[1] || !got[2] {
		t.Errorf("own, foreign, multicast arrive: %v", got)
	}
	nic.AllowUnfilteredPromisc = true
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nic}})
	if got := passes(t, world, zone, frames, marker); !got[0] || !got[1] || !got[2] {
		t.Errorf("trusted: own, foreign, multicast arrive: %v", got)
	}
}

// A zone with DHCP may use the address that a server gave it, and no other.
func TestLease(t *testing.T) {
	n := newHost(t)
	putTag(t, n, Tag{Name: "test"})
	nic := nicOf(macA, "dhcp")
	nic.IPs = append(nic.IPs, "addrconf")
	attach(t, n, Request{Zone: zoneA, NICs: []zones.NIC{nic}})
	world, zone := outside(t, n, "test"), zoneWire(t, n, zoneA)
	a := mustMAC(macA)
	marker := ether(broadcast, a, 0x0800, ipv4("0.0.0.0", "255.255.255.255", 17, udp(68, 67, "marker")))
	use := func(ip string) []byte {
		return ether(broadcast, a, 0x0800, ipv4(ip, "10.1.0.255", 17, udp(5, 5, "use")))
	}
	frames := [][]byte{
		use("10.1.0.77"), use("10.1.0.78"),
		ether(broadcast, a, 0x86dd, ipv6("fd01::92b8:d0ff:fe00:a", "ff02::1", 17, udp(5, 5, "auto"))),
		ether(broadcast, a, 0x86dd, ipv6("fd01::1", "ff02::1", 17, udp(5, 5, "auto"))),
	}
	if got := passes(t, zone, world, frames, marker); got[0] || got[1] || !got[2] || got[3] {
		t.Errorf("before the lease: %v", got)
	}
	reply := make([]byte, 240)
	reply[0], reply[1], reply[2] = 2, 1, 6
	copy(reply[16:], []byte{10, 1, 0, 77})
	copy(reply[28:], a)
	offer := func(r []byte) []byte {
		return ether(a, mustMAC(macC), 0x0800, ipv4("10.1.0.1", "10.1.0.77", 17, udp(67, 68, string(r))))
	}
	other := bytes.Clone(reply)
	copy(other[16:], []byte{10, 1, 0, 78})
	copy(other[28:], mustMAC(macB)) // somebody else's lease, seen on the same wire
	arrive := ether(broadcast, mustMAC(macC), 0x0800, ipv4("10.1.0.1", "10.1.0.255", 17, udp(7, 7, "marker")))
	passes(t, world, zone, [][]byte{offer(reply), offer(other)}, arrive)
	if got := passes(t, zone, world, frames, marker); !got[0] || got[1] {
		t.Errorf("with the lease: %v", got)
	}
}
