package storagetest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// ErrPowerCut answers every operation on a [CrashFS] after [CrashFS.Cut].
var ErrPowerCut = errors.New("storagetest: the power is cut")

// sector is the unit in which a disk keeps or loses what was being written.
const sector = 512

// A CrashFS is a file system in memory that remembers what is durable and what is not. [CrashFS.Crash] shows the disk after a power cut: what was
// synced is there; of the rest, every write, and every change of a directory, is there, lost or (a write) torn between sectors, as
// the random source decides. Use [NewCrashFS].
type CrashFS struct {
	mu       sync.Mutex
	root     *crashNode
	capacity int64
	used     int64
	cut      bool
	locks    map[string]bool
	ops      int
	hook     func(op int, what string)
}

// crashNode is a file or a directory: what programs see, what the last sync made durable, and the changes between the two.
type crashNode struct {
	dir   bool
	perm  fs.FileMode
	mtime time.Time
	links int

	data, synced []byte
	writes       []crashWrite

	entries, durable map[string]*crashNode
	changes          []*crashChange
}

// crashWrite is a write of data at off, or, if data is nil, a truncation to off.
type crashWrite struct {
	off  int64
	data []byte
}

// crashChange sets a name in a directory, or removes it if node is nil. The two halves of a rename share one fate.
type crashChange struct {
	name string
	node *crashNode
	fate *crashFate
}

type crashFate struct{ durable bool }

// NewCrashFS returns an empty file system of capacity bytes; 0 = 1 GiB.
func NewCrashFS(capacity int64) *CrashFS {
	if capacity == 0 {
		capacity = 1 << 30
	}
	return &CrashFS{root: newCrashDir(), capacity: capacity, locks: map[string]bool{}}
}

func newCrashDir() *crashNode {
	return &crashNode{dir: true, perm: 0o700, mtime: time.Now(), entries: map[string]*crashNode{}, durable: map[string]*crashNode{}}
}

// OnOp calls f before every operation that changes the file system, with the operation's number (from 1) and a description. f may call Crash,
// but nothing else that changes this file system. Set it before the file system is used by several goroutines.
func (c *CrashFS) OnOp(f func(op int, what string)) { c.hook = f }

// Ops returns how many operations have changed the file system.
func (c *CrashFS) Ops() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ops
}

// Cut makes every operation fail with [ErrPowerCut] from now on, so that a program that still runs on this file system can do nothing more.
func (c *CrashFS) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
}

// SetCapacity changes the size of the disk.
func (c *CrashFS) SetCapacity(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capacity = n
}

// Crash returns the file system as it might be found after a power cut at this moment. It may be called at any time, also while programs run
// on c, which goes on unharmed.
func (c *CrashFS) Crash(rng *rand.Rand) *CrashFS {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := NewCrashFS(c.capacity)
	// Every unsynced change has the same chance; 0 and 1 are as likely as all between, because bugs like the extremes.
	p := min(1, max(0, rng.Float64()*2-0.5))
	k := &crasher{rng: rng, p: p, nodes: map[*crashNode]*crashNode{}, fates: map[*crashFate]bool{}}
	n.root = k.node(c.root)
	for _, node := range k.nodes {
		if node.links > 0 {
			n.used += int64(len(node.data))
		}
	}
	return n
}

type crasher struct {
	rng   *rand.Rand
	p     float64
	nodes map[*crashNode]*crashNode
	fates map[*crashFate]bool
}

func (k *crasher) keep() bool { return k.rng.Float64() < k.p }

func (k *crasher) node(old *crashNode) *crashNode {
	if n := k.nodes[old]; n != nil {
		return n
	}
	n := &crashNode{dir: old.dir, perm: old.perm, mtime: old.mtime}
	k.nodes[old] = n
	if !old.dir {
		n.data = slices.Clone(old.synced)
		for _, w := range old.writes {
			k.write(n, w)
		}
		n.synced = slices.Clone(n.data)
		return n
	}
	entries := maps.Clone(old.durable)
	for _, ch := range old.changes {
		kept, decided := k.fates[ch.fate]
		if !decided {
			kept = ch.fate.durable || k.keep()
			k.fates[ch.fate] = kept
		}
		switch {
		case !kept:
		case ch.node == nil:
			delete(entries, ch.name)
		default:
			entries[ch.name] = ch.node
		}
	}
	n.entries = map[string]*crashNode{}
	for _, name := range slices.Sorted(maps.Keys(entries)) { // sorted, so that a seed replays
		child := k.node(entries[name])
		child.links++
		n.entries[name] = child
	}
	n.durable = maps.Clone(n.entries)
	return n
}

