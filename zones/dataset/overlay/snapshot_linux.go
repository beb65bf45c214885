package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// Snapshot freezes the writable layer of a dataset that nobody has mounted.
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
	fail := func(err error) (dataset.Snapshot, error) {
		return dataset.Snapshot{}, fmt.Errorf("snapshot %s@%s: %w", name, snap, mapError(err))
	}
	if len(r.Lower) >= maxLayers {
		return fail(fmt.Errorf("%d layers: %w", len(r.Lower), dataset.ErrUnsupported))
	}
	if err := p.idle(name); err != nil {
		return fail(err)
	}
	dir := p.dir.Dataset(name)
	r.Pending = &pooldir.Pending{Verb: "snapshot", Layer: s.ID}
	if err := pooldir.Save(dir, r); err != nil {
		return fail(err)
	}
	s.Lower = append([]string{s.ID}, r.Lower...)
	if err := p.freeze(dir, r, s); err != nil {
		return fail(errors.Join(err, p.unfreeze(dir, r)))
	}
	return dataset.Snapshot{Name: s.Name, Created: s.Created}, nil
}

// freeze makes the writable layer a read-only one with a fresh one on top. The record's last save is what counts.
func (p *Pool) freeze(dir string, r pooldir.Record, s pooldir.Snapshot) error {
	if err := os.Rename(filepath.Join(dir, "upper"), p.layer(s.ID)); err != nil {
		return err
	}
	if !r.Volatile {
		if err := pooldir.SyncDir(filepath.Join(p.path, "layers")); err != nil {
			return err
		}
	}
	if err := p.freshUpper(dir, s.Lower); err != nil {
		return err
	}
	r.Lower, r.Snapshots, r.Pending = s.Lower, append(slices.Clone(r.Snapshots), s), nil
	return pooldir.Save(dir, r)
}

// unfreeze undoes a freeze whose record was not saved. It may be repeated.
func (p *Pool) unfreeze(dir string, r pooldir.Record) error {
	upper, layer := filepath.Join(dir, "upper"), p.layer(r.Pending.Layer)
	if _, err := os.Lstat(layer); err == nil {
		// What is called upper now, if anything, is the fresh one, into which nobody wrote.
		if err := os.RemoveAll(upper); err != nil {
			return err
		}
		if err := os.Rename(layer, upper); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "work"), 0o700); err != nil {
		return err
	}
	r.Pending = nil
	return pooldir.Save(dir, r)
}

// DeleteSnapshot forgets a snapshot. Its layer stays as long as the dataset or a newer snapshot stands on it.
func (p *Pool) DeleteSnapshot(ctx context.Context, name, snap string) error {
	r, unlock, err := p.dir.Edit(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if _, _, err := p.dir.ForgetSnapshot(name, r, snap); err != nil {
		return err
	}
	return p.sweep()
}

func (p *Pool) sweep() error {
	gone, err := p.withdrawLayers()
	for _, g := range gone {
		err = errors.Join(err, os.RemoveAll(g))
	}
	return err
}

// Rollback throws the writable layer away and stands the dataset on the snapshot's layers again.
func (p *Pool) Rollback(ctx context.Context, name, snap string) error {
	r, unlock, err := p.dir.Edit(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if r, err = p.dir.PlanRollback(name, r, snap); err != nil {
		return err
	}
	if err := p.idle(name); err != nil {
		return fmt.Errorf("roll back to %s@%s: %w", name, snap, err)
	}
	if err := pooldir.Save(p.dir.Dataset(name), r); err != nil {
		return err
	}
	if err := p.rollback(name, r); err != nil {
		return fmt.Errorf("roll back to %s@%s: %w", name, snap, mapError(err))
	}
	return p.sweep()
}

// rollback carries out what the record has pending; it may be repeated.
func (p *Pool) rollback(name string, r pooldir.Record) error {
	to, after, _, err := r.RolledBack()
	if err != nil {
		return err
	}
	dir := p.dir.Dataset(name)
	old := p.dir.Temp()
	if err := os.Rename(filepath.Join(dir, "upper"), old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	after.Lower = to.Lower
	if err := p.freshUpper(dir, after.Lower); err != nil {
		return err
	}
	if err := pooldir.Save(dir, after); err != nil {
		return err
	}
	return os.RemoveAll(old)
}
