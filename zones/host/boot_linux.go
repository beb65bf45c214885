package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// StartOptions hold for one start of a VM.
type StartOptions struct {
	Boot zones.Boot
}

// StopOptions say how a zone is ended.
type StopOptions struct {
	// Force ends it at once, without asking.
	Force bool
	// Timeout is how long it may take to shut down before it is forced: 0 means 60 s for an OS zone, 10 s for a docker one, 180 s
	// for a VM.
	Timeout time.Duration
}

func (o StopOptions) timeout(s *zones.Spec) time.Duration {
	switch {
	case o.Timeout > 0:
		return o.Timeout
	case s.Brand.HVM():
		return 180 * time.Second
	case s.Docker:
		return 10 * time.Second
	}
	return 60 * time.Second
}

// Start boots a stopped zone. One that runs gives [zones.ErrRunning], one whose provisioning failed [zones.ErrFailed]: it can be reprovisioned or
// deleted.
func (h *Host) Start(ctx context.Context, id string, o StartOptions) error {
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("start", id, err)
	}
	defer z.unlock()
	if z.Handle != nil {
		return zones.OpError("start", id, zones.ErrRunning)
	}
	if z.Failure != "" {
		return zones.OpError("start", id, fmt.Errorf("%w: %s", zones.ErrFailed, z.Failure))
	}
	return zones.OpError("start", id, z.boot(ctx, o.Boot))
}

// Stop ends a zone: in order, then by force. One that does not run gives [zones.ErrNotRunning]. With Force it does not wait for a verb that waits
// for the zone to shut down, but ends that wait.
func (h *Host) Stop(ctx context.Context, id string, o StopOptions) error {
	killed := o.Force && h.overtake(ctx, id)
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("stop", id, err)
	}
	defer z.unlock()
	if z.Handle == nil {
		if killed {
			return nil // by us, and whoever waited for it has cleaned up
		}
		return zones.OpError("stop", id, zones.ErrNotRunning)
	}
	if err := z.begin(op{Verb: "stop"}); err != nil {
		return zones.OpError("stop", id, err)
	}
	return zones.OpError("stop", id, errors.Join(z.halt(ctx, o), z.settleOp(ctx)))
}

// Reboot ends a zone and starts it again. One that does not run gives [zones.ErrNotRunning].
func (h *Host) Reboot(ctx context.Context, id string, o StopOptions) error {
	killed := o.Force && h.overtake(ctx, id)
	z, err := h.acquire(ctx, id)
	if err != nil {
		return zones.OpError("reboot", id, err)
	}
	defer z.unlock()
	if z.Handle == nil {
		if killed && z.Failure == "" {
			return zones.OpError("reboot", id, z.boot(ctx, zones.Boot{}))
		}
		return zones.OpError("reboot", id, zones.ErrNotRunning)
	}
	if err := z.begin(op{Verb: "reboot", Running: true}); err != nil {
		return zones.OpError("reboot", id, err)
	}
	if err := z.halt(ctx, o); err != nil {
		return zones.OpError("reboot", id, errors.Join(err, z.settleOp(ctx)))
	}
	return zones.OpError("reboot", id, z.bootAgain(ctx))
}

// overtake kills the machine of a zone that another verb is busy with, which may be waiting for a shutdown that does not come, and reports
// whether it did. A verb that is busy with something else finds its machine gone, and ends as it would if the zone had ended by itself.
func (h *Host) overtake(ctx context.Context, id string) bool {
	if !zones.ValidID(id) {
		return false
	}
	unlock, err := h.lock(ctx, id, false)
	if err == nil {
		if _, err := h.load(id); errors.Is(err, zones.ErrNotExist) {
			(&zone{Host: h, id: id}).forgetLock() // we made it
		}
		unlock()
	}
	if !errors.Is(err, errLocked) {
		return false
	}
	d, err := h.running(ctx, id)
	return err == nil && d.Signal(ctx, id, zones.SIGKILL) == nil
}

