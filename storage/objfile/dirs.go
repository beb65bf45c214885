package objfile

import (
	"errors"
	"os"
	"path"
	"sync"

	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// dirs makes directories and syncs them, each sync shared by all who wait.
type dirs struct {
	disk  diskfs.FS
	mu    sync.Mutex
	known map[string]bool
	syncs map[string]*dirSync
}

// make makes a directory whose parent is there, and makes it durable.
func (d *dirs) make(name string) error {
	d.mu.Lock()
	known := d.known[name]
	d.mu.Unlock()
	if known {
		return nil
	}
	if err := d.disk.Mkdir(name); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// Also if it was there: perhaps made by a process that died before it synced.
	if err := d.sync(path.Dir(name)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil || len(d.known) > 10_000 {
		d.known = map[string]bool{}
	}
	d.known[name] = true
	return nil
}

// dirSync is one directory's sync: running, and the one after it, which those who come meanwhile share.
type dirSync struct {
	mu   sync.Mutex
	wait int
	next *dirSyncRun
}

type dirSyncRun struct {
	once sync.Once
	err  error
}

// sync makes the entries of a directory durable that were there when it was called.
func (d *dirs) sync(name string) error {
	d.mu.Lock()
	if d.syncs == nil {
		d.syncs = map[string]*dirSync{}
	}
	y := d.syncs[name]
	if y == nil {
		y = &dirSync{next: &dirSyncRun{}}
		d.syncs[name] = y
	}
	y.wait++
	run := y.next
	d.mu.Unlock()

	y.mu.Lock() // while another sync runs, callers gather here, all with the same run
	run.once.Do(func() {
		d.mu.Lock()
		y.next = &dirSyncRun{} // who comes from now on needs another
		d.mu.Unlock()
		run.err = d.disk.SyncDir(name)
	})
	y.mu.Unlock()

	d.mu.Lock()
	defer d.mu.Unlock()
	if y.wait--; y.wait == 0 {
		delete(d.syncs, name)
	}
	return run.err
}
