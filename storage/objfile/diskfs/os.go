package diskfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"syscall"
)

// OS is the [FS] of a real directory.
type OS struct {
	root *os.Root
	self *os.File // the directory, for Space
	dir  string
}

// OpenOS opens a directory, which must exist.
func OpenOS(dir string) (*OS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	self, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	return &OS{root: root, self: self, dir: dir}, nil
}

// Dir returns the directory that OpenOS was given.
func (o *OS) Dir() string { return o.dir }

// Close closes the directory; files that are open stay usable.
func (o *OS) Close() error { return errors.Join(o.self.Close(), o.root.Close()) }

// Create implements [FS].
func (o *OS) Create(name string) (File, error) {
	f, err := o.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f}, nil
}

// Open implements [FS].
func (o *OS) Open(name string) (File, error) {
	f, err := o.root.Open(name)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f}, nil
}

// Mkdir implements [FS].
func (o *OS) Mkdir(name string) error { return o.root.Mkdir(name, 0o700) }

// Remove implements [FS].
func (o *OS) Remove(name string) error { return o.root.Remove(name) }

// Rename implements [FS].
func (o *OS) Rename(from, to string) error { return o.root.Rename(from, to) }

// Stat implements [FS]. It does not follow symbolic links: there are none in a store.
func (o *OS) Stat(name string) (fs.FileInfo, error) { return o.root.Lstat(name) }

// Names implements [FS].
func (o *OS) Names(dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		d, err := o.root.Open(dir)
		if err != nil {
			yield("", err)
			return
		}
		defer d.Close()
		for {
			names, err := d.Readdirnames(1024)
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield("", err)
				return
			}
		}
	}
}

// SyncDir implements [FS].
func (o *OS) SyncDir(name string) error {
	d, err := o.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Lock implements [FS].
func (o *OS) Lock(name string) (io.Closer, error) {
	f, err := o.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		f.Close()
		if err == syscall.EWOULDBLOCK {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path.Join(o.dir, name), err)
	}
	return f, nil
}

func flock(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EINTR {
			return err
		}
	}
}

// osFile is an open file; the platform adds what package os lacks.
type osFile struct{ *os.File }

// OSFile returns the file itself, for callers that hand it on to the kernel or to a container.
func (f *osFile) OSFile() *os.File { return f.File }

func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
