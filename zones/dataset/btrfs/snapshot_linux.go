package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// Snapshot freezes a dataset, in use or not. The snapshot exists once the record names it.
func (p *Pool) Snapshot(ctx context.Context, name, snap string) (dataset.Snapshot, error) {
	if err := dataset.ValidSnapshot(snap); err != nil {
		return dataset.Snapshot{}, err
	}
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return dataset.Snapshot{}, err
	}
	defer unlock()
	r, err := p.dir.Load(name)
	if err != nil {
		return dataset.Snapshot{}, err
	}
	if r.Find(snap) >= 0 {
		return dataset.Snapshot{}, fmt.Errorf("snapshot %s@%s: %w", name, snap, dataset.ErrExist)
	}
	s := pooldir.Snapshot{ID: uuid.NewString(), Name: snap, Created: time.Now().UTC()}
	dir := p.dir.Dataset(name)
	if err := snapshot(p.live(name), filepath.Join(dir, "snap"), s.ID, true, r.Group); err != nil {
		return dataset.Snapshot{}, fmt.Errorf("snapshot %s@%s: %w", name, snap, mapError(err))
	}
	r.Snapshots = append(r.Snapshots, s)
	if err := pooldir.Save(dir, r); err != nil {
		destroy(filepath.Join(dir, "snap"), s.ID)
		return dataset.Snapshot{}, err
	}
	return dataset.Snapshot{Name: s.Name, Created: s.Created}, p.commit(r)
}

// DeleteSnapshot forgets a snapshot: the record first, then the subvolume.
func (p *Pool) DeleteSnapshot(ctx context.Context, name, snap string) error {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := p.dir.Load(name)
	if err != nil {
		return err
	}
	i := r.Find(snap)
	if i < 0 {
		return fmt.Errorf("snapshot %s@%s: %w", name, snap, dataset.ErrNotExist)
	}
	s := r.Snapshots[i]
	if err := p.dir.RefuseDependents(fmt.Sprintf("delete snapshot %s@%s", name, snap), r.ID, s.ID); err != nil {
		return err
	}
	r.Snapshots = slices.Delete(slices.Clone(r.Snapshots), i, i+1)
	dir := p.dir.Dataset(name)
	if err := pooldir.Save(dir, r); err != nil {
		return err
	}
	if err := destroy(filepath.Join(dir, "snap"), s.ID); err != nil {
		return err
	}
	return p.commit(r)
}

// Rollback makes the dataset what it was.
func (p *Pool) Rollback(ctx context.Context, name, snap string) error {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := p.dir.Load(name)
	if err != nil {
		return err
	}
	i := r.Find(snap)
	if i < 0 {
		return fmt.Errorf("snapshot %s@%s: %w", name, snap, dataset.ErrNotExist)
	}
	var newer []string
	for _, s := range r.Snapshots[i+1:] {
		newer = append(newer, s.ID)
	}
	if len(newer) > 0 {
		if err := p.dir.RefuseDependents(fmt.Sprintf("roll back to %s@%s", name, snap), r.ID, newer...); err != nil {
			return err
		}
	}
	r.Pending = &pooldir.Pending{Verb: "rollback", Snapshot: r.Snapshots[i].ID}
	if err := pooldir.Save(p.dir.Dataset(name), r); err != nil {
		return err
	}
	return p.rollback(name, r)
}

// rollback carries out what the record has pending. Every step may be repeated, so after a crash it simply runs again.
func (p *Pool) rollback(name string, r pooldir.Record) error {
	i := slices.IndexFunc(r.Snapshots, func(s pooldir.Snapshot) bool { return s.ID == r.Pending.Snapshot })
	if i < 0 {
		return fmt.Errorf("roll back dataset %s: its record names no snapshot %s", name, r.Pending.Snapshot)
	}
	dir := p.dir.Dataset(name)
	fail := func(err error) error { return fmt.Errorf("roll back dataset %s: %w", name, mapError(err)) }
	again := p.lift(r) // a full quota must not keep anybody from going back
	defer again()
	if err := destroy(dir, "next"); err != nil {
		return fail(err)
	}
	if err := snapshot(p.snap(name, r.Snapshots[i].ID), dir, "next", false, r.Group); err != nil {
		return fail(err)
	}
	next := filepath.Join(dir, "next")
	err := unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, p.live(name), unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		err = os.Rename(next, p.live(name)) // an earlier attempt lost the old tree
	}
	if err != nil {
		return fail(err)
	}
	gone := r.Snapshots[i+1:]
	r.Snapshots, r.Pending = slices.Clone(r.Snapshots[:i+1]), nil
	if err := pooldir.Save(dir, r); err != nil {
		return fail(err)
	}
	errs := []error{destroy(dir, "next")}
	for _, s := range gone {
		errs = append(errs, destroy(filepath.Join(dir, "snap"), s.ID))
	}
	if err := errors.Join(errs...); err != nil {
		return fail(err)
	}
	return p.commit(r)
}
