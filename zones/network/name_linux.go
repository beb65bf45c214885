package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Interface names have 15 bytes at most, so they carry hashes (three digits of the instance, nine of the rest) and the
// alias carries the truth:
//
//	moz0a1b2c3d4e5f  the host's end of a NIC       alias "mobula INSTANCE zone UUID MAC NAME"
//	mob0a1b2c3d4e5f  a segment's bridge            alias "mobula INSTANCE bridge TAG VLAN [nat]"
//	mox0a1b2c3d4e5f  a segment's VXLAN device      alias "mobula INSTANCE vxlan TAG VLAN"
//	mov0a1b2c3d4e5f  a segment's 802.1Q interface  alias "mobula INSTANCE vlan TAG VLAN"
//
// An interface is made first and gets its alias then; one that has the instance's digits and no alias is what a crash
// between the two left. An uplink that is a port of one of our bridges keeps its own name and alias.
const (
	nicPrefix    = "moz"
	bridgePrefix = "mob"
	vxlanPrefix  = "mox"
	vlanPrefix   = "mov"

	aliasMark = "mobula"
)

func hashName(prefix, instance string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return instancePrefix(prefix, instance) + hex.EncodeToString(sum[:])[:9]
}

// instancePrefix is how the names of an instance's interfaces of a kind begin.
func instancePrefix(kind, instance string) string {
	sum := sha256.Sum256([]byte(instance))
	return kind + hex.EncodeToString(sum[:])[:3]
}

func (n *Network) nicName(zone string, mac net.HardwareAddr) string {
	return hashName(nicPrefix, n.instance, zone, mac.String())
}

func (n *Network) segmentName(prefix, tag string, vlan int) string {
	return hashName(prefix, n.instance, tag, strconv.Itoa(vlan))
}

// owner is what an alias says.
type owner struct {
	kind  string // "zone", "bridge", "vxlan", "vlan"
	zone  string
	mac   string
	iface string
	tag   string
	vlan  int
	nat   bool // of a bridge: its gateway hides it
}

func (n *Network) nicAlias(zone string, mac net.HardwareAddr, iface string) string {
	return strings.Join([]string{aliasMark, n.instance, "zone", zone, mac.String(), iface}, " ")
}

func (n *Network) segmentAlias(kind, tag string, vlan int) string {
	return fmt.Sprintf("%s %s %s %s %d", aliasMark, n.instance, kind, tag, vlan)
}

// parseAlias reads an alias; ok is false if it is not ours.
func (n *Network) parseAlias(alias string) (o owner, ok bool) {
	f := strings.Fields(alias)
	if len(f) < 3 || f[0] != aliasMark || f[1] != n.instance {
		return owner{}, false
	}
	o.kind = f[2]
	switch {
	case o.kind == "zone" && len(f) == 6:
		o.zone, o.mac, o.iface = f[3], f[4], f[5]
		return o, true
	case o.kind == "bridge" && len(f) == 6 && f[5] == "nat":
		o.nat = true
		fallthrough
	case (o.kind == "bridge" || o.kind == "vxlan" || o.kind == "vlan") && len(f) == 5:
		var err error
		o.tag = f[3]
		o.vlan, err = strconv.Atoi(f[4])
		return o, err == nil
	}
	return owner{}, false
}
