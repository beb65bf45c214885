package objfile

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

// indexFS lets the index live on any diskfs.FS. On a real disk the index has pebble's own file system instead.
type indexFS struct{ fs diskfs.FS }

func clean(name string) string { return path.Clean(strings.TrimPrefix(name, "/")) }

func (x indexFS) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	name = clean(name)
	if err := x.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := x.fs.Create(name)
	if err != nil {
		return nil, err
	}
	return &indexFile{File: f, name: name, fs: x.fs}, nil
}

func (x indexFS) Link(oldname, newname string) error { return errors.ErrUnsupported }

func (x indexFS) Open(name string, _ ...vfs.OpenOption) (vfs.File, error) {
	name = clean(name)
	f, err := x.fs.Open(name)
	if err != nil {
		return nil, err
	}
	return &indexFile{File: f, name: name, fs: x.fs}, nil
}

func (x indexFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errors.ErrUnsupported
}

func (x indexFS) OpenDir(name string) (vfs.File, error) {
	return &indexDir{name: clean(name), fs: x.fs}, nil
}
func (x indexFS) Remove(name string) error     { return x.fs.Remove(clean(name)) }
func (x indexFS) RemoveAll(name string) error  { return removeAll(x.fs, clean(name)) }
func (x indexFS) Rename(from, to string) error { return x.fs.Rename(clean(from), clean(to)) }

func (x indexFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := x.Remove(oldname); err != nil {
		return nil, err
	}
	return x.Create(newname, c)
}

func (x indexFS) MkdirAll(dir string, _ os.FileMode) error {
	dir = clean(dir)
	if _, err := x.fs.Stat(dir); err == nil || dir == "." {
		return nil
	}
	if err := x.MkdirAll(path.Dir(dir), 0); err != nil {
		return err
	}
	return x.fs.Mkdir(dir)
}

func (x indexFS) Lock(name string) (io.Closer, error) { return x.fs.Lock(clean(name)) }

func (x indexFS) List(dir string) ([]string, error) {
	var names []string
	for name, err := range x.fs.Names(clean(dir)) {
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func (x indexFS) Stat(name string) (vfs.FileInfo, error) {
	st, err := x.fs.Stat(clean(name))
	if err != nil {
		return nil, err
	}
	return indexInfo{st}, nil
}

func (x indexFS) PathBase(p string) string       { return path.Base(p) }
func (x indexFS) PathJoin(elem ...string) string { return path.Join(elem...) }
func (x indexFS) PathDir(p string) string        { return path.Dir(p) }
func (x indexFS) Unwrap() vfs.FS                 { return nil }

func (x indexFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	total, free, err := x.fs.Space()
	return vfs.DiskUsage{AvailBytes: uint64(free), TotalBytes: uint64(total), UsedBytes: uint64(total - free)}, err
}

type indexInfo struct{ fs.FileInfo }

func (indexInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

type indexFile struct {
	diskfs.File
	name   string
	fs     diskfs.FS
	rd, wr int64
}

func (f *indexFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.rd)
	f.rd += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *indexFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.wr)
	f.wr += int64(n)
	return n, err
}

func (f *indexFile) Preallocate(off, length int64) error { return nil }
func (f *indexFile) SyncTo(int64) (bool, error)          { return false, nil }
func (f *indexFile) SyncData() error                     { return f.Sync() }
func (f *indexFile) Prefetch(off, length int64) error    { return nil }
func (f *indexFile) Fd() uintptr                         { return vfs.InvalidFd }
func (f *indexFile) Stat() (vfs.FileInfo, error)         { return indexFS{f.fs}.Stat(f.name) }

// indexDir is a directory that is open to be synced.
type indexDir struct {
	vfs.File
	name string
	fs   diskfs.FS
}

func (d *indexDir) Sync() error                 { return d.fs.SyncDir(d.name) }
func (d *indexDir) SyncData() error             { return d.Sync() }
func (d *indexDir) Close() error                { return nil }
func (d *indexDir) Fd() uintptr                 { return vfs.InvalidFd }
func (d *indexDir) Stat() (vfs.FileInfo, error) { return indexFS{d.fs}.Stat(d.name) }

// removeAll removes a directory with all that is in it. What is not there is no error.
func removeAll(f diskfs.FS, name string) error {
	st, err := f.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.IsDir() {
		var names []string
		for n, err := range f.Names(name) {
			if err != nil {
				return err
			}
			names = append(names, n)
		}
		for _, n := range names {
			if err := removeAll(f, path.Join(name, n)); err != nil {
				return err
			}
		}
	}
	return f.Remove(name)
}
