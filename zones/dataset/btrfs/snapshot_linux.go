package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// Snapshot freezes a dataset, in use or not. The snapshot exists once the record names it.
func (p *Pool) Snapshot(ctx context.Context, name, snap string) (dataset.Snapshot, error) {
	if err := dataset.ValidSnapshot(snap); err != nil {
		return dataset.Snapshot{}, err
	}
	r, unlock, err := p.dir.Edit(ctx, name)
	if err != nil {
		return dataset.Snapshot{}, err
	}
	defer unlock()
	s, err := r.NewSnapshot(name, snap)
	if err != nil {
		return dataset.Snapshot{}, err
	}
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
	r, unlock, err := p.dir.Edit(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	r, s, err := p.dir.ForgetSnapshot(name, r, snap)
	if err != nil {
		return err
	}
	if err := destroy(filepath.Join(p.dir.Dataset(name), "snap"), s.ID); err != nil {
		return err
	}
	return p.commit(r)
}

// Rollback makes the dataset what it was.
func (p *Pool) Rollback(ctx context.Context, name, snap string) error {
	r, unlock, err := p.dir.Edit(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if r, err = p.dir.PlanRollback(name, r, snap); err != nil {
		return err
	}
	if err := pooldir.Save(p.dir.Dataset(name), r); err != nil {
		return err
	}
	return p.rollback(name, r)
}

// rollback carries out what the record has pending. Every step may be repeated, so after a crash it simply runs again.
func (p *Pool) rollback(name string, r pooldir.Record) error {
	dir := p.dir.Dataset(name)
	fail := func(err error) error { return fmt.Errorf("roll back dataset %s: %w", name, mapError(err)) }
	to, after, gone, err := r.RolledBack()
	if err != nil {
		return fail(err)
	}
	again := p.lift(r) // a full quota must not keep anybody from going back
	defer again()
	if err := destroy(dir, "next"); err != nil {
		return fail(err)
	}
	if err := snapshot(p.snap(name, to.ID), dir, "next", false, r.Group); err != nil {
		return fail(err)
	}
	next := filepath.Join(dir, "next")
	err = unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, p.live(name), unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		err = os.Rename(next, p.live(name)) // an earlier attempt lost the old tree
	}
	if err != nil {
		return fail(err)
	}
	if err := pooldir.Save(dir, after); err != nil {
		return fail(err)
	}
	errs := []error{destroy(dir, "next")}
	for _, s := range gone {
		errs = append(errs, destroy(filepath.Join(dir, "snap"), s.ID))
	}
	if err := errors.Join(errs...); err != nil {
		return fail(err)
	}
	return p.commit(after)
}
