package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/host"
)

// startAgent starts the process that looks after running zones. If there is one already the new one finds that out and goes.
func (c *command) startAgent() error {
	log, err := os.OpenFile(filepath.Join(c.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	a := exec.Command("/proc/self/exe", "-dir", c.dir, "agent")
	a.Args[0] = "vmadm"
	a.Dir, a.Stdout, a.Stderr = "/", log, log
	a.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.Args[2], err = filepath.Abs(c.dir); err != nil {
		return err
	}
	if err := a.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	return a.Process.Release()
}

// agent looks after zones until none runs.
func (c *command) agent(ctx context.Context, _ call) error {
	// Whoever started us may have been followed by a destroy; then there is nothing to look after, and nothing to make.
	if _, err := os.Stat(filepath.Join(c.dir, "host", "host.json")); err != nil {
		return nil
	}
	c.verbose = true
	return c.with(ctx, func(s *server) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			defer cancel()
			for e, err := range s.Events(ctx) {
				if err != nil || e.Type != zones.EventReady && !anyRunning(ctx, s) {
					return
				}
				if e.Type == zones.EventReady && !anyRunning(ctx, s) {
					return
				}
			}
		}()
		// Another one may be just about to go because it saw the last zone end before this one's began.
		for range 20 {
			err := s.Run(ctx)
			if !errors.Is(err, zones.ErrBusy) {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond):
			}
		}
		return nil
	})
}

func anyRunning(ctx context.Context, s *server) bool {
	f, _ := host.ParseFilter("zone_state=running")
	l, err := s.List(ctx, f)
	return err != nil || len(l) > 0
}
