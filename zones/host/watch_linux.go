package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// watcher hears from the kernel what changes in directories, whoever changes it.
type watcher struct {
	fd int
	f  *os.File
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch zones: %w", err)
	}
	return &watcher{fd, os.NewFile(uintptr(fd), "inotify")}, nil
}

// add has it hear of a directory.
func (w *watcher) add(path string, mask uint32) error {
	if _, err := unix.InotifyAddWatch(w.fd, path, mask); err != nil {
		return fmt.Errorf("watch zones: %w", err)
	}
	return nil
}

func (h *Host) watchRecords() (*watcher, error) {
	w, err := newWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.add(filepath.Join(h.cfg.Dir, "zones"), unix.IN_MOVED_TO|unix.IN_DELETE); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// next waits for changes and gives the uuids; all is set when some were lost.
func (w *watcher) next(ctx context.Context) (ids []string, all bool, err error) {
	stop := context.AfterFunc(ctx, func() { w.f.Close() })
	defer stop()
	buf := make([]byte, 64<<10)
	n, err := w.f.Read(buf)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if err != nil {
		return nil, false, fmt.Errorf("watch zones: %w", err)
	}
	for at := 0; at+unix.SizeofInotifyEvent <= n; {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
		name := strings.TrimRight(string(buf[at+unix.SizeofInotifyEvent:at+unix.SizeofInotifyEvent+int(e.Len)]), "\x00")
		at += unix.SizeofInotifyEvent + int(e.Len)
		all = all || e.Mask&unix.IN_Q_OVERFLOW != 0
		if id, ok := strings.CutSuffix(name, ".json"); ok && zones.ValidID(id) {
			ids = append(ids, id)
		}
	}
	return ids, all, nil
}

func (w *watcher) close() { w.f.Close() }
