package overlay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// Config says where a pool is.
type Config struct {
	// Dir is the pool's directory. Required.
	Dir string
	// Log hears of repairs; nil discards.
	Log *slog.Logger
}

// Pool is a [dataset.Pool] of overlayfs stacks.
type Pool struct {
	dir  *pooldir.Dir
	path string
	log  *slog.Logger
}

var _ dataset.Pool = (*Pool)(nil)

// Open opens a pool, making what is not there yet, and finishes or undoes what a killed process left. It needs root's rights.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	if cfg.Dir == "" {
		return nil, errors.New("open overlay pool: no directory given")
	}
	p := &Pool{log: cfg.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if p.path, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if err := p.open(ctx); err != nil {
		return nil, fmt.Errorf("open overlay pool %s: %w", p.path, err)
	}
	return p, nil
}

func (p *Pool) open(ctx context.Context) (err error) {
	// Nobody but root passes: a machine's set-uid files are root's outside as well.
	if err := os.MkdirAll(filepath.Join(p.path, "layers", emptyLayer), 0o700); err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(p.path, 0o700), os.Chmod(p.layer(emptyLayer), 0o755)); err != nil {
		return err
	}
	if p.dir, err = pooldir.Open(p.path, "overlay", os.RemoveAll); err != nil {
		return err
	}
	if err := p.repair(ctx); err != nil {
		p.dir.Close()
		return err
	}
	return nil
}

// Capabilities says what the pool keeps.
func (p *Pool) Capabilities() dataset.Capabilities {
	return dataset.Capabilities{Driver: "overlay", ConstantSnapshot: true, Growable: true, SendFormat: "tar"}
}

// Get describes a dataset.
func (p *Pool) Get(ctx context.Context, name string) (dataset.Info, error) {
	return p.dir.Get(ctx, name)
}

// List describes all datasets.
func (p *Pool) List(ctx context.Context) ([]dataset.Info, error) { return p.dir.List(ctx) }

// Close gives up this process's hold on the pool.
func (p *Pool) Close() error { return p.dir.Close() }

// Create makes an empty dataset.
func (p *Pool) Create(ctx context.Context, name string, o dataset.Options) (dataset.Info, error) {
	return p.make(ctx, name, o, nil)
}

// Clone makes a dataset that stands on a snapshot's layers.
func (p *Pool) Clone(ctx context.Context, origin dataset.Ref, name string, o dataset.Options) (dataset.Info, error) {
	return p.make(ctx, name, o, &origin)
}

func (p *Pool) make(ctx context.Context, name string, o dataset.Options, origin *dataset.Ref) (dataset.Info, error) {
	if err := check(o); err != nil {
		return dataset.Info{}, fmt.Errorf("create dataset %s: %w", name, err)
	}
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return dataset.Info{}, err
	}
	defer unlock()
	if err := p.dir.Free(name); err != nil {
		return dataset.Info{}, err
	}
	r := pooldir.Record{Lower: []string{emptyLayer}}
	if origin != nil {
		from, err := p.dir.Load(origin.Dataset)
		if err != nil {
			return dataset.Info{}, err
		}
		i := from.Find(origin.Snapshot)
		if i < 0 {
			return dataset.Info{}, fmt.Errorf("snapshot %s: %w", origin, dataset.ErrNotExist)
		}
		r.Origin = pooldir.Origin{Dataset: from.ID, Name: origin.Dataset, Snapshot: from.Snapshots[i].ID}
		r.Lower = from.Snapshots[i].Lower
	}
	tmp, r, err := p.build(r, o)
	if err == nil {
		err = p.dir.Publish(tmp, name, !o.Volatile)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return dataset.Info{}, fmt.Errorf("create dataset %s: %w", name, mapError(err))
	}
	return p.dir.Info(name, r), nil
}

// build makes a dataset's directory in tmp. Its top takes after the layer below.
func (p *Pool) build(r pooldir.Record, o dataset.Options) (string, pooldir.Record, error) {
	tmp := p.dir.Temp()
	r.ID, r.Created, r.Volatile = uuid.NewString(), time.Now().UTC(), o.Volatile
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return tmp, r, err
	}
	if err := p.freshUpper(tmp, r.Lower); err != nil {
		return tmp, r, err
	}
	return tmp, r, pooldir.Save(tmp, r)
}

