package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/mobulacloud/mobula/zones"
)

// Zones lists every zone of which anything is here: an interface, a namespace, a rule.
func (n *Network) Zones(ctx context.Context) ([]string, error) {
	found := map[string]bool{}
	links, err := n.ours()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if l.kind == "zone" {
			found[l.zone] = true
		}
	}
	entries, err := os.ReadDir(n.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		found[e.Name()] = true
	}
	chains, err := n.chains()
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if len(c) > 36 {
			found[c[:36]] = true
		}
	}
	var out []string
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if zones.ValidID(id) {
			out = append(out, id)
		}
	}
	return out, ctx.Err()
}

// Unprotected lists zones that have an interface but no rules for it, which is so when somebody flushed the host's nftables.
// What they send and get is then judged by nobody; attach them again.
func (n *Network) Unprotected(ctx context.Context) ([]string, error) {
	links, err := n.ours()
	if err != nil {
		return nil, err
	}
	chains, err := n.chains()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if l.kind != "zone" {
			continue
		}
		if c, _ := nicChains(l.zone, l.link.Attrs().Name); !slices.Contains(chains, c) && !slices.Contains(out, l.zone) {
			out = append(out, l.zone)
		}
	}
	slices.Sort(out)
	return out, ctx.Err()
}

// Sweep removes whatever belongs to zones that keep does not keep, and what a crash left half made. Call it at the
// start, when no zone is being attached.
func (n *Network) Sweep(ctx context.Context, keep func(zone string) bool) error {
	ids, err := n.Zones(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if !keep(id) {
			errs = append(errs, n.Detach(ctx, id))
		}
	}
	links, err := linkList(n.h)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, l := range links {
		a := l.Attrs()
		if _, ok := n.parseAlias(a.Alias); ok || !n.ourName(a.Name) {
			continue
		}
		n.log.Info("remove half-made interface", "interface", a.Name)
		errs = append(errs, n.deleteLink(l))
	}
	return errors.Join(errs...)
}

// ourName reports whether an interface is called like ours.
func (n *Network) ourName(name string) bool {
	if len(name) != maxIfaceName {
		return false
	}
	for _, kind := range []string{nicPrefix, bridgePrefix, vxlanPrefix, vlanPrefix} {
		if strings.HasPrefix(name, instancePrefix(kind, n.instance)) {
			return true
		}
	}
	return false
}

// Destroy removes everything the instance ever made here: zones' networks, segments, gateways, rules. The Network
// is of no use afterwards but to be closed. It may be repeated.
func (n *Network) Destroy(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	errs := []error{n.Sweep(ctx, func(string) bool { return false })}
	links, err := n.ours()
	errs = append(errs, err)
	for _, l := range links {
		errs = append(errs, n.deleteLink(l.link))
	}
	for _, f := range []nftables.TableFamily{nftables.TableFamilyBridge, nftables.TableFamilyINet} {
		b, err := n.newBatch(f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b.c.AddTable(b.t)
		b.c.DelTable(b.t)
		errs = append(errs, b.commit())
		b.release()
	}
	if err := os.Remove(n.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("network directory: %w", err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.tags)
	return errors.Join(errs...)
}

// chains lists the chains of the bridge table.
func (n *Network) chains() ([]string, error) {
	b, err := n.newBatch(nftables.TableFamilyBridge)
	if err != nil {
		return nil, err
	}
	defer b.release()
	all, err := b.c.ListChainsOfTableFamily(nftables.TableFamilyBridge)
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var out []string
	for _, c := range all {
		if c.Table.Name == b.t.Name {
			out = append(out, c.Name)
		}
	}
	b.fit = true
	return out, nil
}

// filteredNICs names the interfaces for which a zone has rules, whether the interfaces are still there or not.
func (n *Network) filteredNICs(zone string) ([]string, error) {
	all, err := n.chains()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range all {
		name, ok := strings.CutPrefix(c, zone+"-"+nicPrefix)
		if !ok {
			continue
		}
		if name, ok = strings.CutSuffix(name, "-out"); ok {
			out = append(out, nicPrefix+name)
		}
	}
	return out, nil
}
