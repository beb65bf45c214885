//go:build linux

package network

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/zones"
)

func FuzzNIC(f *testing.F) {
	f.Add("90:b8:d0:00:00:0a", "net0", "admin", "10.0.0.2/24", "10.0.0.1", "fd00::/8", "10.9.0.0/16", "nics[0]")
	f.Add("02:00:00:00:00:01", "", "sdc_overlay/1234", "dhcp", "", "", "0.0.0.0/0", "10.0.0.1")
	f.Add("", "lo", "", "addrconf", "::1", "::ffff:1.2.3.4", "x", "macs[90:b8:d0:00:00:0a]")
	f.Fuzz(func(t *testing.T, mac, iface, tag, ip, gateway, allowed, dst, via string) {
		in := zones.NIC{MAC: mac, Interface: iface, NICTag: tag, IPs: []string{ip}, Gateway: gateway, AllowedIPs: []string{allowed}}
		nics, err := parseNICs([]zones.NIC{in})
		if err != nil {
			if !errors.Is(err, zones.ErrInvalid) {
				t.Errorf("%+v: %v", in, err)
			}
			return
		}
		n := nics[0]
		if len(n.mac) != 6 || !validIface(n.iface) || strings.ContainsAny(n.tag, " \n\x00") {
			t.Errorf("%+v became %+v", in, n)
		}
		for _, a := range n.addrs {
			if !hostAddr(a.Addr()) {
				t.Errorf("%+v has address %v", in, a)
			}
		}
		// What is said of an interface in its alias is read back.
		net := &Network{instance: "fuzz"}
		alias := net.nicAlias("11111111-1111-4111-8111-111111111111", n.mac, n.iface)
		if o, ok := net.parseAlias(alias); !ok || o.iface != n.iface || o.mac != n.mac.String() {
			t.Errorf("alias %q reads as %+v", alias, o)
		}
		if o, ok := net.parseAlias(net.segmentAlias("bridge", n.tag, 5)); !ok || o.tag != n.tag || o.vlan != 5 {
			t.Errorf("alias of tag %q reads as %+v", n.tag, o)
		}
		routes, err := parseRoutes(map[string]string{dst: via}, nics)
		if err != nil && !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("route %q %q: %v", dst, via, err)
		}
		for _, r := range routes {
			if !r.dst.IsValid() || !r.via.IsValid() && (r.nic < 0 || r.nic >= len(nics)) {
				t.Errorf("route %q %q became %+v", dst, via, r)
			}
		}
	})
}

// A foreign interface is never taken for ours, however it is called.
func TestForeignAliases(t *testing.T) {
	n := &Network{instance: "one"}
	for _, alias := range []string{
		"", "mobula", "mobula one", "mobula two zone 11111111-1111-4111-8111-111111111111 90:b8:d0:00:00:0a net0",
		"mobula one zone", "mobula one bridge tag x", "mobula one bridge tag 5 other", "uplink to the world",
	} {
		if o, ok := n.parseAlias(alias); ok {
			t.Errorf("%q is read as %+v", alias, o)
		}
	}
	if a, b := hashName(nicPrefix, "one", "zone"), hashName(nicPrefix, "two", "zone"); a[:6] == b[:6] || len(a) != maxIfaceName {
		t.Errorf("two instances make names %s and %s", a, b)
	}
}

func TestTagCheck(t *testing.T) {
	local := netip.MustParseAddr("192.0.2.1")
	for name, tt := range map[string]struct {
		tag  Tag
		want string // a part of the complaint; empty for none
	}{
		"plain":       {Tag{Name: "admin"}, ""},
		"no name":     {Tag{}, "name"},
		"mtu":         {Tag{Name: "a", MTU: 9001}, "mtu"},
		"two ways":    {Tag{Name: "a", Uplink: "eth0", Bridge: "br0"}, "exclude"},
		"path":        {Tag{Name: "a", Uplink: "../eth0"}, "no name of an interface"},
		"fabric":      {Tag{Name: "a", VXLAN: &VXLAN{VNI: 5, Local: local}}, ""},
		"vlans":       {Tag{Name: "a", VXLAN: &VXLAN{VLANs: map[int]uint32{2: 7}, Local: local}}, ""},
		"no vni":      {Tag{Name: "a", VXLAN: &VXLAN{Local: local}}, "no vni"},
		"vni":         {Tag{Name: "a", VXLAN: &VXLAN{VNI: 1 << 24, Local: local}}, "out of range"},
		"vni twice":   {Tag{Name: "a", VXLAN: &VXLAN{VNI: 5, VLANs: map[int]uint32{2: 5}, Local: local}}, "twice"},
		"no local":    {Tag{Name: "a", VXLAN: &VXLAN{VNI: 5}}, "local"},
		"vlan number": {Tag{Name: "a", VXLAN: &VXLAN{VNI: 5, VLANs: map[int]uint32{5000: 6}, Local: local}}, "vlan"},
	} {
		err := tt.tag.check()
		if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, zones.ErrInvalid) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
