//go:build cgo

package oci

import (
	"context"
	"errors"

	"github.com/mobulacloud/mobula/zones"
)

// Reset implements zones.Resetter. It is an end and a start under one claim on the id, so that nothing comes between. Every namespace,
// control group and mount is made anew, as only that leaves nothing for the next tenant by construction rather than by a
// list of things to clean: shared memory, queues, keys, timers, counters and what is not known yet.
func (d *Driver) Reset(ctx context.Context, m zones.Machine) (zones.Handle, error) {
	fail := func(err error) (zones.Handle, error) { return zones.Handle{}, zones.OpError("reset", m.ID, err) }
	if err := m.Check(); err != nil {
		return fail(err)
	}
	if err := d.ctl.Check(m.Limits); err != nil {
		return fail(err)
	}
	if _, err := d.machines.Find("reset", m.ID); err != nil {
		return zones.Handle{}, err
	}
	old, err := d.machines.Claim("reset", m.ID, false)
	if err != nil {
		return zones.Handle{}, err
	}
	if old == nil { // destroyed since
		d.machines.Settle(m.ID, nil)
		return fail(zones.ErrNotExist)
	}
	d.end(old)
	if err = d.remove(old.rec); err == nil {
		var mach *machine
		if mach, err = d.start(ctx, &m); err == nil {
			d.machines.Settle(m.ID, mach)
			h, err := handle(mach.rec)
			return h, zones.OpError("reset", m.ID, err)
		}
		if mach != nil {
			d.end(mach)
		}
		err = errors.Join(err, d.remove(record{ID: m.ID, RunDir: m.RunDir}))
	}
	d.machines.Settle(m.ID, nil)
	return fail(err)
}
