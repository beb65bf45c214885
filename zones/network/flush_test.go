//go:build linux

package network

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/mobulacloud/mobula/zones"
)

// The host's operator reloads rules of his own and flushes ours with them. Everything comes back by attaching again.
func TestFlushedRules(t *testing.T) {
	n := newHost(t)
	_, worldNS := newNS(t)
	if err := n.h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(worldNS.Fd())}); err != nil {
		t.Fatal(err)
	}
	address(t, n.host, "eth0", "192.0.2.2/24", "")
	address(t, worldNS, "eth0", "192.0.2.1/24", "")
	awaitCarrier(n.h, "eth0")
	putTag(t, n, Tag{Name: "test"})
	if err := n.PutGateway(t.Context(), Gateway{Tag: "test", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}, NAT: true}); err != nil {
		t.Fatal(err)
	}
	nic := nicOf(macA, "10.1.0.10/24")
	nic.Gateway = "10.1.0.1"
	other := nicOf(macB, "10.9.0.10/24")
	other.VLANID = 9
	reqA, reqB := Request{Zone: zoneA, NICs: []zones.NIC{nic}}, Request{Zone: zoneB, NICs: []zones.NIC{other}}
	attach(t, n, reqA)
	attach(t, n, reqB)
	if lost, err := n.Unprotected(t.Context()); err != nil || len(lost) > 0 {
		t.Errorf("Unprotected() = %v, %v", lost, err)
	}

	b, err := n.newBatch(0)
	if err != nil {
		t.Fatal(err)
	}
	b.c.FlushRuleset()
	if err := b.commit(); err != nil {
		t.Fatal(err)
	}
	attach(t, n, Request{Zone: zoneC, NICs: []zones.NIC{nicOf(macC, "10.1.0.12/24")}})
	b.c.FlushRuleset()
	if err := b.commit(); err != nil {
		t.Fatal(err)
	}
	if err := n.Detach(t.Context(), zoneC); err != nil {
		t.Fatal(err)
	}
	if lost, err := n.Unprotected(t.Context()); err != nil || !slices.Equal(lost, []string{zoneA, zoneB}) {
		t.Errorf("after the flush: Unprotected() = %v, %v", lost, err)
	}
	attach(t, n, reqA)
	attach(t, n, reqB)
	if lost, err := n.Unprotected(t.Context()); err != nil || len(lost) > 0 {
		t.Errorf("after attaching again: Unprotected() = %v, %v", lost, err)
	}
	world, zone := outside(t, n, "test"), zoneWire(t, n, zoneA)
	marker := ether(broadcast, mustMAC(macA), 0x0800, ipv4("10.1.0.10", "10.1.0.255", 17, udp(7, 7, "marker")))
	spoof := ether(broadcast, mustMAC(macA), 0x0800, ipv4("10.1.0.66", "10.1.0.255", 17, udp(7, 7, "spoof")))
	if passes(t, zone, world, [][]byte{spoof}, marker)[0] {
		t.Error("the protection against spoofing did not come back")
	}
	if from := askWorld(t, n, zoneA, worldNS, "192.0.2.1", must); from != "192.0.2.2" {
		t.Errorf("the world sees zone A as %q: NAT did not come back", from)
	}
	// Zone B's segment has no gateway; frames for the host on it go nowhere.
	closed := closedSet()
	seg, err := n.segment("test", 9)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = n.newBatch(nftables.TableFamilyBridge); err != nil {
		t.Fatal(err)
	}
	closed.Table = b.t
	have, err := b.elements(closed)
	if err != nil || !have[string(seg.Attrs().HardwareAddr)] {
		t.Errorf("the bridge without a gateway is not closed: %v", err)
	}
}
