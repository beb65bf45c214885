package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/mobulacloud/mobula/zones"
)

// Update changes a zone's properties by a payload of vmadm update. What can change live does so in a running zone, all of it or
// none; the rest holds from the next boot. It gives the changes.
func (h *Host) Update(ctx context.Context, id string, payload []byte) ([]zones.Change, error) {
	z, err := h.acquire(ctx, id)
	if err != nil {
		return nil, zones.OpError("update", id, err)
	}
	defer z.unlock()
	u, err := zones.ParseUpdate(z.Spec.Brand, payload)
	if err != nil {
		return nil, zones.OpError("update", id, err)
	}
	changes, err := z.update(ctx, u)
	return changes, zones.OpError("update", id, err)
}

func (z *zone) update(ctx context.Context, u *zones.Update) ([]zones.Change, error) {
	next, _, _, err := u.Apply(z.Spec)
	if err != nil {
		return nil, err
	}
	z.complete(next)
	changes, err := zones.Diff(z.Spec, next)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	if err := z.beginUpdate(ctx, next); err != nil {
		return nil, err
	}
	if err := z.apply(ctx, z.Spec, next, z.Handle != nil); err != nil {
		clean, cancel := cleanUp(ctx)
		defer cancel()
		// Back to what was; disks that were added are removed by that too.
		return nil, errors.Join(err, z.apply(clean, next, z.Spec, z.Handle != nil), z.done())
	}
	z.step("update: applied")
	z.Spec = next
	return changes, z.done()
}

// beginUpdate checks what is asked for and writes it down, while nobody else takes a MAC.
func (z *zone) beginUpdate(ctx context.Context, next *zones.Spec) error {
	unlock, err := z.lock(ctx, "ids", true)
	if err != nil {
		return err
	}
	defer unlock()
	if err := z.checkUpdate(next); err != nil {
		return err
	}
	return z.begin(op{Verb: "update", Next: next})
}

// finishUpdate carries an update further that a dead process began, or back if that cannot be.
func (z *zone) finishUpdate(ctx context.Context, running bool) error {
	next := z.Op.Next
	if next == nil {
		return z.done()
	}
	if err := z.apply(ctx, z.Spec, next, running); err != nil {
		z.log.Warn("an update is taken back", "zone", z.id, "err", err)
		if err := z.apply(ctx, next, z.Spec, running); err != nil {
			return err
		}
		return z.done()
	}
	z.Spec = next
	return z.done()
}

func (z *zone) checkUpdate(next *zones.Spec) error {
	// What was there before, from another host or an older program, does not keep the rest from being changed.
	if err := z.serves(next); err != nil && z.serves(z.Spec) == nil {
		return err
	}
	return z.checkMACs(next)
}

// checkMACs refuses a MAC that is new to the zone and another zone's. The caller holds the lock of ids until its own record is written.
func (z *zone) checkMACs(next *zones.Spec) error {
	mine := func(n zones.NIC) bool {
		return n.VRRPVRID != 0 || slices.ContainsFunc(z.Spec.NICs, func(o zones.NIC) bool { return o.MAC == n.MAC })
	}
	if !slices.ContainsFunc(next.NICs, func(n zones.NIC) bool { return !mine(n) }) {
		return nil
	}
	all, err := z.uuids()
	if err != nil {
		return err
	}
	for _, id := range all {
		r, err := z.load(id)
		if err != nil || id == z.id {
			continue
		}
		for _, n := range next.NICs {
			if !mine(n) && slices.ContainsFunc(r.nics(), func(o zones.NIC) bool { return o.MAC == n.MAC }) {
				return fmt.Errorf("%w: MAC %s is zone %s's", zones.ErrExist, n.MAC, id)
			}
		}
	}
	return nil
}

