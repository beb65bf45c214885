package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// A new zone of a joyent brand whose metadata has scripts is provisioning until they have run. As in SmartOS's images a file in the zone
// says so: /var/svc/provisioning is there from the start, and the zone renames it to provision_success or provision_failure. Zones without
// scripts, docker-style and lx zones and VMs have nothing to say: they are provisioned as soon as they run.
const (
	markerDir     = "var/svc"
	markerPending = markerDir + "/provisioning"
	markerFailure = markerDir + "/provision_failure"
)

// provisioning is part of the record of a zone that is not done with its first boot.
type provisioning struct {
	// Deadline is when it has failed.
	Deadline time.Time `json:"deadline"`
}

// provisionScript runs a zone's scripts in place of the services that later boots have, and tells how that went.
const provisionScript = `#!/bin/sh
for name in operator-script user-script; do
	test -x /.zonecontrol/$name || continue
	/.zonecontrol/$name || {
		echo "$name ended with status $?" > /var/svc/provisioning
		mv -f /var/svc/provisioning /var/svc/provision_failure
		exit 1
	}
done
mv -f /var/svc/provisioning /var/svc/provision_success
`

// provisions says how a zone that is about to be made is provisioned; nil for one that has nothing to do.
func (z *zone) provisions() *provisioning {
	s := z.Spec
	if s.Brand.Type() != "OS" || s.Docker || z.Container != nil || s.InitName != "" || !s.AutobootOn() ||
		z.script("operator-script") == "" && z.script("user-script") == "" {
		return nil
	}
	return &provisioning{Deadline: time.Now().Add(time.Duration(s.MdataExecTimeout) * time.Second).UTC()}
}

// outcome is what a zone's marker says.
type outcome struct {
	done    bool
	failure string
}

// marker reads a zone's marker. A zone that removes it says that it is done.
func (z *zone) marker(ctx context.Context) (outcome, error) {
	var out outcome
	err := z.inRoot(ctx, func(root *os.Root) error {
		_, err := root.Lstat(markerPending)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		out.done = true
		f, err := root.OpenFile(markerFailure, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		out.failure = "the zone says that it failed"
		if err != nil {
			return nil // it is there, whatever it is
		}
		defer f.Close()
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
			b, _ := io.ReadAll(io.LimitReader(f, 200))
			if text := printable(string(b)); text != "" {
				out.failure = text
			}
		}
		return nil
	})
	return out, err
}

// printable makes what a zone wrote fit for a line on a terminal.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
}

// settleProvisioning notes how provisioning went, in a zone that we hold, if that is known by now. One that failed is stopped.
func (z *zone) settleProvisioning(ctx context.Context) error {
	if z.Provisioning == nil {
		return nil
	}
	out, err := z.marker(ctx)
	if err != nil {
		return err
	}
	switch {
	case out.done && out.failure == "":
		z.log.Info("zone provisioned", "zone", z.id)
		z.Provisioning = nil
		return z.done()
	case out.done:
		return z.fail(ctx, out.failure)
	case time.Now().After(z.Provisioning.Deadline):
		return z.fail(ctx, fmt.Sprintf("it was not provisioned within %d seconds", z.Spec.MdataExecTimeout))
	case z.Handle == nil && z.Exit != nil && !z.Exit.Unknown: // else the machine went down with the host, and it goes on when it is up again
		return z.fail(ctx, "it ended before it was provisioned")
	}
	return nil
}

// fail ends provisioning for good.
func (z *zone) fail(ctx context.Context, why string) error {
	z.log.Warn("provisioning failed", "zone", z.id, "why", why)
	z.Provisioning, z.Failure = nil, why
	if z.Handle == nil {
		return z.done()
	}
	if err := z.begin(op{Verb: "stop"}); err != nil {
		return err
	}
	return errors.Join(z.halt(ctx, StopOptions{Force: true}), z.settleOp(ctx))
}

// attendProvisioning waits until a zone that was just made is provisioned. If nobody looks after zones yet, as when a command makes the first, it
// answers the zone's metadata meanwhile: its scripts may ask.
func (h *Host) attendProvisioning(ctx context.Context, id string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	on, cancel := context.WithCancel(ctx)
	defer cancel()
	if r, err := h.load(id); err == nil && !h.attended(ctx) {
		if d, err := h.driver(r.Spec.Brand); err == nil {
			wg.Go(func() {
				if err := h.serveMetadata(on, &r, d); err != nil && on.Err() == nil {
					h.log.Error("metadata", "zone", id, "err", err)
				}
			})
		}
	}
	return h.awaitProvisioned(ctx, id)
}

// awaitProvisioned waits until a zone is provisioned, and settles it; [zones.ErrFailed] if it failed. Nothing is held meanwhile.
func (h *Host) awaitProvisioned(ctx context.Context, id string) error {
	for {
		z, err := h.acquire(ctx, id)
		if err != nil {
			return err
		}
		pending, failure, handle := z.Provisioning, z.Failure, z.Handle
		var w *watcher
		if pending != nil {
			w, err = z.watchMarker(ctx)
		}
		z.unlock()
		switch {
		case err != nil:
			return err
		case failure != "":
			return fmt.Errorf("%w: %s", zones.ErrFailed, failure)
		case pending == nil:
			return nil
		}
		h.markerMoves(ctx, w, id, handle, pending.Deadline)
		w.close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// watchMarker hears of changes beside the marker, and of one that was made before it was called.
func (z *zone) watchMarker(ctx context.Context) (*watcher, error) {
	w, err := newWatcher()
	if err != nil {
		return nil, err
	}
	err = z.inRoot(ctx, func(root *os.Root) error {
		d, err := root.Open(markerDir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // which is an answer, found by the next look
		}
		if err != nil {
			return err
		}
		defer d.Close()
		// By the open directory: a path could lead elsewhere by now.
		return w.add(fmt.Sprintf("/proc/self/fd/%d", d.Fd()), unix.IN_MOVED_FROM|unix.IN_DELETE|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR)
	})
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// markerMoves returns when something happened: the marker may have moved, the machine has ended, or the time is over.
func (h *Host) markerMoves(ctx context.Context, w *watcher, id string, handle *zones.Handle, deadline time.Time) {
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(time.Millisecond))
	defer cancel()
	if r, err := h.load(id); err == nil && handle != nil {
		if d, err := h.driver(r.Spec.Brand); err == nil {
			go func() {
				defer cancel()
				if _, err := d.Wait(ctx, id); err != nil && ctx.Err() == nil {
					h.log.Debug("wait for a machine", "zone", id, "err", err)
				}
			}()
		}
	}
	z := &zone{Host: h, id: id}
	var err error
	for z.record, err = h.load(id); err == nil && z.Provisioning != nil; {
		if out, err := z.marker(ctx); err != nil || out.done {
			return
		}
		if _, _, err := w.next(ctx); err != nil {
			return
		}
		// A zone that keeps changing the directory costs no more than this.
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}
