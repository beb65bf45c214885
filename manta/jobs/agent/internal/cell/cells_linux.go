package cell

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/oci"
	"github.com/mobulacloud/mobula/zones/pool"
)

// Cells is a pool of zones for tasks.
type Cells struct {
	cfg    Config
	run    string // RunDir
	parent string // control group of all cells
	weight sync.Once
	lock   *os.File
	driver *oci.Driver
	files  dataset.Pool
	undo   func() error // of files
	image  []zones.Mount
	base   dataset.Ref
	class  pool.Class
	pool   *pool.Pool
	log    *slog.Logger

	mu     sync.Mutex
	ids    map[uint32]bool // ranges in use, by number
	userns map[uint32]*os.File
	closed bool
}

// Remove ends and removes everything that a process on Dir made and could not remove any more, but for Dir itself. It may be repeated.
func Remove(ctx context.Context, cfg Config) error {
	c, err := begin(ctx, cfg)
	if err != nil {
		return err
	}
	return c.close(context.WithoutCancel(ctx))
}

// begin takes Dir, clears what an earlier process left, and opens the pool of file systems. On error nothing is left but Dir.
func begin(ctx context.Context, cfg Config) (_ *Cells, err error) {
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(cfg.Dir))
	name := hex.EncodeToString(sum[:4])
	if cfg.FirstID == 0 {
		cfg.FirstID = 1<<29 + uint32(sum[4]%16)*maxRanges*idRange
	}
	if cfg.Zones > maxRanges/2-8 {
		return nil, fmt.Errorf("%d zones, at most %d", cfg.Zones, maxRanges/2-8)
	}
	if cfg.RunDir == "" {
		cfg.RunDir = "/run/mobula-jobs/" + name
	}
	c := &Cells{cfg: cfg, run: cfg.RunDir, log: cfg.Logger, ids: map[uint32]bool{}, userns: map[uint32]*os.File{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	// Those in a zone who see through to the directory of inputs pass here.
	if err := os.MkdirAll(c.run, 0o711); err != nil {
		return nil, err
	}
	if c.lock, err = lock(filepath.Join(cfg.Dir, "LOCK")); err != nil {
		return nil, err
	}
	c.parent = "/mobula-jobs-" + name
	if c.driver, err = oci.New(oci.Config{StateDir: filepath.Join(c.run, "oci"), CgroupParent: c.parent, Logger: c.log}); err != nil {
		return nil, err
	}
	if err := c.sweep(ctx); err != nil {
		return nil, fmt.Errorf("clear what was left: %w", err)
	}
	if err := c.openFiles(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Open makes a set of cells. On error nothing is left but Dir.
func Open(ctx context.Context, cfg Config) (_ *Cells, err error) {
	c, err := begin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	cfg = c.cfg
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := c.makeBase(ctx); err != nil {
		return nil, fmt.Errorf("image of zones: %w", err)
	}
	if err := c.makeWindow(); err != nil {
		return nil, err
	}
	if err := c.installTools(); err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	c.class = pool.Class{Image: zones.SparseImage, Limits: c.limits(cfg.Memory)}
	c.pool, err = pool.New(pool.Config{Factory: c.factory(), Max: cfg.Zones, Logger: c.log})
	if err != nil {
		return nil, err
	}
	c.pool.Want(c.class, min(cfg.Warm, cfg.Zones))
	return c, nil
}

// Run makes, resets and removes zones until ctx ends, then removes those that nobody has.
func (c *Cells) Run(ctx context.Context) error { return c.pool.Run(ctx) }

// Quotas reports whether the disk limit of a cell holds.
func (c *Cells) Quotas() bool { return c.files.Capabilities().Quota }

// Missing says what this host lacks, for people.
func (c *Cells) Missing() []string {
	missing := c.driver.Capabilities().Missing
	if !c.Quotas() {
		missing = append(missing, "no btrfs: the disk limit of tasks is not enforced")
	}
	return missing
}

// Stats are the pool's.
func (c *Cells) Stats() pool.Stats { return c.pool.Stats() }

func (c *Cells) limits(memory int64) zones.Limits {
	return zones.Limits{Memory: memory, Swap: memory, LWPs: c.cfg.Processes}
}

// Close removes everything but Dir. Run must have ended, and all cells have been returned.
func (c *Cells) Close(ctx context.Context) error { return c.close(ctx) }

func (c *Cells) close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	var errs []error
	if c.driver != nil {
		errs = append(errs, c.destroyAll(ctx))
	}
	errs = append(errs, unmountBelow(c.run))
	if c.files != nil {
		errs = append(errs, c.removeDatasets(ctx), c.undo())
	}
	if c.driver != nil {
		errs = append(errs, c.driver.Close(), c.removeParent())
	}
	for _, f := range c.userns {
		f.Close()
	}
	if c.lock != nil { // who has not got it has made nothing
		errs = append(errs, os.RemoveAll(c.run))
		_ = os.Remove(filepath.Dir(c.run))
		errs = append(errs, c.lock.Close())
	}
	return errors.Join(errs...)
}

func lock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

// holder is what a zone of the pool carries besides its machine.
type holder struct {
	port net.Listener
	pid  int
}

// factory is the pool's, with a listener in each zone's network namespace that begins before anybody is in it.
func (c *Cells) factory() pool.Factory {
	return &factory{cells: c, Machines: pool.Machines{Driver: c.driver, Prepare: c.prepare, Release: c.release}}
}

type factory struct {
	cells *Cells
	pool.Machines
}

func (f *factory) Make(ctx context.Context, class pool.Class) (pool.Zone, error) {
	z, err := f.Machines.Make(ctx, class)
	if err != nil {
		return z, err
	}
	c := f.cells
	c.weight.Do(func() {
		if err := c.weigh(); err != nil {
			c.log.Warn("tasks get little processor time when the server is busy", "err", err)
		}
	})
	return f.equip(ctx, z)
}

func (f *factory) Reset(ctx context.Context, z pool.Zone) (pool.Zone, error) {
	unplug(z)
	z, err := f.Machines.Reset(ctx, z)
	if err != nil {
		return z, err
	}
	return f.equip(ctx, z)
}

func (f *factory) Discard(ctx context.Context, z pool.Zone) error {
	unplug(z)
	return f.Machines.Discard(ctx, z)
}

func unplug(z pool.Zone) {
	if h, ok := z.Data.(*holder); ok {
		h.port.Close()
	}
}

func (f *factory) equip(ctx context.Context, z pool.Zone) (pool.Zone, error) {
	st, err := f.Driver.Status(ctx, z.ID)
	if err == nil {
		h := &holder{pid: st.PID}
		if h.port, err = listenIn(fmt.Sprintf("/proc/%d/ns/net", st.PID)); err == nil {
			z.Data = h
			return z, nil
		}
	}
	return pool.Zone{}, errors.Join(err, f.Machines.Discard(context.WithoutCancel(ctx), z))
}
