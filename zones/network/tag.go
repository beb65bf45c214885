package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/mobulacloud/mobula/zones"
)

// Tag is a NIC tag: a name for a way off this host, or for a network that ends on it. NICs that share a tag and a VLAN
// are on one segment.
type Tag struct {
	// Name is what a NIC asks for in nic_tag: letters, digits, "_", ".", "/" and "-", at most 64.
	Name string
	// MTU of the segments, 576 to 9000; 0 is 1500, or 1400 with VXLAN.
	MTU int

	// At most one of the following says where frames go. With none the tag's segments end on this host.

	// Uplink is a host interface that becomes a port of the tag's bridge. A NIC with a vlan_id gets a bridge of its own
	// over an 802.1Q interface on the uplink, which the kernel must have ([Capabilities.VLAN]).
	Uplink string
	// Bridge is a bridge that the host's operator made and keeps. NICs with a vlan_id are refused on it.
	Bridge string
	// VXLAN carries the tag's segments over IP to the hosts that [Network.SetPeers] names.
	VXLAN *VXLAN
}

// VXLAN is a fabric's underlay.
type VXLAN struct {
	// VNI is the network's number on the wire, 1 to 16777215, for NICs without a vlan_id.
	VNI uint32
	// VLANs gives the VNI of each vlan_id there may be: on a fabric a VLAN is a network number of its own, so no tag
	// needs to travel inside and every kernel can do it.
	VLANs map[int]uint32
	// Local is this host's address on the underlay. Required.
	Local netip.Addr
	// Port is UDP, 4789 when 0.
	Port int
}

// Peer is where something lives on a fabric, beyond this host.
type Peer struct {
	// VTEP is the other host's underlay address. Required. Broadcasts go there.
	VTEP netip.Addr
	// MAC, if set, is the address of a NIC there, so that frames for it need no flooding and nobody else on the
	// fabric can claim it.
	MAC net.HardwareAddr
}

// Gateway is this host's own place on a segment, and the way out of it.
type Gateway struct {
	Tag  string
	VLAN int
	// Addresses of the host on the segment with their subnets; zones use them as gateway.
	Addresses []netip.Prefix
	// NAT lets the subnets out under the host's own addresses, and lets nothing in unasked. Without it the host
	// routes, in both directions.
	NAT bool
}

func validTag(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("_./-", c) >= 0) {
			return false
		}
	}
	return true
}

// check reports everything wrong with the tag, and fills in its defaults.
func (t *Tag) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validTag(t.Name) {
		bad("name %q", t.Name)
	}
	if t.MTU == 0 {
		t.MTU = defaultMTU
		if t.VXLAN != nil {
			t.MTU = defaultMTU - fabricHeadroom
		}
	}
	if t.MTU < minMTU || t.MTU > maxMTU {
		bad("mtu %d is not between %d and %d", t.MTU, minMTU, maxMTU)
	}
	ways := 0
	for _, set := range []bool{t.Uplink != "", t.Bridge != "", t.VXLAN != nil} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		bad("uplink, bridge and vxlan exclude each other")
	}
	for _, name := range []string{t.Uplink, t.Bridge} {
		if name != "" && !validIface(name) {
			bad("%q is no name of an interface", name)
		}
	}
	if v := t.VXLAN; v != nil {
		vnis := map[uint32]bool{}
		check := func(vni uint32) {
			if vni > 1<<24-1 || vnis[vni] {
				bad("vxlan: vni %d is out of range or used twice", vni)
			}
			vnis[vni] = true
		}
		if v.VNI != 0 {
			check(v.VNI)
		} else if len(v.VLANs) == 0 {
			bad("vxlan: no vni")
		}
		for id, vni := range v.VLANs {
			if id < 1 || id > 4094 || vni == 0 {
				bad("vxlan: vlan %d with vni %d", id, vni)
			}
			check(vni)
		}
		if !hostAddr(v.Local) {
			bad("vxlan: local %q is no address", v.Local)
		}
		if v.Port < 0 || v.Port > 65535 {
			bad("vxlan: port %d", v.Port)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: nic tag: %w", zones.ErrInvalid, errors.Join(errs...))
	}
	return nil
}

// vni answers the network number of a VLAN of the fabric.
func (v *VXLAN) vni(vlan int) (uint32, bool) {
	if vlan == 0 {
		return v.VNI, v.VNI != 0
	}
	vni, ok := v.VLANs[vlan]
	return vni, ok
}
