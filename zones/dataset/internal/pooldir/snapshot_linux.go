package pooldir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// What pools of all kinds do alike with the snapshots in a record.

// Edit takes the pool's lock and reads a dataset's record.
func (d *Dir) Edit(ctx context.Context, name string) (r Record, unlock func(), err error) {
	if unlock, err = d.Lock(ctx); err != nil {
		return r, nil, err
	}
	if r, err = d.Load(name); err != nil {
		unlock()
		return r, nil, err
	}
	return r, unlock, nil
}

// NewSnapshot describes a snapshot that is about to be made; [dataset.ErrExist] if the name is taken.
func (r *Record) NewSnapshot(name, snap string) (Snapshot, error) {
	if r.Find(snap) >= 0 {
		return Snapshot{}, fmt.Errorf("snapshot %s@%s: %w", name, snap, dataset.ErrExist)
	}
	return Snapshot{ID: uuid.NewString(), Name: snap, Created: time.Now().UTC()}, nil
}

// find gives the index of a snapshot by name, or [dataset.ErrNotExist].
func (r *Record) find(name, snap string) (int, error) {
	i := r.Find(snap)
	if i < 0 {
		return i, fmt.Errorf("snapshot %s@%s: %w", name, snap, dataset.ErrNotExist)
	}
	return i, nil
}

// ForgetSnapshot takes a snapshot on which no clone stands out of the stored record, and gives both.
func (d *Dir) ForgetSnapshot(name string, r Record, snap string) (Record, Snapshot, error) {
	i, err := r.find(name, snap)
	if err != nil {
		return r, Snapshot{}, err
	}
	s := r.Snapshots[i]
	if err := d.RefuseDependents(fmt.Sprintf("delete snapshot %s@%s", name, snap), r.ID, s.ID); err != nil {
		return r, s, err
	}
	r.Snapshots = slices.Delete(slices.Clone(r.Snapshots), i, i+1)
	return r, s, Save(d.Dataset(name), r)
}

// PlanRollback gives the record as it is to be stored before a rollback, unless a clone stands on a newer snapshot.
func (d *Dir) PlanRollback(name string, r Record, snap string) (Record, error) {
	i, err := r.find(name, snap)
	if err != nil {
		return r, err
	}
	var newer []string
	for _, s := range r.Snapshots[i+1:] {
		newer = append(newer, s.ID)
	}
	if len(newer) > 0 {
		if err := d.RefuseDependents(fmt.Sprintf("roll back to %s@%s", name, snap), r.ID, newer...); err != nil {
			return r, err
		}
	}
	r.Pending = &Pending{Verb: "rollback", Snapshot: r.Snapshots[i].ID}
	return r, nil
}

// RolledBack gives the snapshot that a pending rollback goes to, the record as it is to be stored after it, and the newer snapshots that are then
// gone.
func (r Record) RolledBack() (to Snapshot, after Record, gone []Snapshot, err error) {
	i := slices.IndexFunc(r.Snapshots, func(s Snapshot) bool { return s.ID == r.Pending.Snapshot })
	if i < 0 {
		return to, r, nil, fmt.Errorf("the record names no snapshot %s", r.Pending.Snapshot)
	}
	to, gone = r.Snapshots[i], r.Snapshots[i+1:]
	r.Snapshots, r.Pending = slices.Clone(r.Snapshots[:i+1]), nil
	return to, r, gone, nil
}

// Repair takes the pool's lock, so nobody is in the middle of anything, has settle called for every record, removes what was being written in
// its directory, and calls last.
func (d *Dir) Repair(ctx context.Context, settle func(name string, r Record) error, last func() error) error {
	unlock, err := d.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := d.All()
	if err != nil {
		return err
	}
	for name, r := range all {
		err := settle(name, r)
		stray, _ := filepath.Glob(filepath.Join(d.Dataset(name), ".new-*"))
		for _, s := range stray {
			err = errors.Join(err, os.Remove(s))
		}
		if err != nil {
			return fmt.Errorf("repair dataset %s: %w", name, err)
		}
	}
	return last()
}
