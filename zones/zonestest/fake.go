package zonestest

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// FakeName is the fake driver's, in capabilities and handles.
const FakeName = "fake"

// World is the machines of one make-believe host. They outlive the drivers opened on it, as real ones outlive processes. The
// zero value is an empty world.
type World struct {
	mu       sync.Mutex
	machines map[string]*fakeMachine
	nextPID  int
	faults   map[string][]fault
	calls    map[string]int
}

type fault struct {
	err   error
	after bool
}

// Fail makes the next call of the operation ("start", "stop", "signal", "exec", "update", "usage", "destroy", "recover", "reset",
// "give", "take", "console", "status") return err and do nothing. Several add up, in order.
func (w *World) Fail(op string, err error) { w.addFault(op, fault{err: err}) }

// FailAfter makes the next call of the operation do its work and then return err, as when an answer is lost. For
// "start" the machine runs although Start failed, as after a crash; only Destroy may be called then.
func (w *World) FailAfter(op string, err error) { w.addFault(op, fault{err: err, after: true}) }

func (w *World) addFault(op string, f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.faults == nil {
		w.faults = map[string][]fault{}
	}
	w.faults[op] = append(w.faults[op], f)
}

// Calls says how often the operation was called, refused calls included.
func (w *World) Calls(op string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[op]
}

// Running lists the machines that run, in order of id.
func (w *World) Running() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []string
	for id, m := range w.machines {
		if !m.hasEnded() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Machine returns what a running or ended machine was started with.
func (w *World) Machine(id string) (zones.Machine, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machines[id]
	if m == nil {
		return zones.Machine{}, false
	}
	return m.m, true
}

// End ends a running machine from inside with the status, as when its program exits. It reports whether it ran.
func (w *World) End(id string, st zones.ExitStatus) bool {
	w.mu.Lock()
	m := w.machines[id]
	w.mu.Unlock()
	return m != nil && m.end(st)
}

// Driver opens a driver on the world. Opening another is a restart: the second knows no machine until it recovers them.
// The first should not be used any more; programs that it started are killed.
func (w *World) Driver() *Fake {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.machines {
		m.killPrograms()
	}
	return &Fake{world: w, known: map[string]bool{}}
}

// Fake is a driver whose machines exist in a World. It implements zones.Driver, Consoler, Giver, Resetter and Lister.
type Fake struct {
	world *World
	mu    sync.Mutex
	known map[string]bool
}

var (
	_ zones.Driver   = (*Fake)(nil)
	_ zones.Consoler = (*Fake)(nil)
	_ zones.Giver    = (*Fake)(nil)
	_ zones.Resetter = (*Fake)(nil)
	_ zones.Lister   = (*Fake)(nil)
)

// NewFake is a driver on a world of its own.
func NewFake() *Fake { return new(World).Driver() }

// World returns the fake's world.
func (f *Fake) World() *World { return f.world }

// Capabilities implements zones.Driver.
func (f *Fake) Capabilities() zones.Capabilities {
	return zones.Capabilities{
		Name: FakeName, Brands: slices.Clone(zones.Brands), Exec: true, Console: true, Give: true, Reset: true, Survives: true, Isolation: "none",
		Limits: []string{"cpu_cap", "cpu_shares", "memory", "swap", "lwps", "locked_memory", "io_priority", "tmpfs"},
	}
}

// begin counts a call and takes its fault, if there is one.
func (w *World) begin(op string) fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == nil {
		w.calls = map[string]int{}
	}
	w.calls[op]++
	list := w.faults[op]
	if len(list) == 0 {
		return fault{}
	}
	w.faults[op] = list[1:]
	return list[0]
}

// do runs one operation with its fault and wraps its error.
func (f *Fake) do(op, id string, work func() error) error {
	ft := f.world.begin(op)
	if ft.err != nil && !ft.after {
		return zones.OpError(op, id, ft.err)
	}
	err := work()
	if ft.err != nil {
		err = ft.err
	}
	return zones.OpError(op, id, err)
}

func (f *Fake) find(id string) (*fakeMachine, error) {
	f.mu.Lock()
	known := f.known[id]
	f.mu.Unlock()
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	m := f.world.machines[id]
	if m == nil || !known {
		return nil, zones.ErrNotExist
	}
	return m, nil
}

func (f *Fake) running(id string) (*fakeMachine, error) {
	m, err := f.find(id)
	if err == nil && m.hasEnded() {
		err = zones.ErrNotRunning
	}
	return m, err
}

func (f *Fake) know(id string, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if known {
		f.known[id] = true
	} else {
		delete(f.known, id)
	}
}

