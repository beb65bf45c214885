// Package statedir is a daemon's directory of state: marked as the daemon's own, locked while it runs, and written so that a crash
// leaves every file whole.
//
// Stability: internal to the daemons.
package statedir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Dir is a directory that is open. Its file "lock" holds the pid of the process that has it, and PROGRAM.json says whose it is, with the version of
// its layout.
type Dir struct {
	path    string
	program string
	lock    *os.File
}

// layout is the version of the daemons' directories. A newer program opens every older one.
const layout = 1

type marker struct {
	Program string `json:"program"`
	Layout  int    `json:"layout"`
}

// socketLimit is the longest path of a unix socket, less the longest name of ours.
const socketLimit = 104 - len("/control.sock")

// Open makes the directory, or opens one that is program's, and takes its lock. Nothing is touched in a directory that is
// something else's, or open in another process.
func Open(path, program string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if len(path) > socketLimit {
		return nil, fmt.Errorf("the path %s is too long for the sockets in it (choose a shorter -dir)", path)
	}
	d := &Dir{path: path, program: program}
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.MkdirAll(path, 0o700)
	case err == nil && len(entries) > 0:
		err = d.check()
	}
	if err != nil {
		return nil, err
	}
	if err := d.take(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(marker{program, layout})
	if err == nil {
		err = errors.Join(WriteFile(d.marker(), b, 0o600), os.Chmod(path, 0o700))
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Dir) marker() string { return d.Path(d.program + ".json") }

// Path returns a path in the directory.
func (d *Dir) Path(parts ...string) string {
	return filepath.Join(append([]string{d.path}, parts...)...)
}

// Close gives the lock up.
func (d *Dir) Close() error { return d.lock.Close() }

// check refuses a directory that is not the program's.
func (d *Dir) check() error {
	b, err := os.ReadFile(d.marker())
	var m marker
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(d.path)
		if err == nil && len(entries) == 1 && entries[0].Name() == "lock" {
			return nil // a first start that was cut off early
		}
		return fmt.Errorf("%s holds something that is not %s's (choose another -dir)", d.path, d.program)
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", d.marker(), err)
	}
	if m.Program != d.program || m.Layout > layout {
		return fmt.Errorf("%s was made by a newer version (layout %d, this program knows %d)", d.path, m.Layout, layout)
	}
	return nil
}

func (d *Dir) take() error {
	f, err := os.OpenFile(d.Path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(d.Path("lock")) // only to say more
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("%s is already running on %s (process %s)", d.program, d.path, strings.TrimSpace(string(pid)))
		}
		return fmt.Errorf("lock %s: %w", d.path, err)
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	if err := errors.Join(f.Truncate(int64(len(strconv.Itoa(os.Getpid()))+1)), err); err != nil {
		f.Close()
		return err
	}
	d.lock = f
	return nil
}

// Remove waits for the process that has the directory to end and removes it with everything in it. A directory that is not there is
// no error; one that is not the program's is left alone. Before anything is removed, undo ends what the directory knows of outside itself;
// if it cannot, the directory stays.
func Remove(ctx context.Context, path, program string, undo func() error) error {
	d := &Dir{path: path, program: program}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.check(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.Path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if undo != nil {
		if err := undo(); err != nil {
			return err
		}
	}
	return os.RemoveAll(path)
}

// WriteFile writes a file so that after a crash it is there in full or not at all.
func WriteFile(file string, content []byte, mode os.FileMode) error {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}
