package kvm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// thawTime bounds how long a machine's thaw may take; it happens whatever became of the caller.
const thawTime = 30 * time.Second

// Quiesce implements zones.LiveSnapshotter: the guest's processors stand still while f runs, with all it has written in the
// disk files and synced. The guest does not notice but by its clock.
func (d *Driver) Quiesce(ctx context.Context, id string, f func(context.Context) error) error {
	m, err := d.machines.Running("quiesce", id)
	if err != nil {
		return err
	}
	unlock, err := m.lockDisks(ctx)
	if err != nil {
		return zones.OpError("quiesce", id, err)
	}
	defer unlock()
	thaw, err := m.freeze(ctx)
	if err != nil {
		return zones.OpError("quiesce", id, err)
	}
	err = f(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return zones.OpError("quiesce", id, errors.Join(err, thaw()))
}

// freeze stops the guest, which also flushes its disks, and answers what lets it go on. A guest that stood still already stays so.
func (m *machine) freeze(ctx context.Context) (thaw func() error, err error) {
	var status struct{ Running bool }
	if err := m.execute(ctx, "query-status", nil, &status); err != nil {
		return nil, err
	}
	thaw = func() error {
		if !status.Running {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), thawTime)
		defer cancel()
		return m.execute(ctx, "cont", nil, nil)
	}
	if err := m.execute(ctx, "stop", nil, nil); err != nil {
		return nil, errors.Join(err, thaw())
	}
	return thaw, nil
}

// ResizeDisk implements zones.DiskAttacher.
func (d *Driver) ResizeDisk(ctx context.Context, id, path string, size int64) error {
	m, err := d.machines.Running("resize", id)
	if err != nil {
		return err
	}
	i := slices.Index(m.rec.Disks, path)
	switch {
	case i < 0:
		return zones.OpError("resize", id, fmt.Errorf("disk %s: %w", path, zones.ErrNotExist))
	case size <= 0 || size%512 != 0:
		return zones.OpError("resize", id, fmt.Errorf("%w: size %d", zones.ErrInvalid, size))
	}
	return zones.OpError("resize", id, m.execute(ctx, "block_resize", map[string]any{"node-name": diskName(i), "size": size}, nil))
}

// SaveState keeps the machine as it is, memory and disks, under a name inside its disks; all of them must be qcow2. The guest
// stands still meanwhile. Saving to a name that is there already gives zones.ErrExist.
func (d *Driver) SaveState(ctx context.Context, id, name string) error {
	return d.state(ctx, "save state", id, "snapshot-save", name)
}

// LoadState brings the machine back to a state that SaveState kept, running if it ran. zones.ErrNotExist if there is none.
func (d *Driver) LoadState(ctx context.Context, id, name string) error {
	return d.state(ctx, "load state", id, "snapshot-load", name)
}

// DeleteState forgets a state. One that is not there: nil.
func (d *Driver) DeleteState(ctx context.Context, id, name string) error {
	return d.state(ctx, "delete state", id, "snapshot-delete", name)
}

// state runs one of QEMU's snapshot jobs to its end.
func (d *Driver) state(ctx context.Context, op, id, command, name string) error {
	m, err := d.machines.Running(op, id)
	if err != nil {
		return err
	}
	if !zones.ValidSnapshotName(name) {
		return zones.OpError(op, id, fmt.Errorf("%w: name %q", zones.ErrInvalid, name))
	}
	unlock, err := m.lockDisks(ctx)
	if err != nil {
		return zones.OpError(op, id, err)
	}
	defer unlock()
	nodes, err := m.stateNodes(ctx)
	if err != nil {
		return zones.OpError(op, id, err)
	}
	has := m.hasState(ctx, nodes, name)
	switch {
	case command == "snapshot-save" && has:
		return zones.OpError(op, id, fmt.Errorf("state %s: %w", name, zones.ErrExist))
	case command == "snapshot-load" && !has:
		return zones.OpError(op, id, fmt.Errorf("state %s: %w", name, zones.ErrNotExist))
	case command == "snapshot-delete" && !has:
		return nil
	}
	job := make([]byte, 8)
	rand.Read(job)
	args := map[string]any{"job-id": "mobula-" + hex.EncodeToString(job), "tag": name, "devices": nodes}
	if command != "snapshot-delete" {
		args["vmstate"] = nodes[0]
	}
	thaw := func() error { return nil }
	if command == "snapshot-load" {
		if thaw, err = m.freeze(ctx); err != nil { // which QEMU asks of us
			return zones.OpError(op, id, err)
		}
	}
	err = m.execute(ctx, command, args, nil)
	if err == nil {
		err = m.awaitJob(ctx, args["job-id"].(string))
	}
	return zones.OpError(op, id, errors.Join(err, thaw()))
}

// stateNodes are the drives that a state is kept in: the writable ones.
func (m *machine) stateNodes(ctx context.Context) ([]string, error) {
	var blocks []struct {
		NodeName string `json:"node-name"`
		RO       bool   `json:"ro"`
		Drv      string `json:"drv"`
	}
	if err := m.execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &blocks); err != nil {
		return nil, err
	}
	var nodes []string
	for i := range m.rec.Disks {
		for _, b := range blocks {
			if b.NodeName != diskName(i) || b.RO {
				continue
			}
			if b.Drv != "qcow2" {
				return nil, fmt.Errorf("%w: disk %s is %s and keeps no states", zones.ErrNotSupported, m.rec.Disks[i], b.Drv)
			}
			nodes = append(nodes, b.NodeName)
		}
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("%w: no disk to keep a state in", zones.ErrNotSupported)
	}
	return nodes, nil
}

func (m *machine) hasState(ctx context.Context, nodes []string, name string) bool {
	var blocks []struct {
		NodeName string `json:"node-name"`
		Image    struct {
			Snapshots []struct{ Name string }
		}
	}
	if err := m.execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &blocks); err != nil {
		return false
	}
	for _, b := range blocks {
		if b.NodeName != nodes[0] {
			continue
		}
		for _, s := range b.Image.Snapshots {
			if s.Name == name {
				return true
			}
		}
	}
	return false
}

// awaitJob waits for a job's end and clears it away. QEMU tells of it by an event too, but a job asked for cannot be missed.
func (m *machine) awaitJob(ctx context.Context, id string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var jobs []struct {
			ID     string
			Status string
			Error  string
		}
		if err := m.execute(ctx, "query-jobs", nil, &jobs); err != nil {
			return err
		}
		for _, j := range jobs {
			if j.ID != id || j.Status != "concluded" {
				continue
			}
			err := m.execute(ctx, "job-dismiss", map[string]any{"id": id}, nil)
			if j.Error != "" {
				err = errors.Join(errors.New(j.Error), err)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
