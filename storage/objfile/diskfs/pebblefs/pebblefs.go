// Package pebblefs lets the pebble engine live on any [diskfs.FS], such as the ones of storage/storagetest that lose what was not synced.
//
// Call [New] and give the result to pebble as its file system. Links and files opened for reading and writing are not supported: checkpoints and ingested tables need
// them, and no store here uses those. On a real disk use pebble's own file system instead.
//
// Stability: experimental.
package pebblefs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// New returns a file system for pebble in the directory tree of fs. Closing is up to the owner of fs.
func New(fs diskfs.FS) vfs.FS { return pebbleFS{fs} }

type pebbleFS struct{ fs diskfs.FS }

func clean(name string) string { return path.Clean(strings.TrimPrefix(name, "/")) }

func (x pebbleFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	name = clean(name)
	if err := x.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := x.fs.Create(name)
	if err != nil {
		return nil, err
	}
	return &file{File: f, name: name, fs: x.fs}, nil
}

func (x pebbleFS) Link(oldname, newname string) error { return errors.ErrUnsupported }

func (x pebbleFS) Open(name string, _ ...vfs.OpenOption) (vfs.File, error) {
	name = clean(name)
	f, err := x.fs.Open(name)
	if err != nil {
		return nil, err
	}
	return &file{File: f, name: name, fs: x.fs}, nil
}

func (x pebbleFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errors.ErrUnsupported
}

func (x pebbleFS) OpenDir(name string) (vfs.File, error) {
	return &dir{name: clean(name), fs: x.fs}, nil
}
func (x pebbleFS) Remove(name string) error     { return x.fs.Remove(clean(name)) }
func (x pebbleFS) RemoveAll(name string) error  { return diskfs.RemoveAll(x.fs, clean(name)) }
func (x pebbleFS) Rename(from, to string) error { return x.fs.Rename(clean(from), clean(to)) }

func (x pebbleFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := x.Remove(oldname); err != nil {
		return nil, err
	}
	return x.Create(newname, c)
}

func (x pebbleFS) MkdirAll(dir string, _ os.FileMode) error {
	dir = clean(dir)
	if _, err := x.fs.Stat(dir); err == nil || dir == "." {
		return nil
	}
	if err := x.MkdirAll(path.Dir(dir), 0); err != nil {
		return err
	}
	return x.fs.Mkdir(dir)
}

func (x pebbleFS) Lock(name string) (io.Closer, error) { return x.fs.Lock(clean(name)) }

func (x pebbleFS) List(dir string) ([]string, error) {
	var names []string
	for name, err := range x.fs.Names(clean(dir)) {
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func (x pebbleFS) Stat(name string) (vfs.FileInfo, error) {
	st, err := x.fs.Stat(clean(name))
	if err != nil {
		return nil, err
	}
	return info{st}, nil
}

func (x pebbleFS) PathBase(p string) string       { return path.Base(p) }
func (x pebbleFS) PathJoin(elem ...string) string { return path.Join(elem...) }
func (x pebbleFS) PathDir(p string) string        { return path.Dir(p) }
func (x pebbleFS) Unwrap() vfs.FS                 { return nil }

func (x pebbleFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	total, free, err := x.fs.Space()
	return vfs.DiskUsage{AvailBytes: uint64(free), TotalBytes: uint64(total), UsedBytes: uint64(total - free)}, err
}

type info struct{ fs.FileInfo }

func (info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

type file struct {
	diskfs.File
	name   string
	fs     diskfs.FS
	rd, wr int64
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.rd)
	f.rd += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.wr)
	f.wr += int64(n)
	return n, err
}

func (f *file) Preallocate(off, length int64) error { return nil }
func (f *file) SyncTo(int64) (bool, error)          { return false, nil }
func (f *file) SyncData() error                     { return f.Sync() }
func (f *file) Prefetch(off, length int64) error    { return nil }
func (f *file) Fd() uintptr                         { return vfs.InvalidFd }
func (f *file) Stat() (vfs.FileInfo, error)         { return pebbleFS{f.fs}.Stat(f.name) }

// dir is a directory that is open to be synced.
type dir struct {
	vfs.File
	name string
	fs   diskfs.FS
}

func (d *dir) Sync() error                 { return d.fs.SyncDir(d.name) }
func (d *dir) SyncData() error             { return d.Sync() }
func (d *dir) Close() error                { return nil }
func (d *dir) Fd() uintptr                 { return vfs.InvalidFd }
func (d *dir) Stat() (vfs.FileInfo, error) { return pebbleFS{d.fs}.Stat(d.name) }
