package btrfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// repair finishes what killed processes left: pending changes are carried out, trees that no record names are deleted,
// limits are set as recorded.
func (p *Pool) repair(ctx context.Context) error {
	return p.dir.Repair(ctx, p.repairOne, p.sweepGroups)
}

func (p *Pool) repairOne(name string, r pooldir.Record) error {
	dir := p.dir.Dataset(name)
	if r.Pending != nil {
		p.log.Info("finish what was under way", "dataset", name, "verb", r.Pending.Verb)
		if err := p.rollback(name, r); err != nil {
			return err
		}
		var err error
		if r, err = pooldir.Load(dir); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "next")); err == nil {
		if err := destroy(dir, "next"); err != nil {
			return err
		}
	}
	snaps, err := os.ReadDir(filepath.Join(dir, "snap"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, s := range snaps {
		if !slices.ContainsFunc(r.Snapshots, func(k pooldir.Snapshot) bool { return k.ID == s.Name() }) {
			p.log.Info("remove a snapshot that was not finished", "dataset", name)
			if err := destroy(filepath.Join(dir, "snap"), s.Name()); err != nil {
				return err
			}
		}
	}
	if p.mode != quotaOff && r.Quota != 0 {
		return limitGroup(int(p.fs.Fd()), p.mode, r.Group, r.Quota)
	}
	return nil
}
