package network

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"github.com/mobulacloud/mobula/zones"
)

// Counters are one NIC's meters.
type Counters struct {
	// MAC says which; Usage.Interface is its name in the zone. Rx is what came to the zone.
	MAC   string
	Usage zones.NetworkUsage
	// Dropped counts packets by the reason they were refused, since the rules were last written: mac-spoof, arp-spoof,
	// ip-spoof, nd-spoof, dhcp-spoof, restricted-traffic, foreign-frame, blocked-port; and, the same for all of a
	// zone's NICs, firewall, flow-table-full, bad-fragment.
	Dropped map[string]uint64
}

// Counters reads the meters of a zone's NICs, in order of their names. A zone without a network has none.
func (n *Network) Counters(ctx context.Context, zone string) ([]Counters, error) {
	links, err := n.attachedLinks(zone)
	if err != nil {
		return nil, err
	}
	b, err := n.newBatch(nftables.TableFamilyBridge)
	if err != nil {
		return nil, err
	}
	defer b.release()
	firewall := map[string]uint64{}
	out, in := zoneChains(zone)
	newOut, newIn := newFlowChains(zone)
	for _, c := range []string{out, in, newOut, newIn} {
		if err := b.dropped(c, firewall); err != nil {
			return nil, fmt.Errorf("counters of zone %s: %w", zone, err)
		}
	}
	var all []Counters
	for _, l := range links {
		c := Counters{MAC: l.mac, Dropped: map[string]uint64{}, Usage: zones.NetworkUsage{Interface: l.iface}}
		if s := l.link.Attrs().Statistics; s != nil {
			// What the host's end receives is what the zone sent.
			u := &c.Usage
			u.RxBytes, u.TxBytes, u.RxPackets, u.TxPackets = s.TxBytes, s.RxBytes, s.TxPackets, s.RxPackets
			u.RxDropped, u.TxDropped, u.RxErrors, u.TxErrors = s.TxDropped, s.RxDropped, s.TxErrors, s.RxErrors
		}
		for k, v := range firewall {
			c.Dropped[k] = v
		}
		out, in := nicChains(zone, l.link.Attrs().Name)
		for _, chain := range []string{out, in} {
			if err := b.dropped(chain, c.Dropped); err != nil {
				return nil, fmt.Errorf("counters of zone %s: %w", zone, err)
			}
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Counters) int { return strings.Compare(a.Usage.Interface, b.Usage.Interface) })
	b.fit = true
	return all, ctx.Err()
}

// dropped adds up the counters of a chain's labelled rules. A chain that is not there has none.
func (b *batch) dropped(chain string, into map[string]uint64) error {
	rules, err := b.c.GetRules(b.t, &nftables.Chain{Table: b.t, Name: chain})
	if err != nil {
		return err
	}
	for _, r := range rules {
		label, ok := userdata.GetString(r.UserData, userdata.TypeComment)
		if !ok {
			continue
		}
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				into[label] += c.Packets
			}
		}
	}
	return nil
}
