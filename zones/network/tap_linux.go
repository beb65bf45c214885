package network

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/mobulacloud/mobula/zones"
)

// attachTaps brings a VM's taps to its NICs. Addresses are the guest's own to set; metadata tells it which.
func (n *Network) attachTaps(req Request, nics []nic) (a Attachment, err error) {
	for i := range nics {
		w := &nics[i]
		bridge, err := n.segment(w.tag, w.vlan)
		if err != nil {
			return Attachment{}, err
		}
		mtu, err := nicMTU(w, bridge)
		if err != nil {
			return Attachment{}, err
		}
		name := n.nicName(req.Zone, w.mac)
		if err := n.tap(req, w, name, bridge, mtu); err != nil {
			return Attachment{}, fmt.Errorf("nic %s: %w", w.mac, err)
		}
		nic := zones.Interface{Host: name, MAC: w.mac.String(), Model: req.NICs[i].Model, MTU: mtu}
		if !n.own {
			nic.NetNS = n.hostPath
		}
		a.Interfaces = append(a.Interfaces, nic)
	}
	return a, nil
}

func (n *Network) tap(req Request, w *nic, name string, bridge netlink.Link, mtu int) error {
	l, err := n.h.LinkByName(name)
	if err != nil {
		tap := &netlink.Tuntap{
			LinkAttrs: netlink.LinkAttrs{Name: name, TxQLen: 1000},
			Mode:      netlink.TUNTAP_MODE_TAP,
			Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_ONE_QUEUE,
			Owner:     req.TapOwner, Group: req.TapOwner,
		}
		// A tap is made through a device file, which goes by the namespace of the thread.
		if err := n.inHost(func() error { return netlink.LinkAdd(tap) }); err != nil {
			return fmt.Errorf("make tap: %w", err)
		}
		if l, err = n.h.LinkByName(name); err != nil {
			return err
		}
	} else if o, ok := n.parseAlias(l.Attrs().Alias); ok && o.zone != req.Zone {
		return fmt.Errorf("%w: interface %s is of zone %s", zones.ErrExist, name, o.zone)
	}
	if alias := n.nicAlias(req.Zone, w.mac, w.iface); l.Attrs().Alias != alias {
		if err := n.h.LinkSetAlias(l, alias); err != nil {
			return err
		}
	}
	if l.Attrs().MTU != mtu {
		if err := n.h.LinkSetMTU(l, mtu); err != nil {
			return err
		}
	}
	return n.plug(l, w, bridge)
}
