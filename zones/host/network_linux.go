package host

import (
	"context"
	"fmt"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/network"
	"github.com/mobulacloud/mobula/zones/network/firewall"
)

// Rules gives the firewall's rules in force and the machines that they may name, for one zone.
type Rules func(ctx context.Context, spec *zones.Spec) (entries []firewall.Entry, fleet []firewall.Machine, err error)

// NetworkOf connects zones through package network. rules may be nil: a zone with firewall_enabled then lets nothing in that it did not
// ask for. The tags that NICs name must have been put.
func NetworkOf(n *network.Network, rules Rules) Network { return &networkOf{n, rules} }

type networkOf struct {
	n     *network.Network
	rules Rules
}

func (a *networkOf) Attach(ctx context.Context, r NetworkRequest) (NetworkAttachment, error) {
	req := network.Request{Zone: r.Spec.UUID, NICs: r.Spec.NICs, Routes: r.Spec.Routes, VM: r.Spec.Brand.HVM(), TapOwner: r.Owner}
	if r.Spec.FirewallEnabled {
		p, err := a.policy(ctx, r.Spec)
		if err != nil {
			return NetworkAttachment{}, err
		}
		req.Policy = &p
	}
	att, err := a.n.Attach(ctx, req)
	return NetworkAttachment{NetNS: att.NetNS, Interfaces: att.Interfaces}, err
}

func (a *networkOf) policy(ctx context.Context, s *zones.Spec) (firewall.Policy, error) {
	m := firewall.Machine{UUID: s.UUID, Owner: s.OwnerUUID, Tags: map[string]string{}}
	for k, v := range s.Tags {
		m.Tags[k] = fmt.Sprint(v)
	}
	for _, nic := range s.NICs {
		for _, p := range nic.Prefixes() {
			m.IPs = append(m.IPs, p.Addr())
		}
	}
	if a.rules == nil {
		return firewall.Compile(m, nil, nil), nil
	}
	entries, fleet, err := a.rules(ctx, s)
	if err != nil {
		return firewall.Policy{}, fmt.Errorf("firewall rules: %w", err)
	}
	return firewall.Compile(m, fleet, entries), nil
}

func (a *networkOf) Detach(ctx context.Context, zone string) error { return a.n.Detach(ctx, zone) }

func (a *networkOf) Usage(ctx context.Context, zone string) ([]zones.NetworkUsage, error) {
	c, err := a.n.Counters(ctx, zone)
	if err != nil {
		return nil, err
	}
	out := make([]zones.NetworkUsage, len(c))
	for i := range c {
		out[i] = c[i].Usage
	}
	return out, nil
}

func (a *networkOf) Sweep(ctx context.Context, keep func(string) bool) error {
	return a.n.Sweep(ctx, keep)
}
