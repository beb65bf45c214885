package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/mobulacloud/mobula/zones"
)

// Run looks after the zones until ctx ends, and returns when all its goroutines have: it boots those with autoboot once
// after the machine came up, notices ends, restarts zones that asked for a reboot, and answers guests' metadata. One process at a
// time does that for a directory; another gets [zones.ErrBusy]. Zones run on when it returns.
func (h *Host) Run(ctx context.Context) error {
	unlock, err := h.lock(ctx, "agent", false)
	if errors.Is(err, errLocked) {
		return fmt.Errorf("look after zones: another process does: %w", zones.ErrBusy)
	}
	if err != nil {
		return err
	}
	defer unlock()
	w, err := h.watchRecords()
	if err != nil {
		return err
	}
	defer w.close()
	a := &agent{Host: h, held: map[string]*attendance{}}
	defer a.stop()
	if _, err := h.Autoboot(ctx); err != nil {
		h.log.Error("autoboot", "err", err)
	}
	all := true
	var ids []string
	for {
		if all {
			if ids, err = h.uuids(); err != nil {
				return err
			}
			for id := range a.held {
				ids = append(ids, id)
			}
		}
		for _, id := range ids {
			a.attend(ctx, id)
		}
		if ids, all, err = w.next(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// agent is who attends to running machines.
type agent struct {
	*Host
	held map[string]*attendance
	wg   sync.WaitGroup
}

// attendance is to one machine, from its start to its end.
type attendance struct {
	handle string
	cancel context.CancelFunc
}

func (a *agent) stop() {
	for _, at := range a.held {
		at.cancel()
	}
	a.wg.Wait()
}

// attend brings what is done for a zone to what its record says now.
func (a *agent) attend(ctx context.Context, id string) {
	r, err := a.load(id)
	handle := ""
	if err == nil && r.Handle != nil {
		handle = string(r.Handle.Data)
	}
	if at := a.held[id]; at != nil {
		if at.handle == handle {
			return
		}
		at.cancel()
		delete(a.held, id)
	}
	if handle == "" {
		return
	}
	d, err := a.driver(r.Spec.Brand)
	if err != nil {
		return
	}
	if err := d.Recover(ctx, *r.Handle); err != nil && !errors.Is(err, zones.ErrNotExist) {
		a.log.Error("machine cannot be taken over", "zone", id, "err", err)
		return
	}
	on, cancel := context.WithCancel(ctx)
	a.held[id] = &attendance{handle: handle, cancel: cancel}
	a.wg.Go(func() {
		if err := a.serveMetadata(on, &r, d); err != nil && on.Err() == nil {
			a.log.Error("metadata", "zone", id, "err", err)
		}
	})
	a.wg.Go(func() { a.await(on, id, d) })
	if r.Provisioning != nil {
		a.wg.Go(func() {
			if err := a.awaitProvisioned(on, id); err != nil && on.Err() == nil && !errors.Is(err, zones.ErrFailed) && !errors.Is(err, zones.ErrNotExist) {
				a.log.Error("provisioning", "zone", id, "err", err)
			}
		})
	}
}

// await waits for the machine's end; whoever takes the zone after it finds that out, and settles it.
func (a *agent) await(ctx context.Context, id string, d zones.Driver) {
	_, err := d.Wait(ctx, id)
	if ctx.Err() != nil {
		return
	}
	if err != nil && !errors.Is(err, zones.ErrNotExist) {
		a.log.Error("wait for a machine", "zone", id, "err", err)
		return
	}
	z, err := a.acquire(ctx, id)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, zones.ErrNotExist) {
			a.log.Error("settle a zone that has ended", "zone", id, "err", err)
		}
		return
	}
	z.unlock()
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// Autoboot starts every stopped zone with autoboot if this is the first time it is called since the machine booted; else it does
// nothing. It gives how many it started; zones that do not start are in the error.
func (h *Host) Autoboot(ctx context.Context) (int, error) {
	unlock, err := h.lock(ctx, "boot", true)
	if err != nil {
		return 0, err
	}
	defer unlock()
	f, err := h.loadHostFile()
	if err != nil || f.Boot == bootID() {
		return 0, err
	}
	ids, err := h.uuids()
	if err != nil {
		return 0, err
	}
	var errs []error
	n := 0
	for _, id := range ids {
		r, err := h.load(id)
		if err != nil || !r.Spec.AutobootOn() || r.Failure != "" {
			continue
		}
		err = h.Start(ctx, id, StartOptions{})
		switch {
		case err == nil:
			n++
		case !errors.Is(err, zones.ErrRunning):
			errs = append(errs, err)
		}
	}
	f.Boot = bootID()
	unlockFile, err := h.lock(ctx, "host", true)
	if err != nil {
		return n, errors.Join(append(errs, err)...)
	}
	defer unlockFile()
	return n, errors.Join(append(errs, h.saveHostFile(f))...)
}
