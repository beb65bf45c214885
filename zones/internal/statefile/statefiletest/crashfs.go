// Package statefiletest has a file system for tests of state files, which forgets at a power cut what was not synced.
//
// Make one with [New], hand it to what is tested, and let [FS.OnOp] cut the power, or fail a call, at any operation. [FS.Restart] then gives
// what the next boot may find: every name and byte that was synced, and of the rest whatever chance leaves.
//
// Stability: internal.
package statefiletest

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"

	"github.com/mobulacloud/mobula/zones/internal/statefile"
)

// ErrPowerCut is what every call gives once the power is cut.
var ErrPowerCut = errors.New("the power is cut")

// FS is a file system in memory. Directories are there when they are named.
type FS struct {
	mu   sync.Mutex
	dirs map[string]*dir
	ops  int
	on   func(op int) error
	off  bool
}

// dir has names as they are, as they are on the disk, and what has changed between the two.
type dir struct {
	now, disk map[string]*inode
	pending   []change
}

// change of a directory: name is now the inode, or nothing, and gone is no more.
type change struct {
	name, gone string
	to         *inode
}

type inode struct{ now, disk []byte }

// New makes an empty file system.
func New() *FS { return &FS{dirs: map[string]*dir{}} }

// OnOp has f called before every operation that changes anything, with its number from 1 on. An error fails the operation, which then does
// nothing; ErrPowerCut fails all that follow too.
func (c *FS) OnOp(f func(op int) error) { c.on = f }

// Ops is how many operations that change anything were begun.
func (c *FS) Ops() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ops
}

// Restart gives a file system as it may be after the power was cut now. Changes of names that were not synced are kept or lost each by
// itself; a file's bytes that were not synced are lost, kept, cut short or something else.
func (c *FS) Restart(r *rand.Rand) *FS {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := New()
	fates := map[*inode]*inode{}
	fate := func(i *inode) *inode {
		if fates[i] == nil {
			b := i.disk
			if !slices.Equal(i.now, i.disk) {
				switch r.IntN(4) {
				case 0:
					b = i.now
				case 1:
					b = i.now[:r.IntN(len(i.now)+1)]
				case 2:
					b = make([]byte, len(i.now))
				}
			}
			fates[i] = &inode{now: slices.Clone(b), disk: slices.Clone(b)}
		}
		return fates[i]
	}
	for _, path := range slices.Sorted(maps.Keys(c.dirs)) { // in order, so that a seed replays
		d := c.dirs[path]
		names := maps.Clone(d.disk)
		for _, ch := range d.pending {
			if r.IntN(2) == 0 {
				ch.apply(names)
			}
		}
		to := n.dir(path)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			to.now[name] = fate(names[name])
		}
		to.disk = maps.Clone(to.now)
	}
	return n
}

func (ch change) apply(names map[string]*inode) {
	delete(names, ch.gone)
	if ch.name != "" {
		names[ch.name] = ch.to
	}
}

func (c *FS) dir(path string) *dir {
	if c.dirs[path] == nil {
		c.dirs[path] = &dir{now: map[string]*inode{}, disk: map[string]*inode{}}
	}
	return c.dirs[path]
}

// begin counts an operation and says whether it fails.
func (c *FS) begin() error {
	if c.off {
		return ErrPowerCut
	}
	c.ops++
	if c.on == nil {
		return nil
	}
	err := c.on(c.ops)
	c.off = errors.Is(err, ErrPowerCut)
	return err
}

func (c *FS) change(path string, ch change) {
	d := c.dir(path)
	ch.apply(d.now)
	d.pending = append(d.pending, ch)
}

func missing(op, path string) error { return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist} }

// ReadFile implements [statefile.FS].
func (c *FS) ReadFile(path string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return nil, ErrPowerCut
	}
	i := c.dir(filepath.Dir(path)).now[filepath.Base(path)]
	if i == nil {
		return nil, missing("open", path)
	}
	return slices.Clone(i.now), nil
}

// Names implements [statefile.FS].
func (c *FS) Names(path string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return nil, ErrPowerCut
	}
	return slices.Sorted(maps.Keys(c.dir(path).now)), nil
}

// Create implements [statefile.FS].
func (c *FS) Create(path string) (statefile.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(); err != nil {
		return nil, err
	}
	parent, name := filepath.Dir(path), filepath.Base(path)
	i := c.dir(parent).now[name]
	if i == nil {
		i = &inode{}
		c.change(parent, change{name: name, to: i})
	}
	i.now = nil
	return &file{c, i}, nil
}

// Rename implements [statefile.FS].
func (c *FS) Rename(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(); err != nil {
		return err
	}
	parent := filepath.Dir(from)
	i := c.dir(parent).now[filepath.Base(from)]
	if i == nil || filepath.Dir(to) != parent {
		return missing("rename", from)
	}
	c.change(parent, change{name: filepath.Base(to), gone: filepath.Base(from), to: i})
	return nil
}

// Remove implements [statefile.FS].
func (c *FS) Remove(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(); err != nil {
		return err
	}
	if c.dir(filepath.Dir(path)).now[filepath.Base(path)] == nil {
		return missing("remove", path)
	}
	c.change(filepath.Dir(path), change{gone: filepath.Base(path)})
	return nil
}

// SyncDir implements [statefile.FS].
func (c *FS) SyncDir(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.begin(); err != nil {
		return err
	}
	d := c.dir(path)
	d.disk, d.pending = maps.Clone(d.now), nil
	return nil
}

type file struct {
	c *FS
	i *inode
}

func (f *file) Write(p []byte) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.begin(); err != nil {
		return 0, err
	}
	f.i.now = append(f.i.now, p...)
	return len(p), nil
}

func (f *file) Sync() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.begin(); err != nil {
		return err
	}
	f.i.disk = slices.Clone(f.i.now)
	return nil
}

func (f *file) Close() error { return nil }
