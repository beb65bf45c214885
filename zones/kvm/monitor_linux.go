package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/kvm/qmp"
)

// Files by which processes that have the same machine take turns: the monitor and the console serve one at a time.
const (
	qmpLock     = "qmp.lock"
	consoleLock = "console.lock"
	diskLock    = "disks.lock"
)

// tryLock takes a lock file, or answers nil if somebody has it. It is released when the file is closed, by the end of the
// process at the latest.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	return nil, err
}

// lock waits for a lock file.
func lock(ctx context.Context, path string) (*os.File, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		f, err := tryLock(path)
		if f != nil || err != nil {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// session connects to the monitor for some commands. It is kept as short as they take: other processes wait for it.
func (m *machine) session(ctx context.Context) (c *qmp.Client, end func(), err error) {
	held, err := lock(ctx, filepath.Join(m.rec.RunDir, qmpLock))
	if err != nil {
		return nil, nil, m.gone(err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(m.rec.RunDir, qmpSocket))
	if err == nil {
		c, err = qmp.Connect(ctx, conn, nil)
	}
	if err != nil {
		held.Close()
		return nil, nil, m.gone(fmt.Errorf("monitor: %w", err))
	}
	return c, func() { c.Close(); held.Close() }, nil
}

// gone makes an error of a machine that has just ended what it is.
func (m *machine) gone(err error) error {
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, fs.ErrNotExist) || !m.rec.alive() {
		return fmt.Errorf("%w: %w", zones.ErrNotRunning, err)
	}
	return err
}

// execute runs one command.
func (m *machine) execute(ctx context.Context, command string, arguments, result any) error {
	c, end, err := m.session(ctx)
	if err != nil {
		return err
	}
	defer end()
	return c.Execute(ctx, command, arguments, result)
}

// lockDisks keeps other callers, of this process and of others, from quiescing or keeping states meanwhile.
func (m *machine) lockDisks(ctx context.Context) (unlock func(), err error) {
	f, err := lock(ctx, filepath.Join(m.rec.RunDir, diskLock))
	if err != nil {
		return nil, m.gone(err)
	}
	return func() { f.Close() }, nil
}
