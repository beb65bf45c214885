package storagetest

import (
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// A FaultOp is one operation that a [FaultFS] is about to do. Kind is the method in lower case: create, createtemp, link, open, mkdir, remove, rename,
// stat, names, syncdir, space, lock, readat, writeat, sync, truncate, size, preallocate.
type FaultOp struct {
	Kind string
	Name string
}

// String returns the kind and the name.
func (o FaultOp) String() string { return o.Kind + " " + o.Name }

// A Fault decides what becomes of an operation: nil lets it pass, an error is returned instead of doing it. A write that fails is half
// done first, as on a real disk. Faults are called by several goroutines at once.
type Fault func(FaultOp) error

// ErrFault is the error of faults that have no other: an input/output error.
var ErrFault = fmt.Errorf("storagetest: injected fault: %w", syscall.EIO)

// ErrFull is a full disk.
var ErrFull = fmt.Errorf("storagetest: injected fault: %w", syscall.ENOSPC)

// FailWith fails every operation with err.
func FailWith(err error) Fault { return func(FaultOp) error { return err } }

// On passes only the operations of these kinds on to f.
func (f Fault) On(kinds ...string) Fault {
	return func(o FaultOp) error {
		if slices.Contains(kinds, o.Kind) {
			return f(o)
		}
		return nil
	}
}

// Under passes only the operations on names with this prefix on to f.
func (f Fault) Under(prefix string) Fault {
	return func(o FaultOp) error {
		if strings.HasPrefix(o.Name, prefix) {
			return f(o)
		}
		return nil
	}
}

// After lets n operations pass, and gives all later ones to f.
func (f Fault) After(n int) Fault {
	var seen atomic.Int64
	return func(o FaultOp) error {
		if seen.Add(1) > int64(n) {
			return f(o)
		}
		return nil
	}
}

// Times gives n operations to f and lets all later ones pass.
func (f Fault) Times(n int) Fault {
	var seen atomic.Int64
	return func(o FaultOp) error {
		if seen.Add(1) <= int64(n) {
			return f(o)
		}
		return nil
	}
}

// Sometimes gives an operation to f with probability p, as a function of the seed and the number of operations before.
func (f Fault) Sometimes(seed uint64, p float64) Fault {
	var seen atomic.Uint64
	return func(o FaultOp) error {
		if rand.New(rand.NewPCG(seed, seen.Add(1))).Float64() < p {
			return f(o)
		}
		return nil
	}
}

// A FaultFS passes every operation on to another file system, unless its fault says otherwise.
type FaultFS struct {
	fs    diskfs.FS
	fault atomic.Pointer[Fault]
	count atomic.Int64
}

// NewFaultFS wraps a file system, without a fault.
func NewFaultFS(fs diskfs.FS) *FaultFS { return &FaultFS{fs: fs} }

// Set replaces the fault; nil lets all pass.
func (f *FaultFS) Set(fault Fault) { f.fault.Store(&fault) }

// Faults returns how many operations have failed by a fault, so that a test can tell that it met any.
func (f *FaultFS) Faults() int { return int(f.count.Load()) }

func (f *FaultFS) try(kind, name string) error {
	if p := f.fault.Load(); p != nil && *p != nil {
		if err := (*p)(FaultOp{kind, name}); err != nil {
			f.count.Add(1)
			return &fs.PathError{Op: kind, Path: name, Err: err}
		}
	}
	return nil
}

// Create implements [diskfs.FS].
func (f *FaultFS) Create(name string) (diskfs.File, error) {
	if err := f.try("create", name); err != nil {
		return nil, err
	}
	file, err := f.fs.Create(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f, name}, nil
}

// CreateTemp implements [diskfs.FS].
func (f *FaultFS) CreateTemp(dir string, perm fs.FileMode) (diskfs.Temp, error) {
	if err := f.try("createtemp", dir); err != nil {
		return nil, err
	}
	file, err := f.fs.CreateTemp(dir, perm)
	if err != nil {
		return nil, err
	}
	return &faultTemp{faultFile{file, f, dir + "/?"}, file}, nil
}

// Open implements [diskfs.FS].
func (f *FaultFS) Open(name string) (diskfs.File, error) {
	if err := f.try("open", name); err != nil {
		return nil, err
	}
	file, err := f.fs.Open(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f, name}, nil
}

// Mkdir implements [diskfs.FS].
func (f *FaultFS) Mkdir(name string) error {
	if err := f.try("mkdir", name); err != nil {
		return err
	}
	return f.fs.Mkdir(name)
}

// Remove implements [diskfs.FS].
func (f *FaultFS) Remove(name string) error {
	if err := f.try("remove", name); err != nil {
		return err
	}
	return f.fs.Remove(name)
}

// Rename implements [diskfs.FS].
func (f *FaultFS) Rename(from, to string) error {
	if err := f.try("rename", from); err != nil {
		return err
	}
	return f.fs.Rename(from, to)
}

// Stat implements [diskfs.FS].
func (f *FaultFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.try("stat", name); err != nil {
		return nil, err
	}
	return f.fs.Stat(name)
}

// Names implements [diskfs.FS].
func (f *FaultFS) Names(dir string) iter.Seq2[string, error] {
	if err := f.try("names", dir); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return f.fs.Names(dir)
}

// SyncDir implements [diskfs.FS].
func (f *FaultFS) SyncDir(name string) error {
	if err := f.try("syncdir", name); err != nil {
		return err
	}
	return f.fs.SyncDir(name)
}

// Space implements [diskfs.FS].
func (f *FaultFS) Space() (total, free int64, err error) {
	if err := f.try("space", "."); err != nil {
		return 0, 0, err
	}
	return f.fs.Space()
}

// Lock implements [diskfs.FS].
func (f *FaultFS) Lock(name string) (io.Closer, error) {
	if err := f.try("lock", name); err != nil {
		return nil, err
	}
	return f.fs.Lock(name)
}

type faultFile struct {
	diskfs.File
	f    *FaultFS
	name string
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.f.try("readat", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.f.try("writeat", f.name); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *faultFile) Sync() error {
	if err := f.f.try("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.f.try("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Size() (int64, error) {
	if err := f.f.try("size", f.name); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *faultFile) Preallocate(size int64) error {
	if err := f.f.try("preallocate", f.name); err != nil {
		return err
	}
	return f.File.Preallocate(size)
}

type faultTemp struct {
	faultFile
	temp diskfs.Temp
}

func (f *faultTemp) Link(name string) error {
	if err := f.f.try("link", name); err != nil {
		return err
	}
	f.name = name
	return f.temp.Link(name)
}