// Kill sends a signal, SIGKILL if none is named, to a zone's first program. It does not wait for an end.
func (h *Host) Kill(ctx context.Context, id string, sig zones.Signal) error {
	if sig == "" {
		sig = zones.SIGKILL
	}
	d, err := h.running(ctx, id)
	if err != nil {
		return zones.OpError("kill", id, err)
	}
	return zones.OpError("kill", id, d.Signal(ctx, id, sig))
}

// boot starts the machine of a zone that has none. On error nothing is left of it.
func (z *zone) boot(ctx context.Context, b zones.Boot) error {
	if z.Op == nil {
		if err := z.begin(op{Verb: "start"}); err != nil {
			return err
		}
	}
	return z.up(ctx, b)
}

// bootAgain ends a verb that found the zone running.
func (z *zone) bootAgain(ctx context.Context) error {
	if !z.Op.Running {
		return z.done()
	}
	return z.up(ctx, zones.Boot{})
}

// up brings the machine up as the last step of a verb. The handle is stored before anybody hears of it, in one write with the verb's
// end. If it fails the verb ends with a zone that is stopped; a new zone's creator goes on to erase it.
func (z *zone) up(ctx context.Context, b zones.Boot) error {
	err := z.bringUp(ctx, b)
	if err != nil && z.Op != nil && z.Op.Verb != "create" {
		err = errors.Join(err, z.done())
	}
	return err
}

func (z *zone) bringUp(ctx context.Context, b zones.Boot) error {
	d, err := z.driver(z.Spec.Brand)
	if err != nil {
		return err
	}
	// An earlier attempt, or another process that ended the zone, may have left something that this driver remembers.
	if !z.fresh {
		if err := z.down(ctx, d); err != nil {
			return err
		}
	}
	z.fresh = false
	z.step(z.Op.Verb + ": prepare")
	m, err := z.prepare(ctx)
	if err == nil {
		m.Boot = b
		z.step(z.Op.Verb + ": start machine")
		var handle zones.Handle
		if handle, err = d.Start(ctx, m); err == nil {
			z.step(z.Op.Verb + ": machine started")
			under := z.Op
			z.Handle, z.Booted, z.Exit = &handle, time.Now().UTC(), nil
			if err = z.done(); err == nil {
				return nil
			}
			z.Handle, z.Op = nil, under
		}
	}
	clean, cancel := cleanUp(ctx)
	defer cancel()
	return errors.Join(err, z.down(clean, d))
}

// halt ends the machine within a verb and takes down what it stood on. If asking is cut short by ctx the machine runs on.
func (z *zone) halt(ctx context.Context, o StopOptions) error {
	d, st, err := z.machine(ctx)
	if err != nil {
		return err
	}
	z.step(z.Op.Verb + ": halt")
	if st.Phase == zones.PhaseRunning && !o.Force {
		err := d.Stop(ctx, z.id, o.timeout(z.Spec))
		if err != nil && !errors.Is(err, zones.ErrTimeout) && !errors.Is(err, zones.ErrNotSupported) && !errors.Is(err, zones.ErrNotExist) {
			return err
		}
	}
	if st.Phase == zones.PhaseRunning {
		if err := z.force(ctx, d); err != nil {
			return err
		}
		if st, err = d.Status(ctx, z.id); err != nil {
			st = zones.Status{Exit: zones.ExitStatus{Code: -1, Unknown: true}}
		}
	}
	z.step(z.Op.Verb + ": halted")
	return z.ended(ctx, d, st.Exit)
}

