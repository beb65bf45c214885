package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/google/nftables"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/network/firewall"
)

// Request is what a zone's network should be.
type Request struct {
	// Zone is the zone's uuid.
	Zone string
	// NICs are the zone's, each with its MAC; a name that is missing becomes netN.
	NICs []zones.NIC
	// Routes are the zone's, as in zones.Spec (OS containers; a VM sets its own).
	Routes map[string]string
	// VM asks for taps that the user and group TapOwner may open, instead of a namespace.
	VM       bool
	TapOwner uint32
	// Policy is the zone's firewall; nil means it has none.
	Policy *firewall.Policy
}

// Attachment is a zone's network, ready for a driver.
type Attachment struct {
	// NetNS is the path of the namespace an OS container is to run in (zones.Machine.NetNS); empty for a VM.
	NetNS string
	// Interfaces are a VM's (zones.Machine.Interfaces), in the order of the request's NICs.
	Interfaces []zones.Interface
}

// Attach brings a zone's network to what the request says, whatever it is now: it makes what is missing, changes what
// differs, removes what is too much, and so may be repeated and is also how a NIC is added, changed or removed live.
// Rules are in force before the first frame can pass.
//
// If the zone had no network before, an error leaves none behind; otherwise it leaves what is right by then, and the
// call may be repeated. A NIC on a tag that was not put gives zones.ErrNotExist; what the host cannot do (a VLAN)
// zones.ErrNotSupported; a mistake in the request zones.ErrInvalid, all mistakes at once.
func (n *Network) Attach(ctx context.Context, req Request) (a Attachment, err error) {
	if !zones.ValidID(req.Zone) {
		return Attachment{}, fmt.Errorf("%w: zone %q is not a uuid", zones.ErrInvalid, req.Zone)
	}
	if err := refused(req.NICs, req.VM); err != nil {
		return Attachment{}, fmt.Errorf("attach zone %s: %w", req.Zone, err)
	}
	nics, err := parseNICs(req.NICs)
	if err != nil {
		return Attachment{}, err
	}
	routes, err := parseRoutes(req.Routes, nics)
	if err != nil {
		return Attachment{}, err
	}
	if req.VM && req.TapOwner == 0 {
		return Attachment{}, fmt.Errorf("%w: a tap for root is a tap for everything", zones.ErrInvalid)
	}
	defer n.lock(req.Zone)()
	if err := ctx.Err(); err != nil {
		return Attachment{}, err
	}

	if err := n.ensureTables(); err != nil {
		return Attachment{}, fmt.Errorf("attach zone %s: %w", req.Zone, err)
	}
	// Only a zone that has something may have too much; for a new one the search is left out.
	ns, err := n.openNS(req.Zone)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return Attachment{}, fmt.Errorf("attach zone %s: %w", req.Zone, err)
	}
	if ns != nil {
		defer ns.Close()
	}
	var have []ourLink
	if !fresh || req.VM {
		if have, err = n.zoneLinks(req.Zone); err != nil {
			return Attachment{}, err
		}
		fresh = fresh && len(have) == 0
	}
	defer func() {
		if err == nil {
			return
		}
		err = fmt.Errorf("attach zone %s: %w", req.Zone, err)
		if fresh {
			err = errors.Join(err, n.detach(req.Zone))
		}
	}()
	if !req.VM && ns == nil {
		if ns, err = n.makeNS(req.Zone); err != nil {
			return Attachment{}, err
		}
		defer ns.Close()
	}
	return n.attach(req, nics, routes, ns, have, fresh)
}

func (n *Network) attach(req Request, nics []nic, routes []route, ns *os.File, have []ourLink, fresh bool) (a Attachment, err error) {
	gone := slices.DeleteFunc(slices.Clone(have), func(l ourLink) bool {
		return slices.ContainsFunc(nics, func(w nic) bool { return w.mac.String() == l.mac })
	})
	for _, l := range gone {
		if err := n.deleteLink(l.link); err != nil {
			return a, err
		}
	}
	// Rules first: an interface without them would be one without protection.
	b, err := n.newBatch(nftables.TableFamilyBridge)
	if err != nil {
		return a, err
	}
	defer b.release()
	for _, l := range gone {
		b.dropNIC(req.Zone, l.link.Attrs().Name)
	}
	f := n.zoneFlows(req.Zone)
	b.firewallZone(req.Zone, &f, req.Policy, fresh)
	for i := range nics {
		b.filterNIC(req.Zone, n.nicName(req.Zone, nics[i].mac), &nics[i])
	}
	if err := b.commit(); err != nil {
		return a, err
	}
	if req.VM {
		return n.attachTaps(req, nics)
	}
	if err := n.attachVeths(req.Zone, nics, routes, ns); err != nil {
		return a, err
	}
	a.NetNS = n.nsPath(req.Zone)
	return a, nil
}

// Detach removes all of a zone's network. It works from the zone's id alone, in a process that never saw the zone and after
// a crash at any point of Attach, and may be repeated. A zone that never was: nil.
func (n *Network) Detach(ctx context.Context, zone string) error {
	if !zones.ValidID(zone) {
		return fmt.Errorf("%w: zone %q is not a uuid", zones.ErrInvalid, zone)
	}
	defer n.lock(zone)()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := n.detach(zone); err != nil {
		return fmt.Errorf("detach zone %s: %w", zone, err)
	}
	return nil
}

// detach goes on after an error, so that one thing in the way does not keep the rest.
func (n *Network) detach(zone string) error {
	if err := n.ensureTables(); err != nil {
		return err
	}
	// Rules are written before interfaces are made, so they name all there can be; only if somebody flushed them must every
	// interface of the host be looked at.
	names, err := n.filteredNICs(zone)
	errs := []error{err}
	var links []ourLink
	if len(names) > 0 {
		links, err = n.namedLinks(zone, names)
	} else {
		links, err = n.zoneLinks(zone)
	}
	errs = append(errs, err)
	for _, l := range links {
		errs = append(errs, n.deleteLink(l.link))
	}
	errs = append(errs, n.dropNS(zone))
	// Rules go last, when nothing is left that they protect.
	b, err := n.newBatch(nftables.TableFamilyBridge)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer b.release()
	for _, name := range names {
		b.dropNIC(zone, name)
	}
	f := n.zoneFlows(zone)
	b.dropZone(zone, &f)
	return errors.Join(append(errs, b.commit())...)
}

// SetPolicy replaces a zone's firewall in one step: no packet sees half of it. A nil policy turns it off. Flows that are
// known go on; the change decides over new ones. A zone that is not attached gives zones.ErrNotExist.
func (n *Network) SetPolicy(ctx context.Context, zone string, p *firewall.Policy) error {
	if !zones.ValidID(zone) {
		return fmt.Errorf("%w: zone %q is not a uuid", zones.ErrInvalid, zone)
	}
	defer n.lock(zone)()
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := n.newBatch(nftables.TableFamilyBridge)
	if err != nil {
		return err
	}
	defer b.release()
	// Emptying a chain without adding it first fails where there is none, and the whole batch with it.
	out, _ := zoneChains(zone)
	b.c.FlushChain(&nftables.Chain{Table: b.t, Name: out})
	f := n.zoneFlows(zone)
	b.firewallZone(zone, &f, p, false)
	if err := b.commit(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = zones.ErrNotExist
		}
		return fmt.Errorf("firewall of zone %s: %w", zone, err)
	}
	return nil
}
