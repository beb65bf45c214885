package btrfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

// Config says where a pool is.
type Config struct {
	// Dir is the pool's directory. It lies on btrfs, or, with File, is where the file's file system is mounted. Required.
	Dir string
	// File is a sparse file that holds the pool's own file system. It is made if it does not exist; empty uses the file system that
	// Dir is on.
	File string
	// Size is a new file's, in bytes: at least 256 MiB, 0 for 8 GiB. It takes disk space as it fills.
	Size int64
	// MaxSize is how far the file grows by itself; 0 for 64 times Size, less than Size for never.
	MaxSize int64
	// NoQuota leaves quotas off where they are not on already; the pool then declares that it has none.
	NoQuota bool
	// Log hears of repairs and growth; nil discards.
	Log *slog.Logger

	fullQuota bool // tests: as on kernels before 6.7
}

// Pool is a [dataset.Pool] on btrfs.
type Pool struct {
	cfg    Config
	dir    *pooldir.Dir
	fs     *os.File // the pool's directory, for ioctls on the whole file system
	mode   quotaMode
	inode  uint64 // of the pool's directory
	owned  bool   // the file system is the pool's alone
	device string // loop device
	log    *slog.Logger
}

var _ dataset.Pool = (*Pool)(nil)

// Open opens a pool, making what is not there yet, finishes or undoes what a killed process left, and turns quotas
// on. It needs root's rights. The loop file's mount outlives the process, and Close; [Pool.Unmount] ends it.
func Open(ctx context.Context, cfg Config) (*Pool, error) {
	p := &Pool{cfg: cfg, log: cfg.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if err := p.configure(); err != nil {
		return nil, fmt.Errorf("open btrfs pool: %w", err)
	}
	if err := p.open(ctx); err != nil {
		if p.fs != nil {
			p.fs.Close()
		}
		return nil, fmt.Errorf("open btrfs pool %s: %w", p.cfg.Dir, err)
	}
	return p, nil
}

func (p *Pool) configure() (err error) {
	c := &p.cfg
	if c.Dir == "" {
		return errors.New("no directory given")
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	if c.File == "" {
		return nil
	}
	if c.File, err = filepath.Abs(c.File); err != nil {
		return err
	}
	if c.Size == 0 {
		c.Size = 8 << 30
	}
	if c.Size < minSize {
		return fmt.Errorf("size %d: at least %d bytes", c.Size, int64(minSize))
	}
	if c.MaxSize == 0 {
		c.MaxSize = 64 * c.Size
	}
	return nil
}

func (p *Pool) open(ctx context.Context) (err error) {
	if p.cfg.File != "" {
		if p.device, err = mountFile(ctx, p.cfg); err != nil {
			return err
		}
		p.owned = true
	} else if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p.cfg.Dir, &st); err != nil {
		return err
	}
	if uint32(st.Type) != superMagic {
		return fmt.Errorf("not on btrfs: %w", dataset.ErrUnsupported)
	}
	if p.fs, err = os.Open(p.cfg.Dir); err != nil {
		return err
	}
	var dir unix.Stat_t
	if err := unix.Fstat(int(p.fs.Fd()), &dir); err != nil {
		return err
	}
	p.inode = dir.Ino
	// Nobody but root passes: a machine's set-uid files are root's outside as well.
	if err := p.fs.Chmod(0o700); err != nil {
		return err
	}
	if p.cfg.NoQuota {
		p.mode, _, err = readQuotaMode(int(p.fs.Fd()))
	} else {
		p.mode, err = enableQuota(int(p.fs.Fd()), p.cfg.fullQuota)
	}
	if err != nil {
		return err
	}
	if p.dir, err = pooldir.Open(p.cfg.Dir, "btrfs", p.remove); err != nil {
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
	return dataset.Capabilities{
		Driver: "btrfs", Quota: p.mode != quotaOff, SharedQuota: p.mode != quotaOff, LiveSnapshot: true, IncrementalSend: true,
		FastUsage: p.mode != quotaOff, ConstantSnapshot: true, Checksums: true,
		Growable: p.cfg.File != "" && p.cfg.MaxSize > p.cfg.Size, SendFormat: "btrfs",
	}
}

// Get describes a dataset.
func (p *Pool) Get(ctx context.Context, name string) (dataset.Info, error) {
	return p.dir.Get(ctx, name)
}

// List describes all datasets.
func (p *Pool) List(ctx context.Context) ([]dataset.Info, error) { return p.dir.List(ctx) }

// Root is where a dataset's subvolume is.
func (p *Pool) Root(_ context.Context, name string) (dataset.Root, error) {
	if _, err := p.dir.Load(name); err != nil {
		return dataset.Root{}, err
	}
	return dataset.Root{Dir: p.live(name)}, nil
}

// SnapshotRoot is where a snapshot's subvolume is.
func (p *Pool) SnapshotRoot(_ context.Context, ref dataset.Ref) (dataset.Root, error) {
	r, err := p.dir.Load(ref.Dataset)
	if err != nil {
		return dataset.Root{}, err
	}
	i := r.Find(ref.Snapshot)
	if i < 0 {
		return dataset.Root{}, fmt.Errorf("snapshot %s: %w", ref, dataset.ErrNotExist)
	}
	return dataset.Root{Dir: p.snap(ref.Dataset, r.Snapshots[i].ID), ReadOnly: true}, nil
}

// Usage reads the dataset's quota group after a commit, so that it counts what was written before the call.
func (p *Pool) Usage(ctx context.Context, name string) (dataset.Usage, error) {
	r, err := p.dir.Load(name)
	if err != nil {
		return dataset.Usage{}, err
	}
	if p.mode == quotaOff {
		return p.walkUsage(ctx, name)
	}
	if err := p.flush(); err != nil {
		return dataset.Usage{}, err
	}
	u := dataset.Usage{Quota: r.Quota}
	err = groups(int(p.fs.Fd()), func(id uint64, bytes int64) {
		if id == r.Group {
			u.Used = max(bytes, 0)
		}
	})
	if err != nil {
		return u, fmt.Errorf("usage of dataset %s: %w", name, err)
	}
	return u, nil
}

func (p *Pool) walkUsage(ctx context.Context, name string) (dataset.Usage, error) {
	n, err := pooldir.DiskUsage(ctx, p.live(name))
	return dataset.Usage{Used: n}, err
}

// Stats says how full the file system is.
func (p *Pool) Stats(ctx context.Context) (dataset.Stats, error) {
	all, err := p.dir.List(ctx)
	if err != nil {
		return dataset.Stats{}, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(p.fs.Fd()), &st); err != nil {
		return dataset.Stats{}, err
	}
	return dataset.Stats{Size: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize, Datasets: len(all)}, nil
}

// Close gives up this process's hold on the pool.
func (p *Pool) Close() error {
	return errors.Join(p.dir.Close(), p.fs.Close())
}

// Unmount closes the pool and unmounts its loop file, whose loop device then goes by itself. With datasets still
// mounted somewhere the file system lives on until they are gone; Unmount waits up to three seconds for that.
func (p *Pool) Unmount() error {
	if err := p.Close(); err != nil {
		return err
	}
	if p.cfg.File == "" {
		return nil
	}
	// What machines had open goes a moment after they have ended, mounts of theirs too, and the loop device with the last of them: the kernel tells nobody.
	const moment = 10 * time.Millisecond
	err := unix.Unmount(p.cfg.Dir, unix.UMOUNT_NOFOLLOW)
	for range 300 {
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(moment)
		err = unix.Unmount(p.cfg.Dir, unix.UMOUNT_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", p.cfg.Dir, err)
	}
	for range 300 {
		if dev, err := attached(p.cfg.File); err != nil || dev == "" {
			break
		}
		time.Sleep(moment)
	}
	return nil
}

func (p *Pool) live(name string) string     { return filepath.Join(p.dir.Dataset(name), "root") }
func (p *Pool) snap(name, id string) string { return filepath.Join(p.dir.Dataset(name), "snap", id) }

// commit makes all changes of names durable: one commit of the file system, which concurrent callers share.
func (p *Pool) commit(r pooldir.Record) error {
	p.settle()
	if r.Volatile {
		return nil
	}
	var id uint64
	if err := ioctl(int(p.fs.Fd()), iocStartSync, unsafe.Pointer(&id)); err != nil {
		return fmt.Errorf("start commit: %w", err)
	}
	if err := ioctl(int(p.fs.Fd()), iocWaitSync, unsafe.Pointer(&id)); err != nil {
		return fmt.Errorf("wait for commit: %w", err)
	}
	return nil
}

// flush is commit with all file data before it.
func (p *Pool) flush() error {
	if err := ioctl(int(p.fs.Fd()), iocSync, nil); err != nil {
		return fmt.Errorf("sync pool: %w", err)
	}
	return nil
}

// room grows the loop file before it gets tight.
func (p *Pool) room() {
	if p.cfg.File == "" || p.cfg.MaxSize <= p.cfg.Size {
		return
	}
	var st unix.Statfs_t
	if unix.Fstatfs(int(p.fs.Fd()), &st) != nil {
		return
	}
	size, free := int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	if free > size/4 || size >= p.cfg.MaxSize {
		return
	}
	to := min(2*size, p.cfg.MaxSize)
	if err := p.grow(to); err != nil {
		p.log.Warn("pool does not grow", "pool", p.cfg.Dir, "size", to, "err", err)
		return
	}
	p.log.Info("pool grown", "pool", p.cfg.Dir, "size", to)
}

// Grow makes the pool's loop file at least that large, MaxSize notwithstanding.
func (p *Pool) Grow(ctx context.Context, size int64) error {
	if p.cfg.File == "" {
		return fmt.Errorf("grow pool: it is no file: %w", dataset.ErrUnsupported)
	}
	unlock, err := p.dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return p.grow(size)
}