// apply brings the world from one spec to the other. Every step may have been done already.
func (z *zone) apply(ctx context.Context, from, to *zones.Spec, running bool) error {
	if quota := func(s *zones.Spec) int64 { return deref(s.Quota) }; quota(from) != quota(to) {
		if err := z.cfg.Pool.SetQuota(ctx, rootDataset(z.id), quota(to)*gib); err != nil {
			return mapDataset(err)
		}
		z.step("update: quota")
	}
	if to.Brand.HVM() {
		if err := z.applyDisks(ctx, from, to, running); err != nil {
			return err
		}
	}
	if !running {
		return nil
	}
	if a, b := from.Limits(), to.Limits(); a != b {
		d, _, err := z.machine(ctx)
		if err != nil {
			return err
		}
		if err := d.Update(ctx, z.id, b); err != nil {
			return err
		}
		z.step("update: limits")
	}
	return z.applyNetwork(ctx, from, to)
}

func deref(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

// applyNetwork changes a running zone's interfaces, addresses and firewall. A VM's interfaces are its emulator's until the next boot;
// its firewall is not.
func (z *zone) applyNetwork(ctx context.Context, from, to *zones.Spec) error {
	if z.cfg.Network == nil || len(from.NICs) == 0 {
		return nil // a zone that booted without a NIC has a namespace of its own, which only a boot changes
	}
	changes, err := zones.Diff(from, to)
	if err != nil {
		return err
	}
	touched := slices.ContainsFunc(changes, func(c zones.Change) bool {
		return slices.Contains([]string{"nics", "routes", "firewall_enabled", "tags", "owner_uuid"}, c.Path[0])
	})
	if !touched {
		return nil
	}
	s := to.Clone()
	if s.Brand.HVM() {
		s.NICs = from.NICs
	}
	if len(s.NICs) == 0 {
		return nil // its namespace goes at the next boot
	}
	if _, err := z.cfg.Network.Attach(ctx, NetworkRequest{Spec: s, Owner: z.IDs.First}); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	z.step("update: network")
	return nil
}

// applyDisks makes files of disks that are new, resizes those whose size changed and removes those that are gone.
func (z *zone) applyDisks(ctx context.Context, from, to *zones.Spec, running bool) error {
	find := func(s *zones.Spec, path string) *zones.Volume {
		i := slices.IndexFunc(s.Disks, func(d zones.Volume) bool { return d.Path == path })
		if i < 0 {
			return nil
		}
		return &s.Disks[i]
	}
	for i := range to.Disks {
		d := &to.Disks[i]
		base, ours := diskFile(to, *d)
		if !ours {
			continue
		}
		old := find(from, d.Path)
		if old != nil && old.Size == d.Size {
			continue
		}
		if old != nil && running && d.Size < old.Size {
			return fmt.Errorf("%w: disk %s of a running VM cannot shrink", zones.ErrRunning, d.Path)
		}
		if old == nil && d.ImageUUID != "" {
			if err := z.copyDisk(ctx, d, base); err != nil {
				return err
			}
		}
		if err := z.sizeDisk(ctx, base, d.Size, false); err != nil {
			return err
		}
		z.step("update: disk")
		if old == nil || !running {
			continue
		}
		drv, _, err := z.machine(ctx)
		if err != nil {
			return err
		}
		if a, ok := zones.As[zones.DiskAttacher](drv); ok {
			if err := z.tellDisk(ctx, a, base, d.Size); err != nil {
				return err
			}
		}
	}
	for _, d := range from.Disks {
		base, ours := diskFile(from, d)
		if !ours || find(to, d.Path) != nil {
			continue
		}
		if running {
			return fmt.Errorf("%w: disk %s of a running VM cannot be removed", zones.ErrRunning, d.Path)
		}
		err := z.inRoot(ctx, func(root *os.Root) error {
			return errors.Join(root.RemoveAll(base+".raw"), root.RemoveAll(base+".qcow2"))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (z *zone) tellDisk(ctx context.Context, a zones.DiskAttacher, base string, size int64) error {
	dir := z.runDir(z.id) + "/disks"
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	name, _, err := findDisk(root, base)
	if err != nil {
		return err
	}
	return a.ResizeDisk(ctx, z.id, dir+"/"+name, size*mib)
}
