package statefile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is what state files need of a file system. Paths are as for package os, and errors match fs.ErrNotExist where they should.
type FS interface {
	ReadFile(path string) ([]byte, error)
	// Names lists a directory.
	Names(dir string) ([]string, error)
	// Create makes a file for its owner alone, or empties the one that is there.
	Create(path string) (File, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
}

// File is a file that is being written.
type File interface {
	io.WriteCloser
	// Sync makes what was written durable.
	Sync() error
}

// tempPrefix begins the names of files that are not in their place yet.
const tempPrefix = ".new-"

// Temp is the one temporary name for a file. Whoever holds the file's lock uses it, so what a dead process left is written over, or
// removed by name.
func Temp(path string) string {
	return filepath.Join(filepath.Dir(path), tempPrefix+filepath.Base(path))
}

// TempFor is a temporary name that nobody else has. What a dead process leaves begins with ".new-" and may be removed by a sweep.
func TempFor(path string) string { return Temp(path) + "-" + rand.Text() }

// Write replaces the file at path by way of tmp, which is in the same directory. On error the file is the old or the new one.
func Write(fsys FS, tmp, path string, b []byte) error {
	return write(fsys, tmp, path, b, true)
}

// WriteVolatile is Write for a file that nobody needs after a power cut: it is as atomic, and syncs nothing.
func WriteVolatile(fsys FS, tmp, path string, b []byte) error {
	return write(fsys, tmp, path, b, false)
}

func write(fsys FS, tmp, path string, b []byte, durable bool) error {
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(tmp, path)
	}
	if err != nil {
		_ = fsys.Remove(tmp)
	} else if durable {
		err = fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// Remove removes a file for good; one that is not there: nil.
func Remove(fsys FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// OS is the system's file system.
type OS struct{}

// ReadFile implements [FS].
func (OS) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// Names implements [FS].
func (OS) Names(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// Create implements [FS].
func (OS) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

// Rename implements [FS].
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements [FS].
func (OS) Remove(path string) error { return os.Remove(path) }

// SyncDir implements [FS].
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
