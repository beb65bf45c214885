//go:build cgo

package oci

import (
	"context"

	"github.com/mobulacloud/mobula/zones"
)

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
	l.TmpFS = m.rec.Limits.TmpFS // holds from the next start
	m.rec.Limits = l
	return zones.OpError("update", id, d.save(m.rec))
}