// Start implements zones.Driver.
func (f *Fake) Start(ctx context.Context, m zones.Machine) (zones.Handle, error) {
	err := f.do("start", m.ID, func() error {
		if err := m.Check(); err != nil {
			return err
		}
		if !f.Capabilities().Serves(m.Spec.Brand) {
			return fmt.Errorf("%w: brand %s", zones.ErrNotSupported, m.Spec.Brand)
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if args := m.Init.Args; len(args) > 0 {
			if _, err := lookUp(args); err != nil {
				return &zones.StartError{Program: args[0], Err: err}
			}
		}
		w := f.world
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.machines[m.ID] != nil {
			return zones.ErrExist
		}
		if w.machines == nil {
			w.machines = map[string]*fakeMachine{}
		}
		w.nextPID++
		w.machines[m.ID] = newFakeMachine(m, 1000+w.nextPID)
		f.know(m.ID, true)
		return nil
	})
	if err != nil {
		return zones.Handle{}, err
	}
	return zones.Handle{ID: m.ID, Driver: FakeName, Version: 1, Data: []byte(m.ID)}, nil
}

// Recover implements zones.Driver.
func (f *Fake) Recover(_ context.Context, h zones.Handle) error {
	return f.do("recover", h.ID, func() error {
		if h.Driver != FakeName || h.Version != 1 {
			return fmt.Errorf("%w: handle of driver %q version %d", zones.ErrNotSupported, h.Driver, h.Version)
		}
		f.world.mu.Lock()
		defer f.world.mu.Unlock()
		if f.world.machines[h.ID] == nil {
			return zones.ErrNotExist
		}
		f.know(h.ID, true)
		return nil
	})
}

// Status implements zones.Driver.
func (f *Fake) Status(_ context.Context, id string) (st zones.Status, err error) {
	err = f.do("status", id, func() error {
		m, err := f.find(id)
		if err != nil {
			return err
		}
		st = zones.Status{Phase: zones.PhaseRunning, PID: m.pid, Started: m.started}
		if m.hasEnded() {
			st.Phase, st.PID, st.Exit = zones.PhaseEnded, 0, m.exit
		}
		return nil
	})
	return st, err
}

// Wait implements zones.Driver.
func (f *Fake) Wait(ctx context.Context, id string) (zones.ExitStatus, error) {
	m, err := f.find(id)
	if err != nil {
		return zones.ExitStatus{}, zones.OpError("wait", id, err)
	}
	select {
	case <-m.ended:
		return m.exit, nil
	case <-ctx.Done():
		return zones.ExitStatus{}, zones.OpError("wait", id, context.Cause(ctx))
	}
}

// Stop implements zones.Driver.
func (f *Fake) Stop(ctx context.Context, id string, grace time.Duration) error {
	return f.do("stop", id, func() error {
		m, err := f.find(id)
		if err != nil {
			return err
		}
		if grace <= 0 {
			grace = time.Minute
		}
		if sig := m.m.Init.StopSignal; sig == "" || sig == zones.SIGTERM || sig == zones.SIGKILL {
			m.end(zones.ExitStatus{})
		}
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-m.ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			return zones.ErrTimeout
		}
	})
}

// Signal implements zones.Driver. SIGKILL, SIGTERM and SIGINT end the machine, others do nothing.
func (f *Fake) Signal(_ context.Context, id string, sig zones.Signal) error {
	return f.do("signal", id, func() error {
		m, err := f.running(id)
		if err != nil {
			return err
		}
		n := sig.Number()
		switch {
		case n == 0:
			return fmt.Errorf("%w: signal %q", zones.ErrInvalid, sig)
		case sig == zones.SIGKILL || sig == zones.SIGTERM || sig == zones.SIGINT:
			m.end(zones.ExitStatus{Code: 128 + n, Signal: sig})
		}
		return nil
	})
}

// Update implements zones.Driver.
func (f *Fake) Update(_ context.Context, id string, l zones.Limits) error {
	return f.do("update", id, func() error {
		m, err := f.running(id)
		if err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.limits = l
		return nil
	})
}

// Usage implements zones.Driver. A machine uses a tenth of a CPU and 16 MiB.
func (f *Fake) Usage(_ context.Context, id string) (u zones.Usage, err error) {
	err = f.do("usage", id, func() error {
		m, err := f.running(id)
		if err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		now := time.Now()
		u = zones.Usage{Time: now, CPU: zones.CPUUsage{Total: now.Sub(m.started) / 10}, Processes: int64(1 + len(m.programs))}
		u.Memory = zones.MemoryUsage{RSS: 16 << 20, Total: 16 << 20, Peak: 16 << 20, Limit: uint64(m.limits.Memory)}
		return nil
	})
	return u, err
}

// Destroy implements zones.Driver.
func (f *Fake) Destroy(_ context.Context, id string) error {
	return f.do("destroy", id, func() error {
		w := f.world
		w.mu.Lock()
		m := w.machines[id]
		delete(w.machines, id)
		w.mu.Unlock()
		f.know(id, false)
		if m != nil {
			m.end(zones.ExitStatus{Code: 137, Signal: zones.SIGKILL})
		}
		return nil
	})
}

// List implements zones.Lister.
func (f *Fake) List(context.Context) ([]string, error) {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	return slices.Sorted(maps.Keys(f.world.machines)), nil
}

// Reset implements zones.Resetter.
func (f *Fake) Reset(_ context.Context, m zones.Machine) (zones.Handle, error) {
	err := f.do("reset", m.ID, func() error {
		old, err := f.running(m.ID)
		if err != nil {
			return err
		}
		if err := m.Check(); err != nil {
			return err
		}
		fresh := newFakeMachine(m, old.pid)
		f.world.mu.Lock()
		f.world.machines[m.ID] = fresh
		f.world.mu.Unlock()
		old.end(zones.ExitStatus{Code: 137, Signal: zones.SIGKILL})
		return nil
	})
	return zones.Handle{ID: m.ID, Driver: FakeName, Version: 1, Data: []byte(m.ID)}, err
}

// Give implements zones.Giver.
func (f *Fake) Give(_ context.Context, id string, g zones.Gift) error {
	return f.do("give", id, func() error {
		m, err := f.running(id)
		if err != nil {
			return err
		}
		st, err := g.File.Stat()
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() || !path.IsAbs(g.Path) || path.Clean(g.Path) == "/" {
			return fmt.Errorf("%w: %s to %q", zones.ErrInvalid, st.Mode(), g.Path)
		}
		return m.give(g, st.Size())
	})
}

// Take implements zones.Giver.
func (f *Fake) Take(_ context.Context, id, name string) error {
	return f.do("take", id, func() error {
		m, err := f.running(id)
		if err != nil {
			return err
		}
		m.take(path.Clean(name))
		return nil
	})
}
