package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mobulacloud/mobula/daemons/internal/control"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
)

// destroy stops the coal on a directory and removes everything it made there.
func destroy(ctx context.Context, env *proc.Env, args []string) error {
	fset := proc.Flags(env, "destroy")
	dir := dirFlag(env, fset)
	if _, err := proc.Parse(env, fset, args); err != nil {
		return err
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(abs); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s := &state{dir: abs}
	if err := s.check(); err != nil {
		return err
	}
	err = control.NewClient(abs).Call(ctx, http.MethodPost, "/shutdown", nil, nil)
	if err != nil && !errors.Is(err, control.ErrNotRunning) {
		return fmt.Errorf("stop coal: %w", err)
	}
	// The lock is free when the process has ended in order.
	f, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := waitLock(ctx, f); err != nil {
		return err
	}
	return os.RemoveAll(abs)
}

// waitLock takes a lock when its holder gives it up, or gives up with ctx.
func waitLock(ctx context.Context, f *os.File) error {
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
