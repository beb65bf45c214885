package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/zones"
)

// Limits on what one zone may ask for.
const (
	MaxNICs        = 32  // of a zone
	MaxAddresses   = 64  // of a NIC, allowed ones included
	MaxRoutes      = 128 // of a zone
	MaxBlocked     = 64  // blocked outgoing ports of a NIC
	minMTU         = 576
	maxMTU         = 9000
	maxIfaceName   = 15
	defaultMTU     = 1500
	fabricHeadroom = 100 // bytes VXLAN may add on an underlay with 1500
)

// nic is a zones.NIC, checked and in Go's own types.
type nic struct {
	mac      net.HardwareAddr
	iface    string // as the zone sees it
	tag      string
	vlan     int
	mtu      int            // 0 is the segment's
	addrs    []netip.Prefix // static addresses with their subnets
	allowed  []netip.Prefix // sources it may use, besides link-local
	dhcp     bool           // IPv4 by DHCP
	addrconf bool           // IPv6 from the router's prefix
	gateways []netip.Addr
	primary  bool
	blocked  []uint16

	allowIP, allowMAC, allowDHCP, allowOther, allowPromisc bool
}

// linkLocal is the address a kernel gives the NIC by itself.
func (n *nic) linkLocal() netip.Addr {
	id := n.eui64()
	a := [16]byte{0: 0xfe, 1: 0x80}
	copy(a[8:], id[:])
	return netip.AddrFrom16(a)
}

// eui64 is the interface identifier of the MAC.
func (n *nic) eui64() [8]byte {
	m := n.mac
	return [8]byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}
}