func check(o dataset.Options) error {
	if o.Quota != 0 || o.Within != "" {
		return fmt.Errorf("quota on an overlay pool: %w", dataset.ErrUnsupported)
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

// Delete removes a dataset and the layers that nothing else stands on.
func (p *Pool) Delete(ctx context.Context, name string) error {
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	once := sync.OnceFunc(unlock)
	defer once()
	r, err := p.dir.Load(name)
	if err != nil {
		return err
	}
	if len(r.Snapshots) > 0 {
		if err := p.dir.RefuseDependents("delete dataset "+name, r.ID); err != nil {
			return err
		}
	}
	tmp, err := p.dir.Withdraw(name)
	if err != nil {
		return err
	}
	gone, err := p.withdrawLayers()
	once()
	// From here the dataset is gone; what is left over goes with the next Open.
	for _, path := range append(gone, tmp) {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		p.log.Warn("remains of dataset", "dataset", name, "err", err)
	}
	return nil
}

// SetQuota can only lift what is not there.
func (p *Pool) SetQuota(_ context.Context, name string, bytes int64) error {
	if _, err := p.dir.Load(name); err != nil {
		return err
	}
	return check(dataset.Options{Quota: bytes})
}

// Usage adds up the dataset's own layers: the writable one and its snapshots', not those of its origin.
func (p *Pool) Usage(ctx context.Context, name string) (dataset.Usage, error) {
	r, err := p.dir.Load(name)
	if err != nil {
		return dataset.Usage{}, err
	}
	used, err := pooldir.DiskUsage(ctx, filepath.Join(p.dir.Dataset(name), "upper"))
	if err != nil {
		return dataset.Usage{}, err
	}
	own := map[string]bool{}
	for _, l := range r.Lower {
		own[l] = true
	}
	for _, s := range r.Snapshots {
		for _, l := range s.Lower {
			own[l] = true
		}
	}
	if all, err := p.dir.All(); err == nil {
		for _, o := range all {
			if o.ID != r.Origin.Dataset {
				continue
			}
			for _, s := range o.Snapshots {
				if s.ID == r.Origin.Snapshot {
					for _, l := range s.Lower {
						delete(own, l)
					}
				}
			}
		}
	}
	for l := range own {
		n, err := pooldir.DiskUsage(ctx, p.layer(l))
		if err != nil {
			return dataset.Usage{}, err
		}
		used += n
	}
	return dataset.Usage{Used: used}, nil
}

// Stats says how full the file system is that the pool lies on.
func (p *Pool) Stats(ctx context.Context) (dataset.Stats, error) {
	all, err := p.dir.List(ctx)
	if err != nil {
		return dataset.Stats{}, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p.path, &st); err != nil {
		return dataset.Stats{}, err
	}
	return dataset.Stats{Size: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize, Datasets: len(all)}, nil
}

// Root gives the dataset's stack.
func (p *Pool) Root(_ context.Context, name string) (dataset.Root, error) {
	r, err := p.dir.Load(name)
	if err != nil {
		return dataset.Root{}, err
	}
	dir := p.dir.Dataset(name)
	return dataset.Root{Lower: p.layers(r.Lower), Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}, nil
}

// SnapshotRoot gives a snapshot's stack.
func (p *Pool) SnapshotRoot(_ context.Context, ref dataset.Ref) (dataset.Root, error) {
	r, err := p.dir.Load(ref.Dataset)
	if err != nil {
		return dataset.Root{}, err
	}
	i := r.Find(ref.Snapshot)
	if i < 0 {
		return dataset.Root{}, fmt.Errorf("snapshot %s: %w", ref, dataset.ErrNotExist)
	}
	return dataset.Root{Lower: p.layers(r.Snapshots[i].Lower), ReadOnly: true}, nil
}

func mapError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", dataset.ErrNoSpace, err)
	}
	return err
}
