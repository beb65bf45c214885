package network

import (
	"context"
	"fmt"
	"maps"
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
	// Logged counts, by the firewall rule's uuid, the packets of rules that log; the same for all of a zone's NICs.
	Logged map[string]LogCounters
}

// LogCounters are of one firewall rule that logs.
type LogCounters struct {
	// Packets are those that the rule decided, Lines how many of them were written to the log; see [LogRate].
	Packets, Lines uint64
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
	firewall, logs := map[string]uint64{}, map[string]LogCounters{}
	out, in := zoneChains(zone)
	newOut, newIn := newFlowChains(zone)
	for _, c := range []string{out, in, newOut, newIn} {
		if err := b.count(c, firewall, logs); err != nil {
			return nil, fmt.Errorf("counters of zone %s: %w", zone, err)
		}
	}
	var all []Counters
	for _, l := range links {
		c := Counters{MAC: l.mac, Dropped: map[string]uint64{}, Logged: maps.Clone(logs), Usage: zones.NetworkUsage{Interface: l.iface}}
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
			if err := b.count(chain, c.Dropped, nil); err != nil {
				return nil, fmt.Errorf("counters of zone %s: %w", zone, err)
			}
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Counters) int { return strings.Compare(a.Usage.Interface, b.Usage.Interface) })
	b.fit = true
	return all, ctx.Err()
}

// count adds up the counters of a chain's labelled rules. A chain that is not there has none.
func (b *batch) count(chain string, dropped map[string]uint64, logs map[string]LogCounters) error {
	rules, err := b.c.GetRules(b.t, &nftables.Chain{Table: b.t, Name: chain})
	if err != nil {
		return err
	}
	for _, r := range rules {
		label, ok := userdata.GetString(r.UserData, userdata.TypeComment)
		if !ok {
			continue
		}
		var counted []uint64
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				counted = append(counted, c.Packets)
			}
		}
		if rule, ok := strings.CutPrefix(label, logLabel); ok && len(counted) == 2 {
			l := logs[rule]
			logs[rule] = LogCounters{l.Packets + counted[0], l.Lines + counted[1]}
		} else if len(counted) > 0 {
			dropped[label] += counted[0]
		}
	}
	return nil
}
