// Package rootfs is a directory as an afero file system that nothing leads out of.
//
// afero's own BasePathFs compares strings, so a symbolic link in the directory, or a neighbour whose name begins alike, is served too. Here
// every call goes through os.Root, which the kernel keeps inside.
//
// Stability: internal.
package rootfs

import (
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/afero"
)

// Fs is an open directory. Names are relative to it, with or without a slash in front. Close it when it is no longer used; files that were
// opened stay open.
type Fs struct{ root *os.Root }

var _ afero.Fs = (*Fs)(nil)

// Open opens a directory.
func Open(dir string) (*Fs, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Fs{root}, nil
}

// Close releases the directory.
func (f *Fs) Close() error { return f.root.Close() }

// inside makes a name relative. What ".." would lead above the directory leads to the directory itself, as at the root of a system.
func inside(name string) string {
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return "."
	}
	return name
}

// Name implements [afero.Fs].
func (f *Fs) Name() string { return "rootfs " + f.root.Name() }

// Create implements [afero.Fs].
func (f *Fs) Create(name string) (afero.File, error) {
	return f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// Open implements [afero.Fs].
func (f *Fs) Open(name string) (afero.File, error) { return f.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile implements [afero.Fs].
func (f *Fs) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	file, err := f.root.OpenFile(inside(name), flag, perm)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return file, nil
}

// Mkdir implements [afero.Fs].
func (f *Fs) Mkdir(name string, perm os.FileMode) error { return f.root.Mkdir(inside(name), perm) }

// MkdirAll implements [afero.Fs].
func (f *Fs) MkdirAll(name string, perm os.FileMode) error {
	return f.root.MkdirAll(inside(name), perm)
}

// Remove implements [afero.Fs].
func (f *Fs) Remove(name string) error { return f.root.Remove(inside(name)) }

// RemoveAll implements [afero.Fs].
func (f *Fs) RemoveAll(name string) error { return f.root.RemoveAll(inside(name)) }

// Rename implements [afero.Fs].
func (f *Fs) Rename(from, to string) error { return f.root.Rename(inside(from), inside(to)) }

// Stat implements [afero.Fs].
func (f *Fs) Stat(name string) (os.FileInfo, error) { return f.root.Stat(inside(name)) }

// Chmod implements [afero.Fs].
func (f *Fs) Chmod(name string, mode os.FileMode) error { return f.root.Chmod(inside(name), mode) }

// Chown implements [afero.Fs].
func (f *Fs) Chown(name string, uid, gid int) error { return f.root.Chown(inside(name), uid, gid) }

// Chtimes implements [afero.Fs].
func (f *Fs) Chtimes(name string, atime, mtime time.Time) error {
	return f.root.Chtimes(inside(name), atime, mtime)
}