func (k *crasher) write(n *crashNode, w crashWrite) {
	if w.data == nil || k.rng.IntN(3) > 0 { // whole or not at all
		if k.keep() {
			n.apply(w)
		}
		return
	}
	for off := 0; off < len(w.data); off += sector {
		if k.keep() {
			n.apply(crashWrite{w.off + int64(off), w.data[off:min(off+sector, len(w.data))]})
		}
	}
}

func (n *crashNode) apply(w crashWrite) {
	if w.data == nil {
		n.data = resize(n.data, w.off)
		return
	}
	if end := w.off + int64(len(w.data)); end > int64(len(n.data)) {
		n.data = resize(n.data, end)
	}
	copy(n.data[w.off:], w.data)
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// Flip flips bits of the byte at off of a file, durably and behind every program's back.
func (c *CrashFS) Flip(name string, off int64, mask byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.find("flip", name)
	if err != nil {
		return err
	}
	if off < 0 || off >= int64(len(n.data)) {
		return &fs.PathError{Op: "flip", Path: name, Err: io.EOF}
	}
	n.sync()
	n.data[off] ^= mask
	n.synced[off] ^= mask
	return nil
}

// Files returns the names and sizes of all files.
func (c *CrashFS) Files() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := map[string]int64{}
	var walk func(dir string, n *crashNode)
	walk = func(dir string, n *crashNode) {
		for name, child := range n.entries {
			if child.dir {
				walk(path.Join(dir, name), child)
			} else {
				files[path.Join(dir, name)] = int64(len(child.data))
			}
		}
	}
	walk("", c.root)
	return files
}

// begin counts an operation that changes something, and takes the lock.
func (c *CrashFS) begin(what string, args ...any) error {
	c.mu.Lock()
	if c.cut {
		return ErrPowerCut
	}
	c.ops++
	if c.hook != nil {
		op := c.ops
		c.mu.Unlock()
		c.hook(op, fmt.Sprintf(what, args...))
		c.mu.Lock()
		if c.cut {
			return ErrPowerCut
		}
	}
	return nil
}

func (c *CrashFS) look() error {
	c.mu.Lock()
	if c.cut {
		return ErrPowerCut
	}
	return nil
}