// force ends what asking did not.
func (z *zone) force(ctx context.Context, d zones.Driver) error {
	st, err := d.Status(ctx, z.id)
	if errors.Is(err, zones.ErrNotExist) || err == nil && st.Phase == zones.PhaseEnded {
		return nil
	}
	if err := d.Signal(ctx, z.id, zones.SIGKILL); err != nil && !errors.Is(err, zones.ErrNotRunning) && !errors.Is(err, zones.ErrNotExist) {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = d.Wait(wait, z.id)
	if err != nil && ctx.Err() == nil {
		err = nil // Destroy, which follows, is stronger
	}
	return err
}

// ended records how the machine ended, and removes all that it stood on but its datasets.
func (z *zone) ended(ctx context.Context, d zones.Driver, exit zones.ExitStatus) error {
	if exit.Time.IsZero() {
		exit.Time = time.Now().UTC()
	}
	z.Exit = &exit
	if z.Op == nil {
		if err := z.begin(op{Verb: "cleanup"}); err != nil {
			return err
		}
	} else if err := z.Host.save(&z.record); err != nil {
		return err
	}
	clean, cancel := cleanUp(ctx)
	defer cancel()
	if err := z.down(clean, d); err != nil {
		return err
	}
	z.step(z.Op.Verb + ": down")
	z.Handle = nil
	if z.Op.Verb == "cleanup" {
		return z.done()
	}
	return z.Host.save(&z.record)
}

// settleOp ends a verb whose outcome is in the record already.
func (z *zone) settleOp(ctx context.Context) error {
	if z.Op == nil {
		return nil
	}
	return z.done()
}

// machine takes the zone's machine over and says how it is. One that is gone without a trace has ended, nobody knows how.
func (z *zone) machine(ctx context.Context) (zones.Driver, zones.Status, error) {
	d, err := z.driver(z.Spec.Brand)
	if err != nil {
		return nil, zones.Status{}, err
	}
	st, err := z.status(ctx, d, z.Handle)
	return d, st, err
}

func (h *Host) status(ctx context.Context, d zones.Driver, handle *zones.Handle) (zones.Status, error) {
	gone := zones.Status{Phase: zones.PhaseEnded, Exit: zones.ExitStatus{Code: -1, Unknown: true}}
	if handle == nil {
		return gone, nil
	}
	err := d.Recover(ctx, *handle)
	if err == nil {
		var st zones.Status
		if st, err = d.Status(ctx, handle.ID); err == nil {
			return st, nil
		}
	}
	if errors.Is(err, zones.ErrNotExist) {
		return gone, nil
	}
	return zones.Status{}, err
}

// down removes the machine and what it stood on: control group and processes, metadata, network, mounts, run directory. It works from
// the id alone and may be repeated.
func (z *zone) down(ctx context.Context, d zones.Driver) error {
	if z.early != nil { // nothing may come after its removal
		<-z.early
		z.early = nil
	}
	if err := d.Destroy(ctx, z.id); err != nil {
		return err
	}
	if z.cfg.Network != nil {
		if err := z.cfg.Network.Detach(ctx, z.id); err != nil {
			return err
		}
	}
	return z.clearRun()
}

// runDir is where a running zone's sockets and mounts are.
func (h *Host) runDir(id string) string { return filepath.Join(h.cfg.RunDir, id) }

func (z *zone) clearRun() error {
	dir := z.runDir(z.id)
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// unmountBelow unmounts everything at and below a directory, the deepest first.
func unmountBelow(dir string) error {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	var at []string
	for line := range strings.SplitSeq(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			at = append(at, f[4])
		}
	}
	slices.SortFunc(at, func(a, b string) int { return len(b) - len(a) })
	for _, p := range at {
		if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// running gives the driver of a zone whose machine runs, without taking its lock: what it is asked for disturbs nobody.
func (h *Host) running(ctx context.Context, id string) (zones.Driver, error) {
	r, err := h.load(id)
	if err != nil {
		return nil, err
	}
	if r.Handle == nil {
		return nil, zones.ErrNotRunning
	}
	d, err := h.driver(r.Spec.Brand)
	if err != nil {
		return nil, err
	}
	st, err := h.status(ctx, d, r.Handle)
	if err != nil {
		return nil, err
	}
	if st.Phase != zones.PhaseRunning {
		return nil, zones.ErrNotRunning
	}
	return d, nil
}