// refused says what of a zone's NICs cannot be had here.
func refused(in []zones.NIC, vm bool) error {
	var errs []error
	for i, n := range in {
		if len(n.AllowedDHCPCIDs) > 0 {
			errs = append(errs, fmt.Errorf("nics[%d].allowed_dhcp_cids: client ids of DHCP cannot be checked here", i))
		}
		if n.VRRPVRID != 0 && !vm {
			errs = append(errs, fmt.Errorf("nics[%d].vrrp_vrid: an OS zone has no power over its interfaces, which a router that takes addresses over needs", i))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", zones.ErrNotSupported, errors.Join(errs...))
}

// parseNICs checks a zone's NICs and reports every problem, joined, as zones.ErrInvalid.
func parseNICs(in []zones.NIC) ([]nic, error) {
	var errs []error
	if len(in) > MaxNICs {
		errs = append(errs, fmt.Errorf("nics: more than %d", MaxNICs))
		in = in[:MaxNICs]
	}
	macs, names := map[string]bool{}, map[string]bool{}
	out := make([]nic, len(in))
	for i := range in {
		bad := func(field, format string, args ...any) {
			errs = append(errs, fmt.Errorf("nics[%d].%s: "+format, append([]any{i, field}, args...)...))
		}
		out[i] = parseNIC(&in[i], i, bad)
		if m := out[i].mac.String(); m != "" && macs[m] {
			bad("mac", "%s is used twice", m)
		} else {
			macs[m] = true
		}
		if names[out[i].iface] {
			bad("interface", "%s is used twice", out[i].iface)
		}
		names[out[i].iface] = true
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%w: %w", zones.ErrInvalid, errors.Join(errs...))
	}
	return out, nil
}

func parseNIC(in *zones.NIC, index int, bad func(field, format string, args ...any)) nic {
	n := nic{
		iface: in.Interface, tag: in.NICTag, vlan: in.VLANID, mtu: in.MTU, primary: in.Primary,
		allowIP: in.AllowIPSpoofing, allowMAC: in.AllowMACSpoofing, allowDHCP: in.AllowDHCPSpoofing,
		allowOther: in.AllowRestrictedTraffic, allowPromisc: in.AllowUnfilteredPromisc,
	}
	if n.iface == "" {
		n.iface = fmt.Sprintf("net%d", index)
	}
	if !validIface(n.iface) {
		bad("interface", "%q is no name for an interface", n.iface)
	}
	if !validTag(n.tag) {
		bad("nic_tag", "%q is no name for a tag", n.tag)
	}
	if n.vlan < 0 || n.vlan > 4094 {
		bad("vlan_id", "%d is not between 0 and 4094", n.vlan)
	}
	if n.mtu != 0 && (n.mtu < minMTU || n.mtu > maxMTU) {
		bad("mtu", "%d is not between %d and %d", n.mtu, minMTU, maxMTU)
	}
	mac, err := net.ParseMAC(in.MAC)
	switch {
	case err != nil || len(mac) != 6:
		bad("mac", "%q is no MAC address", in.MAC)
	case mac[0]&1 != 0 || slices.Equal(mac, make([]byte, 6)):
		bad("mac", "%s is no unicast address", mac)
	default:
		n.mac = mac
	}
	n.parseAddrs(in, bad)
	for _, s := range append(slices.Clone(in.Gateways), in.Gateway) {
		if s == "" || n.hasGateway(s) {
			continue
		}
		if g, err := netip.ParseAddr(s); err != nil || !hostAddr(g) {
			bad("gateway", "%q is no address", s)
		} else {
			n.gateways = append(n.gateways, g)
		}
	}
	if len(in.BlockedOutgoingPorts) > MaxBlocked {
		bad("blocked_outgoing_ports", "more than %d", MaxBlocked)
	}
	for _, p := range in.BlockedOutgoingPorts {
		if p < 1 || p > 65535 {
			bad("blocked_outgoing_ports", "%d is no port", p)
			continue
		}
		n.blocked = append(n.blocked, uint16(p))
	}
	if in.VRRPVRID != 0 {
		n.parseVRRP(in, bad)
	}
	return n
}

// parseVRRP lets the NIC of a virtual router speak for it: with its MAC, and with the machine's own address as well as the router's.
func (n *nic) parseVRRP(in *zones.NIC, bad func(field, format string, args ...any)) {
	if in.VRRPVRID < 1 || in.VRRPVRID > 255 {
		bad("vrrp_vrid", "%d is not between 1 and 255", in.VRRPVRID)
	} else if n.mac.String() != in.VRRPMAC() {
		bad("vrrp_vrid", "the MAC of router %d is %s", in.VRRPVRID, in.VRRPMAC())
	}
	if a, err := netip.ParseAddr(in.VRRPPrimaryIP); err != nil || !hostAddr(a) {
		bad("vrrp_primary_ip", "%q is no address", in.VRRPPrimaryIP)
	} else {
		n.allowed = append(n.allowed, netip.PrefixFrom(a, a.BitLen()))
	}
}

func (n *nic) hasGateway(s string) bool {
	return slices.ContainsFunc(n.gateways, func(g netip.Addr) bool { return g.String() == s })
}

// parseAddrs reads ip and netmask, ips, and allowed_ips.
func (n *nic) parseAddrs(in *zones.NIC, bad func(field, format string, args ...any)) {
	ips := slices.Clone(in.IPs)
	if in.IP == "dhcp" {
		ips = append(ips, in.IP)
	} else if in.IP != "" {
		ip, err := netip.ParseAddr(in.IP)
		mask, ok := maskBits(in.Netmask)
		switch {
		case err != nil || !ip.Is4() || !hostAddr(ip):
			bad("ip", "%q is no IPv4 address", in.IP)
		case !ok:
			bad("netmask", "%q is no netmask", in.Netmask)
		default:
			if p := netip.PrefixFrom(ip, mask); !slices.Contains(ips, p.String()) {
				ips = append([]string{p.String()}, ips...)
			}
		}
	}
	if len(ips)+len(in.AllowedIPs) > MaxAddresses {
		bad("ips", "more than %d addresses", MaxAddresses)
		return
	}
	for _, s := range ips {
		switch s {
		case "dhcp":
			n.dhcp = true
		case "addrconf":
			n.addrconf = true
		default:
			p, err := netip.ParsePrefix(s)
			if err != nil || !hostAddr(p.Addr()) {
				bad("ips", "%q is neither an address with its prefix length, dhcp, nor addrconf", s)
				continue
			}
			n.addrs = append(n.addrs, p)
			n.allowed = append(n.allowed, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		}
	}
	for _, s := range in.AllowedIPs {
		p, err := netip.ParsePrefix(s)
		if a, err2 := netip.ParseAddr(s); err2 == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			bad("allowed_ips", "%q is neither an address nor a subnet", s)
			continue
		}
		n.allowed = append(n.allowed, p.Masked())
	}
}

// hostAddr reports whether a can be one host's address.
func hostAddr(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func maskBits(s string) (int, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, false
	}
	m := a.As4()
	ones, bits := net.IPMask(m[:]).Size()
	return ones, bits == 32 && ones > 0
}

func validIface(s string) bool {
	if s == "" || len(s) > maxIfaceName || s == "." || s == ".." || s == "lo" {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.') {
			return false
		}
	}
	return true
}

// route is one entry of a zone's routes.
type route struct {
	dst netip.Prefix
	via netip.Addr // or, if not valid, a neighbour on
	nic int        // this NIC
}

// parseRoutes reads {destination: address | nics[i] | macs[m]}.
func parseRoutes(in map[string]string, nics []nic) ([]route, error) {
	if len(in) > MaxRoutes {
		return nil, fmt.Errorf("%w: routes: more than %d", zones.ErrInvalid, MaxRoutes)
	}
	var errs []error
	var out []route
	for dst, via := range in {
		r := route{nic: -1}
		p, err := netip.ParsePrefix(dst)
		if a, err2 := netip.ParseAddr(dst); err2 == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("routes: destination %q", dst))
			continue
		}
		r.dst = p.Masked()
		switch {
		case strings.HasPrefix(via, "nics[") && strings.HasSuffix(via, "]"):
			var i int
			if _, err := fmt.Sscanf(via, "nics[%d]", &i); err == nil && i >= 0 && i < len(nics) {
				r.nic = i
			}
		case strings.HasPrefix(via, "macs[") && strings.HasSuffix(via, "]"):
			m, err := net.ParseMAC(via[5 : len(via)-1])
			if err == nil {
				r.nic = slices.IndexFunc(nics, func(n nic) bool { return slices.Equal(n.mac, m) })
			}
		default:
			r.via, _ = netip.ParseAddr(via)
			if r.via.IsValid() && (!hostAddr(r.via) || r.via.Is4() != r.dst.Addr().Is4()) {
				r.via = netip.Addr{}
			}
		}
		if !r.via.IsValid() && r.nic < 0 {
			errs = append(errs, fmt.Errorf("routes: %q leads to %q, which is no address or NIC of the zone", dst, via))
			continue
		}
		out = append(out, r)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%w: %w", zones.ErrInvalid, errors.Join(errs...))
	}
	// More specific first does not matter to the kernel, but a fixed order makes a failure the same every time.
	slices.SortFunc(out, func(a, b route) int { return strings.Compare(a.dst.String(), b.dst.String()) })
	return out, nil
}
