package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
)

// repairAll settles every zone that no living process is busy with, then removes what belongs to no zone.
func (h *Host) repairAll(ctx context.Context) error {
	ids, err := h.uuids()
	if err != nil {
		return err
	}
	attended := h.attended(ctx)
	for _, id := range ids {
		// One who watches knows better how a machine ended than one who finds it gone; he settles it, or whoever next acts on the zone.
		if r, err := h.load(id); err == nil && r.Op == nil && attended {
			continue
		}
		z, err := h.acquireWith(ctx, id, false)
		switch {
		case err == nil:
			z.unlock()
		case errors.Is(err, errLocked), errors.Is(err, zones.ErrNotExist), errors.Is(err, errReceiving):
		default:
			h.log.Error("zone could not be repaired", "zone", id, "err", err)
			if ctx.Err() != nil {
				return err
			}
		}
	}
	return h.sweep(ctx)
}

// attended reports whether some process is in Run.
func (h *Host) attended(ctx context.Context) bool {
	unlock, err := h.lock(ctx, "agent", false)
	if err == nil {
		unlock()
	}
	return errors.Is(err, errLocked)
}

// sweep removes locks, run directories, machines and datasets of zones that are not there, each under that zone's lock, so that one who
// is just being made is left alone.
func (h *Host) sweep(ctx context.Context) error {
	seen := map[string]bool{}
	note := func(id string) {
		if zones.ValidID(id) {
			seen[id] = true
		}
	}
	for _, dir := range []string{filepath.Join(h.cfg.Dir, "locks"), filepath.Join(h.cfg.Dir, "zones"), h.cfg.RunDir} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			note(strings.TrimSuffix(strings.TrimPrefix(e.Name(), ".new-"), ".json"))
		}
	}
	all, err := h.cfg.Pool.List(ctx)
	if err != nil {
		return err
	}
	for _, d := range all {
		name, _, _ := strings.Cut(d.Name, ".")
		for _, prefix := range []string{"zone-", "data-"} {
			if id, ok := strings.CutPrefix(name, prefix); ok {
				note(id)
			}
		}
	}
	for _, d := range h.cfg.Drivers {
		if l, ok := zones.As[zones.Lister](d); ok {
			ids, err := l.List(ctx)
			if err != nil {
				return err
			}
			for _, id := range ids {
				note(id)
			}
		}
	}
	for id := range seen {
		if _, err := os.Lstat(h.recordPath(id)); err == nil {
			continue
		}
		if err := h.sweepOne(ctx, id); err != nil {
			return fmt.Errorf("remove what is left of zone %s: %w", id, err)
		}
	}
	return nil
}

func (h *Host) sweepOne(ctx context.Context, id string) error {
	unlock, err := h.lock(ctx, id, false)
	if errors.Is(err, errLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(h.recordPath(id)); err == nil {
		return nil
	}
	z := &zone{Host: h, id: id}
	var errs []error
	for _, d := range h.cfg.Drivers {
		errs = append(errs, z.down(ctx, d))
	}
	for _, name := range []string{dataDataset(id), rootDataset(id), rootDataset(id) + nextSuffix, rootDataset(id) + oldSuffix} {
		if err := h.cfg.Pool.Delete(ctx, name); err != nil && !errors.Is(err, dataset.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, h.forget(id))
	z.forgetLock()
	return errors.Join(errs...)
}

// repair settles what a dead process left under way in a zone that we hold, and notes an end that nobody saw.
func (z *zone) repair(ctx context.Context) error {
	if z.Op != nil && z.Op.Step != stepWaiting {
		z.log.Info("settle what was under way", "zone", z.id, "verb", z.Op.Verb, "step", z.Op.Step)
		verb := z.Op.Verb
		if err := z.repairOp(ctx); err != nil {
			return fmt.Errorf("settle %s: %w", verb, err)
		}
	}
	if err := z.dropSends(ctx); err != nil {
		return err
	}
	if z.Handle == nil {
		return z.settleProvisioning(ctx)
	}
	d, st, err := z.machine(ctx)
	if err != nil {
		return err
	}
	if st.Phase != zones.PhaseEnded {
		return z.settleProvisioning(ctx)
	}
	z.log.Info("zone has ended", "zone", z.id, "code", st.Exit.Code, "unknown", st.Exit.Unknown)
	if err := z.ended(ctx, d, st.Exit); err != nil {
		return err
	}
	if st.Exit.Reboot {
		return z.boot(ctx, zones.Boot{})
	}
	return z.settleProvisioning(ctx)
}

func (z *zone) repairOp(ctx context.Context) error {
	running := false
	if z.Handle != nil {
		_, st, err := z.machine(ctx)
		if err != nil {
			return err
		}
		running = st.Phase == zones.PhaseRunning
	}
	d, err := z.driver(z.Spec.Brand)
	if err != nil {
		return err
	}
	switch {
	case z.Op.Verb == "receive" && z.Op.Step == stepApplying:
		return z.backToMark(ctx)
	case z.Op.Verb == "receive" && z.Op.Step == stepWaiting:
		return nil // whoever sends has more
	}
	switch z.Op.Verb {
	case "create", "receive", "delete":
		if err := z.eraseAll(ctx); err != nil {
			return err
		}
		return fmt.Errorf("zone %s: %w", z.id, zones.ErrNotExist)

	case "start", "stop", "cleanup":
		// A machine whose handle is not stored was never heard of; one that runs, runs.
		if !running {
			if z.Handle != nil && z.Exit == nil {
				_, st, err := z.machine(ctx)
				if err != nil {
					return err
				}
				z.Exit = &st.Exit
			}
			if err := z.down(ctx, d); err != nil {
				return err
			}
			z.Handle = nil
		}
		return z.done()

	case "reboot":
		if running {
			return z.done()
		}
		z.Handle = nil
		return z.bootAgain(ctx)

	case "rollback":
		if running {
			return z.done() // it was not stopped yet
		}
		if err := z.down(ctx, d); err != nil {
			return err
		}
		z.Handle = nil
		if info, err := z.cfg.Pool.Get(ctx, rootDataset(z.id)); err != nil {
			return mapDataset(err)
		} else if _, ok := info.Find(snapPrefix + z.Op.Snapshot); !ok {
			return z.bootAgain(ctx)
		}
		return z.finishRollback(ctx)

	case "reprovision":
		if z.Op.Step == "swap" {
			if !running {
				if err := z.down(ctx, d); err != nil {
					return err
				}
				z.Handle = nil
			} else { // it was started already, on the new tree
				z.Op.Running = false
			}
			return z.finishReprovision(ctx)
		}
		if err := z.dropDataset(ctx, nextSuffix); err != nil {
			return err
		}
		if running {
			return z.done()
		}
		if err := z.down(ctx, d); err != nil {
			return err
		}
		z.Handle = nil
		return z.bootAgain(ctx)

	case "update":
		return z.finishUpdate(ctx, running)
	}
	return fmt.Errorf("unknown verb %q in the record", z.Op.Verb)
}