func (c *CrashFS) find(op, name string) (*crashNode, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := c.root
	if name == "." {
		return n, nil
	}
	for rest := name; rest != ""; {
		var first string
		first, rest = cutPath(rest)
		if n = n.entries[first]; n == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

func cutPath(p string) (first, rest string) {
	for i := range len(p) {
		if p[i] == '/' {
			return p[:i], p[i+1:]
		}
	}
	return p, ""
}

func (c *CrashFS) parent(op, name string) (*crashNode, string, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	d, err := c.find(op, path.Dir(name))
	if err == nil && !d.dir {
		err = &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	return d, path.Base(name), err
}

// set changes one name of a directory.
func (c *CrashFS) set(d *crashNode, name string, n *crashNode, fate *crashFate) {
	if old := d.entries[name]; old != nil {
		if old.links--; old.links == 0 {
			c.used -= int64(len(old.data))
		}
	}
	if n == nil {
		delete(d.entries, name)
	} else {
		d.entries[name] = n
		if n.links++; n.links == 1 {
			c.used += int64(len(n.data))
		}
	}
	d.changes = append(d.changes, &crashChange{name, n, fate})
}

func (c *CrashFS) add(op, name string, n *crashNode) error {
	d, base, err := c.parent(op, name)
	if err != nil {
		return err
	}
	if d.entries[base] != nil {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	c.set(d, base, n, &crashFate{})
	return nil
}

// Create implements [diskfs.FS].
func (c *CrashFS) Create(name string) (diskfs.File, error) {
	err := c.begin("create %s", name)
	defer c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	n := &crashNode{perm: 0o600, mtime: time.Now()}
	if err := c.add("create", name, n); err != nil {
		return nil, err
	}
	return &crashFile{c: c, n: n, name: name, write: true}, nil
}

// CreateTemp implements [diskfs.FS].
func (c *CrashFS) CreateTemp(dir string, perm fs.FileMode) (diskfs.Temp, error) {
	err := c.begin("temp %s", dir)
	defer c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if _, err := c.find("temp", dir); err != nil {
		return nil, err
	}
	return &crashFile{c: c, n: &crashNode{perm: perm, mtime: time.Now()}, name: dir + "/?", write: true}, nil
}

// Open implements [diskfs.FS].
func (c *CrashFS) Open(name string) (diskfs.File, error) {
	err := c.look()
	defer c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	n, err := c.find("open", name)
	if err != nil {
		return nil, err
	}
	return &crashFile{c: c, n: n, name: name}, nil
}

// Mkdir implements [diskfs.FS].
func (c *CrashFS) Mkdir(name string) error {
	err := c.begin("mkdir %s", name)
	defer c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.add("mkdir", name, newCrashDir())
}

// Remove implements [diskfs.FS].
func (c *CrashFS) Remove(name string) error {
	err := c.begin("remove %s", name)
	defer c.mu.Unlock()
	if err != nil {
		return err
	}
	d, base, err := c.parent("remove", name)
	if err != nil {
		return err
	}
	switch n := d.entries[base]; {
	case n == nil:
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	case len(n.entries) > 0:
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	c.set(d, base, nil, &crashFate{})
	return nil
}

// Rename implements [diskfs.FS].
func (c *CrashFS) Rename(from, to string) error {
	err := c.begin("rename %s %s", from, to)
	defer c.mu.Unlock()
	if err != nil {
		return err
	}
	d, base, err := c.parent("rename", from)
	if err != nil {
		return err
	}
	n := d.entries[base]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	d2, base2, err := c.parent("rename", to)
	if err != nil {
		return err
	}
	fate := &crashFate{}
	c.set(d2, base2, n, fate)
	c.set(d, base, nil, fate)
	return nil
}

// Stat implements [diskfs.FS].
func (c *CrashFS) Stat(name string) (fs.FileInfo, error) {
	err := c.look()
	defer c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	n, err := c.find("stat", name)
	if err != nil {
		return nil, err
	}
	return crashInfo{path.Base(name), int64(len(n.data)), n.perm, n.mtime, n.dir}, nil
}

// Names implements [diskfs.FS].
func (c *CrashFS) Names(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := c.look()
		var names []string
		if err == nil {
			var n *crashNode
			if n, err = c.find("names", dir); err == nil {
				names = slices.Sorted(maps.Keys(n.entries))
			}
		}
		c.mu.Unlock()
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
		if err != nil {
			yield("", err)
		}
	}
}

// SyncDir implements [diskfs.FS].
func (c *CrashFS) SyncDir(name string) error {
	err := c.begin("syncdir %s", name)
	defer c.mu.Unlock()
	if err != nil {
		return err
	}
	d, err := c.find("syncdir", name)
	if err != nil {
		return err
	}
	for _, ch := range d.changes {
		ch.fate.durable = true
	}
	d.durable, d.changes = maps.Clone(d.entries), nil
	return nil
}

// Space implements [diskfs.FS].
func (c *CrashFS) Space() (total, free int64, err error) {
	err = c.look()
	defer c.mu.Unlock()
	return c.capacity, max(0, c.capacity-c.used), err
}

// Lock implements [diskfs.FS].
func (c *CrashFS) Lock(name string) (io.Closer, error) {
	err := c.look()
	defer c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if c.locks[name] {
		return nil, diskfs.ErrLocked
	}
	c.locks[name] = true
	return &crashLock{c: c, name: name}, nil
}

type crashLock struct {
	c    *CrashFS
	name string
	once sync.Once
}

func (l *crashLock) Close() error {
	l.once.Do(func() {
		l.c.mu.Lock()
		defer l.c.mu.Unlock()
		delete(l.c.locks, l.name)
	})
	return nil
}

type crashInfo struct {
	name  string
	size  int64
	perm  fs.FileMode
	mtime time.Time
	dir   bool
}

func (i crashInfo) Name() string       { return i.name }
func (i crashInfo) Size() int64        { return i.size }
func (i crashInfo) ModTime() time.Time { return i.mtime }
func (i crashInfo) IsDir() bool        { return i.dir }
func (i crashInfo) Sys() any           { return nil }
func (i crashInfo) Mode() fs.FileMode {
	if i.dir {
		return i.perm | fs.ModeDir
	}
	return i.perm
}
