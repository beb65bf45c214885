package kvm

import (
	"context"

	"github.com/opencontainers/cgroups"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/limits"
)

// confine puts a new QEMU into its control groups. The limits hold for the emulator as a whole, the guest's memory and processors included.
// LockedMemory and TmpFS mean nothing to a VM: the emulator pins no memory, and what the guest does with its own is the guest's affair.
func (d *Driver) confine(cg cgroups.Manager, pid int, l zones.Limits) error {
	if err := cg.Apply(pid); err != nil {
		return err
	}
	r := d.ctl.Resources(l)
	r.SkipDevices = true
	return limits.Set(cg, r)
}

// Update implements zones.Driver.
func (d *Driver) Update(ctx context.Context, id string, l zones.Limits) error {
	m, err := d.machines.Running("update", id)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return zones.OpError("update", id, err)
	}
	if err := d.ctl.Check(l); err != nil {
		return zones.OpError("update", id, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := d.ctl.Change(m.cg, m.rec.Limits, l); err != nil {
		return zones.OpError("update", id, err)
	}
	m.rec.Limits = l
	return zones.OpError("update", id, d.save(m.rec))
}
