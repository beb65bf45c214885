package overlay

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
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// Snapshot freezes the writable layer of a dataset that nobody has mounted.
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
	fail := func(err error) (dataset.Snapshot, error) {
		return dataset.Snapshot{}, fmt.Errorf("snapshot %s@%s: %w", name, snap, mapError(err))
	}
	if r.Find(snap) >= 0 {
		return fail(dataset.ErrExist)
	}
	if len(r.Lower) >= maxLayers {
		return fail(fmt.Errorf("%d layers: %w", len(r.Lower), dataset.ErrUnsupported))
	}
	if err := p.idle(name); err != nil {
		return fail(err)
	}
	id := uuid.NewString()
	dir := p.dir.Dataset(name)
	r.Pending = &pooldir.Pending{Verb: "snapshot", Layer: id}
	if err := pooldir.Save(dir, r); err != nil {
		return fail(err)
	}
	s := pooldir.Snapshot{ID: id, Name: snap, Created: time.Now().UTC(), Lower: append([]string{id}, r.Lower...)}
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
	if err := p.dir.RefuseDependents(fmt.Sprintf("delete snapshot %s@%s", name, snap), r.ID, r.Snapshots[i].ID); err != nil {
		return err
	}
	r.Snapshots = slices.Delete(slices.Clone(r.Snapshots), i, i+1)
	if err := pooldir.Save(p.dir.Dataset(name), r); err != nil {
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
	if err := p.idle(name); err != nil {
		return fmt.Errorf("roll back to %s@%s: %w", name, snap, err)
	}
	r.Pending = &pooldir.Pending{Verb: "rollback", Snapshot: r.Snapshots[i].ID}
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
	i := slices.IndexFunc(r.Snapshots, func(s pooldir.Snapshot) bool { return s.ID == r.Pending.Snapshot })
	if i < 0 {
		return fmt.Errorf("the record names no snapshot %s", r.Pending.Snapshot)
	}
	dir := p.dir.Dataset(name)
	old := p.dir.Temp()
	if err := os.Rename(filepath.Join(dir, "upper"), old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	r.Lower = r.Snapshots[i].Lower
	if err := p.freshUpper(dir, r.Lower); err != nil {
		return err
	}
	r.Snapshots, r.Pending = slices.Clone(r.Snapshots[:i+1]), nil
	if err := pooldir.Save(dir, r); err != nil {
		return err
	}
	return os.RemoveAll(old)
}
