package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// Create makes an empty dataset.
func (p *Pool) Create(ctx context.Context, name string, o dataset.Options) (dataset.Info, error) {
	return p.make(ctx, name, o, nil)
}

// Clone makes a dataset from a snapshot.
func (p *Pool) Clone(ctx context.Context, origin dataset.Ref, name string, o dataset.Options) (dataset.Info, error) {
	return p.make(ctx, name, o, &origin)
}

// make builds the dataset in tmp and publishes it by one rename.
func (p *Pool) make(ctx context.Context, name string, o dataset.Options, origin *dataset.Ref) (dataset.Info, error) {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return dataset.Info{}, err
	}
	once := sync.OnceFunc(unlock)
	defer once()
	if err := p.dir.Free(name); err != nil {
		return dataset.Info{}, err
	}
	p.room()
	src, r := "", pooldir.Record{}
	if origin != nil {
		from, err := p.dir.Load(origin.Dataset)
		if err != nil {
			return dataset.Info{}, err
		}
		i := from.Find(origin.Snapshot)
		if i < 0 {
			return dataset.Info{}, fmt.Errorf("snapshot %s: %w", origin, dataset.ErrNotExist)
		}
		src = p.snap(origin.Dataset, from.Snapshots[i].ID)
		r.Origin = pooldir.Origin{Dataset: from.ID, Name: origin.Dataset, Snapshot: from.Snapshots[i].ID}
	}
	tmp, r, err := p.build(r, o, src)
	if err == nil {
		err = p.dir.Publish(tmp, name, false)
	}
	if err != nil {
		removeTree(tmp)
		return dataset.Info{}, fmt.Errorf("create dataset %s: %w", name, mapError(err))
	}
	once() // others may go on while we wait for the disk
	return p.dir.Info(name, r), p.commit(r)
}

// build makes a dataset's directory in tmp: a subvolume, empty or a snapshot of src, and its record.
func (p *Pool) build(r pooldir.Record, o dataset.Options, src string) (string, pooldir.Record, error) {
	tmp := p.dir.Temp()
	r.ID, r.Created, r.Quota, r.Volatile = uuid.NewString(), time.Now().UTC(), o.Quota, o.Volatile
	if err := p.checkQuota(o); err != nil {
		return tmp, r, err
	}
	if p.mode != quotaOff {
		if o.Within != "" {
			in, err := p.dir.Load(o.Within)
			if err != nil {
				return tmp, r, err
			}
			r.Group = in.Group
		} else {
			var err error
			if r.Group, err = p.newGroup(); err != nil {
				return tmp, r, err
			}
			if o.Quota != 0 {
				if err := limitGroup(int(p.fs.Fd()), p.mode, r.Group, o.Quota); err != nil {
					return tmp, r, err
				}
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(tmp, "snap"), 0o700); err != nil {
		return tmp, r, err
	}
	if src == "" {
		if err := create(tmp, "root", nil, false, r.Group); err != nil {
			return tmp, r, err
		}
		if err := os.Chmod(filepath.Join(tmp, "root"), 0o755); err != nil {
			return tmp, r, err
		}
	} else if err := snapshot(src, tmp, "root", false, r.Group); err != nil {
		return tmp, r, err
	}
	return tmp, r, pooldir.Save(tmp, r)
}

func (p *Pool) checkQuota(o dataset.Options) error {
	switch {
	case o.Quota < 0:
		return fmt.Errorf("quota %d: negative", o.Quota)
	case o.Quota > 0 && o.Within != "":
		return errors.New("a dataset within another's quota has none of its own")
	case (o.Quota > 0 || o.Within != "") && p.mode == quotaOff:
		return fmt.Errorf("quota: %w", dataset.ErrUnsupported)
	}
	return nil
}

// Rename gives a dataset another name.
func (p *Pool) Rename(ctx context.Context, from, to string) error {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return p.dir.Rename(from, to)
}

// Delete removes a dataset. Its blocks are freed by the kernel in the background.
func (p *Pool) Delete(ctx context.Context, name string) error {
	tmp, err := p.withdraw(ctx, name)
	if err != nil {
		return err
	}
	// From here the dataset is gone; what is left over goes with the next Open.
	if err := p.remove(tmp); err != nil {
		p.log.Warn("remains of dataset", "dataset", name, "err", err)
	}
	if err := p.sweepGroupsAlone(ctx); err != nil {
		p.log.Warn("quota groups left", "err", err)
	}
	return nil
}

func (p *Pool) withdraw(ctx context.Context, name string) (string, error) {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	r, err := p.dir.Load(name)
	if err != nil {
		return "", err
	}
	if len(r.Snapshots) > 0 {
		if err := p.dir.RefuseDependents("delete dataset "+name, r.ID); err != nil {
			return "", err
		}
	}
	return p.dir.Withdraw(name)
}

// SetQuota limits a dataset.
func (p *Pool) SetQuota(ctx context.Context, name string, bytes int64) error {
	if err := p.checkQuota(dataset.Options{Quota: bytes}); err != nil {
		return fmt.Errorf("dataset %s: %w", name, err)
	}
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := p.dir.Load(name)
	if err != nil {
		return err
	}
	if p.mode == quotaOff {
		return nil // lifting what is not there
	}
	r.Quota = bytes
	// The record first: a limit that the record does not know would outlive a crash, the other way repair sets it.
	if err := pooldir.Save(p.dir.Dataset(name), r); err != nil {
		return err
	}
	if err := limitGroup(int(p.fs.Fd()), p.mode, r.Group, bytes); err != nil {
		return fmt.Errorf("dataset %s: %w", name, err)
	}
	return p.commit(r)
}

// remove is removeTree for whole datasets. A quota that is used up would keep the kernel from deleting what is nested, so
// limits are lifted first.
func (p *Pool) remove(path string) error {
	records, _ := filepath.Glob(filepath.Join(path, "record.json"))
	deeper, _ := filepath.Glob(filepath.Join(path, "*", "record.json"))
	for _, f := range append(records, deeper...) {
		if r, err := pooldir.Load(filepath.Dir(f)); err == nil && r.Quota != 0 {
			p.lift(r)
		}
	}
	return removeTree(path)
}

// lift takes a dataset's limit away for a while, and gives back what puts it there again.
func (p *Pool) lift(r pooldir.Record) (again func() error) {
	if p.mode == quotaOff || r.Quota == 0 {
		return func() error { return nil }
	}
	_ = limitGroup(int(p.fs.Fd()), p.mode, r.Group, 0)
	return func() error { return limitGroup(int(p.fs.Fd()), p.mode, r.Group, r.Quota) }
}

// removeTree deletes a directory of the pool's with the subvolumes in it.
func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := filepath.Join(path, e.Name())
		switch {
		case !e.IsDir():
			err = os.Remove(p)
		case isSubvol(p):
			err = destroy(path, e.Name())
		default:
			err = removeTree(p)
		}
		if err != nil {
			return err
		}
	}
	return os.Remove(path)
}

func mapError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", dataset.ErrNoSpace, err)
	}
	return err
}
