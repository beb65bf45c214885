package zonestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// Subject is a driver under test and what the suite needs to use it.
type Subject struct {
	// Driver is fresh, or at least has no machine that Machine will name.
	Driver zones.Driver
	// Machine prepares a machine that has not been started, with an id of its own, whose first program stays until it
	// is stopped. What it makes it removes by t.Cleanup, after the suite's own.
	Machine func(t *testing.T) zones.Machine
	// Reopen makes a second driver over the same state, as a process does that was started after the first was killed. The
	// first is not used again. Needed if Capabilities().Survives.
	Reopen func(t *testing.T) zones.Driver
	// Programs: the driver runs Machine.Init.Args as the machine's program. The guest has true, false, echo, cat, tee, sleep,
	// env, pwd, id, stty and sh with exit, as every Linux has.
	Programs bool
}

// patience bounds every step, so that a driver that hangs fails rather than stalls the run.
const patience = 60 * time.Second

// TestDriver runs one subtest for each duty of zones.Driver and of the optional interfaces the driver declares. What it does not
// declare is skipped, and says so.
func TestDriver(t *testing.T, open func(t *testing.T) Subject) {
	tests := []struct {
		name string
		f    func(*testing.T, *suite)
	}{
		{"Capabilities", testCapabilities},
		{"UnknownID", testUnknownID},
		{"StartRefusesNonsense", testStartRefuses},
		{"StartOnce", testStartOnce},
		{"StartCancelled", testStartCancelled},
		{"Status", testStatus},
		{"WaitIsForAll", testWait},
		{"StopInOrder", testStop},
		{"Kill", testKill},
		{"ProgramEndsMachine", testProgram},
		{"StopTimeout", testStopTimeout},
		{"Update", testUpdate},
		{"Usage", testUsage},
		{"DestroyRepeated", testDestroy},
		{"ManyAtOnce", testMany},
		{"Recover", testRecover},
		{"RecoverUnknown", testRecoverUnknown},
		{"DestroyAfterRestart", testDestroyAfterRestart},
		{"Exec", testExec},
		{"ExecStreams", testExecStreams},
		{"ExecCannotStart", testExecCannotStart},
		{"ExecCancelled", testExecCancelled},
		{"ExecAlone", testExecAlone},
		{"ExecSignal", testExecSignal},
		{"ExecTerminal", testExecTerminal},
		{"ExecEndsWithMachine", testExecEnds},
		{"ExecMany", testExecMany},
		{"Console", testConsole},
		{"Give", testGive},
		{"Reset", testReset},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &suite{Subject: open(t)}
			if s.Driver == nil || s.Machine == nil {
				t.Fatal("zonestest: Subject needs Driver and Machine")
			}
			tt.f(t, s)
		})
	}
}

type suite struct{ Subject }

func (s *suite) need(t *testing.T, has bool, what string) {
	t.Helper()
	if !has {
		t.Skipf("the driver does not declare %s", what)
	}
}

func (s *suite) ctx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// run starts a prepared machine that is destroyed when the test ends, whatever driver is current then.
func (s *suite) run(t *testing.T, m zones.Machine) zones.Handle {
	t.Helper()
	t.Cleanup(func() { s.destroy(t, m.ID) })
	h, err := s.Driver.Start(s.ctx(t), m)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	if h.ID != m.ID || h.Driver != s.Driver.Capabilities().Name || h.Version == 0 {
		t.Errorf("handle %+v: want the id, the driver's name and a version", h)
	}
	return h
}

func (s *suite) destroy(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := s.Driver.Destroy(ctx, id); err != nil {
		t.Errorf("Destroy: %v", err)
	}
}

func (s *suite) start(t *testing.T) zones.Machine {
	t.Helper()
	m := s.Machine(t)
	s.run(t, m)
	return m
}

// reopen is a restart of the process.
func (s *suite) reopen(t *testing.T) {
	t.Helper()
	s.need(t, s.Driver.Capabilities().Survives, "Survives")
	if s.Reopen == nil {
		t.Fatal("zonestest: the driver declares Survives, so Subject needs Reopen")
	}
	s.Driver = s.Reopen(t)
}

func want(t *testing.T, what string, err, sentinel error) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("%s = %v, want %v", what, err, sentinel)
	}
}

func testCapabilities(t *testing.T, s *suite) {
	c := s.Driver.Capabilities()
	if c.Name == "" || len(c.Brands) == 0 || c.Isolation == "" {
		t.Errorf("%+v: name, brands and isolation must be told", c)
	}
	if fmt.Sprint(c) != fmt.Sprint(s.Driver.Capabilities()) {
		t.Error("two answers differ")
	}
	for name, pair := range map[string][2]bool{
		"Console": {c.Console, has[zones.Consoler](s.Driver)}, "Give": {c.Give, has[zones.Giver](s.Driver)},
		"Reset": {c.Reset, has[zones.Resetter](s.Driver)},
	} {
		if pair[0] && !pair[1] {
			t.Errorf("%s is declared but there is no method", name)
		}
	}
	if m := s.Machine(t); !c.Serves(m.Spec.Brand) {
		t.Errorf("the suite's machine has brand %s, which is not declared", m.Spec.Brand)
	}
}

func has[T any](d zones.Driver) bool { _, ok := zones.As[T](d); return ok }

func testUnknownID(t *testing.T, s *suite) {
	ctx, id := s.ctx(t), "ffffffff-0000-4000-8000-00000000dead"
	_, err := s.Driver.Status(ctx, id)
	want(t, "Status", err, zones.ErrNotExist)
	_, err = s.Driver.Wait(ctx, id)
	want(t, "Wait", err, zones.ErrNotExist)
	want(t, "Stop", s.Driver.Stop(ctx, id, time.Second), zones.ErrNotExist)
	want(t, "Signal", s.Driver.Signal(ctx, id, zones.SIGKILL), zones.ErrNotExist)
	want(t, "Update", s.Driver.Update(ctx, id, zones.Limits{}), zones.ErrNotExist)
	_, err = s.Driver.Usage(ctx, id)
	want(t, "Usage", err, zones.ErrNotExist)
	if s.Driver.Capabilities().Exec {
		_, err = s.Driver.Exec(ctx, id, zones.ExecRequest{Args: []string{"true"}})
		want(t, "Exec", err, zones.ErrNotExist)
	}
	if err := s.Driver.Destroy(ctx, id); err != nil {
		t.Errorf("Destroy = %v, want nil", err)
	}
	if e, ok := errors.AsType[*zones.Error](s.Driver.Signal(ctx, id, zones.SIGKILL)); !ok || e.Zone != id || e.Op == "" {
		t.Errorf("the error is %v, want a *zones.Error with op and zone", e)
	}
}

func testStartRefuses(t *testing.T, s *suite) {
	for name, spoil := range map[string]func(*zones.Machine){
		"id":     func(m *zones.Machine) { m.ID = "../../etc" },
		"ids":    func(m *zones.Machine) { m.IDs = zones.IDRange{} },
		"spec":   func(m *zones.Machine) { m.Spec = nil },
		"limits": func(m *zones.Machine) { m.Limits.CPUCap = -1 },
		"mount":  func(m *zones.Machine) { m.Mounts = append(m.Mounts, zones.Mount{Source: "/usr", Target: "/"}) },
	} {
		m := s.Machine(t)
		spoil(&m)
		if _, err := s.Driver.Start(s.ctx(t), m); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("Start with bad %s = %v, want ErrInvalid", name, err)
			if err == nil {
				s.destroy(t, m.ID)
			}
		}
	}
	m := s.Machine(t)
	m.Spec = m.Spec.Clone()
	m.Spec.Brand = "no-such-brand"
	_, err := s.Driver.Start(s.ctx(t), m)
	want(t, "Start of a brand that is not served", err, zones.ErrNotSupported)
}

func testStartOnce(t *testing.T, s *suite) {
	m := s.start(t)
	_, err := s.Driver.Start(s.ctx(t), m)
	want(t, "Start while it runs", err, zones.ErrExist)
	s.kill(t, m.ID)
	_, err = s.Driver.Start(s.ctx(t), m)
	want(t, "Start after its end", err, zones.ErrExist)
	s.destroy(t, m.ID)
	if _, err := s.Driver.Start(s.ctx(t), m); err != nil {
		t.Errorf("Start after Destroy: %v", err)
	}
}

func (s *suite) kill(t *testing.T, id string) zones.ExitStatus {
	t.Helper()
	if err := s.Driver.Signal(s.ctx(t), id, zones.SIGKILL); err != nil {
		t.Fatalf("Signal: %v", err)
	}
	st, err := s.Driver.Wait(s.ctx(t), id)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return st
}

func testStartCancelled(t *testing.T, s *suite) {
	m := s.Machine(t)
	ctx, cancel := context.WithCancel(s.ctx(t))
	cancel()
	if _, err := s.Driver.Start(ctx, m); !errors.Is(err, context.Canceled) {
		t.Errorf("Start = %v, want context.Canceled", err)
	}
	_, err := s.Driver.Status(s.ctx(t), m.ID)
	want(t, "Status", err, zones.ErrNotExist)
	s.run(t, m)
}

func testStatus(t *testing.T, s *suite) {
	m := s.start(t)
	st, err := s.Driver.Status(s.ctx(t), m.ID)
	if err != nil || st.Phase != zones.PhaseRunning || st.PID <= 0 || st.Started.IsZero() {
		t.Errorf("Status = %+v, %v", st, err)
	}
	end := s.kill(t, m.ID)
	st, err = s.Driver.Status(s.ctx(t), m.ID)
	if err != nil || st.Phase != zones.PhaseEnded || st.PID != 0 || st.Exit != end {
		t.Errorf("Status after the end = %+v, %v; want exit %+v", st, err, end)
	}
}

func testWait(t *testing.T, s *suite) {
	m := s.start(t)
	ctx, cancel := context.WithCancel(s.ctx(t))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Driver.Wait(ctx, m.ID); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v, want context.Canceled", err)
		}
	})
	cancel()
	wg.Wait()
	if st, err := s.Driver.Status(s.ctx(t), m.ID); err != nil || st.Phase != zones.PhaseRunning {
		t.Fatalf("a cancelled Wait ended the machine: %+v, %v", st, err)
	}
	all := make([]zones.ExitStatus, 4)
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = s.Driver.Wait(s.ctx(t), m.ID); err != nil {
				t.Errorf("Wait: %v", err)
			}
		})
	}
	end := s.kill(t, m.ID)
	wg.Wait()
	for _, st := range all {
		if st != end {
			t.Errorf("Wait = %+v, another got %+v", st, end)
		}
	}
	m = s.start(t)
	wg.Go(func() {
		if _, err := s.Driver.Wait(s.ctx(t), m.ID); errors.Is(err, context.DeadlineExceeded) {
			t.Error("Destroy did not end Wait")
		}
	})
	s.destroy(t, m.ID)
	wg.Wait()
}

func testStop(t *testing.T, s *suite) {
	m := s.start(t)
	if err := s.Driver.Stop(s.ctx(t), m.ID, patience/2); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	st, err := s.Driver.Wait(s.ctx(t), m.ID)
	if err != nil || st.Signal == zones.SIGKILL {
		t.Errorf("Wait = %+v, %v; want an end in order", st, err)
	}
	if err := s.Driver.Stop(s.ctx(t), m.ID, time.Second); err != nil {
		t.Errorf("Stop again = %v, want nil", err)
	}
}

func testKill(t *testing.T, s *suite) {
	m := s.start(t)
	st := s.kill(t, m.ID)
	if st.Success() || st.Time.IsZero() {
		t.Errorf("Wait = %+v after SIGKILL", st)
	}
	want(t, "Signal after the end", s.Driver.Signal(s.ctx(t), m.ID, zones.SIGKILL), zones.ErrNotRunning)
	_, err := s.Driver.Usage(s.ctx(t), m.ID)
	want(t, "Usage after the end", err, zones.ErrNotRunning)
	want(t, "Update after the end", s.Driver.Update(s.ctx(t), m.ID, m.Limits), zones.ErrNotRunning)
	want(t, "Signal with no such name", s.Driver.Signal(s.ctx(t), s.start(t).ID, "SIGNONE"), zones.ErrInvalid)
}

func testProgram(t *testing.T, s *suite) {
	s.need(t, s.Programs, "Programs (in the Subject)")
	m := s.Machine(t)
	m.Init = zones.Init{Args: []string{"sh", "-c", "exit 7"}}
	s.run(t, m)
	if st, err := s.Driver.Wait(s.ctx(t), m.ID); err != nil || st.Code != 7 || st.Signal != "" || st.Unknown {
		t.Errorf("Wait = %+v, %v; want code 7", st, err)
	}
	m = s.Machine(t)
	m.Init = zones.Init{Args: []string{"/no/such/program"}}
	if _, err := s.Driver.Start(s.ctx(t), m); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Start of no program = %v, want a *zones.StartError that is fs.ErrNotExist", err)
	} else if _, ok := errors.AsType[*zones.StartError](err); !ok {
		t.Errorf("Start of no program = %v, want a *zones.StartError", err)
	}
	_, err := s.Driver.Status(s.ctx(t), m.ID)
	want(t, "Status after a failed Start", err, zones.ErrNotExist)
}

func testStopTimeout(t *testing.T, s *suite) {
	s.need(t, s.Programs, "Programs (in the Subject)")
	m := s.Machine(t)
	m.Init = zones.Init{Args: []string{"sleep", "1000"}, StopSignal: "SIGCHLD"} // which nobody minds
	s.run(t, m)
	want(t, "Stop", s.Driver.Stop(s.ctx(t), m.ID, 50*time.Millisecond), zones.ErrTimeout)
	if st, err := s.Driver.Status(s.ctx(t), m.ID); err != nil || st.Phase != zones.PhaseRunning {
		t.Errorf("Status = %+v, %v; the machine should run on", st, err)
	}
}

func testUpdate(t *testing.T, s *suite) {
	m := s.start(t)
	l := m.Limits
	if s.Driver.Capabilities().Enforces("memory") {
		l.Memory += 64 << 20
		l.Swap = max(l.Swap, l.Memory)
	}
	l.CPUShares = 200
	for range 2 {
		if err := s.Driver.Update(s.ctx(t), m.ID, l); err != nil {
			t.Fatalf("Update: %v", err)
		}
	}
	if u, err := s.Driver.Usage(s.ctx(t), m.ID); err != nil {
		t.Errorf("Usage: %v", err)
	} else if s.Driver.Capabilities().Enforces("memory") && u.Memory.Limit != uint64(l.Memory) {
		t.Errorf("memory limit reads %d, want %d", u.Memory.Limit, l.Memory)
	}
}

func testUsage(t *testing.T, s *suite) {
	m := s.start(t)
	a, err := s.Driver.Usage(s.ctx(t), m.ID)
	if err != nil {
		t.Fatalf("Usage: %v", err)
	}
	b, err := s.Driver.Usage(s.ctx(t), m.ID)
	if err != nil || b.Time.Before(a.Time) || b.CPU.Total < a.CPU.Total || b.Disk.ReadBytes < a.Disk.ReadBytes {
		t.Errorf("Usage went back from %+v to %+v, %v", a, b, err)
	}
	if a.CPU.Total == 0 && a.Memory.Total == 0 {
		t.Errorf("Usage = %+v: a running machine has used nothing", a)
	}
}

func testDestroy(t *testing.T, s *suite) {
	m := s.start(t)
	for range 3 {
		if err := s.Driver.Destroy(s.ctx(t), m.ID); err != nil {
			t.Fatalf("Destroy: %v", err)
		}
	}
	_, err := s.Driver.Status(s.ctx(t), m.ID)
	want(t, "Status", err, zones.ErrNotExist)
	if l, ok := zones.As[zones.Lister](s.Driver); ok {
		ids, err := l.List(s.ctx(t))
		if err != nil || strings.Contains(strings.Join(ids, " "), m.ID) {
			t.Errorf("List = %v, %v after Destroy", ids, err)
		}
	}
}

func testMany(t *testing.T, s *suite) {
	var wg sync.WaitGroup
	for range 4 {
		m := s.Machine(t)
		t.Cleanup(func() { s.destroy(t, m.ID) })
		wg.Go(func() {
			for range 2 {
				if _, err := s.Driver.Start(t.Context(), m); err != nil {
					t.Errorf("Start: %v", err)
					return
				}
				if st, err := s.Driver.Status(t.Context(), m.ID); err != nil || st.Phase != zones.PhaseRunning {
					t.Errorf("Status = %+v, %v", st, err)
				}
				if err := s.Driver.Destroy(t.Context(), m.ID); err != nil {
					t.Errorf("Destroy: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func testRecover(t *testing.T, s *suite) {
	m := s.Machine(t)
	h := s.run(t, m)
	before, err := s.Driver.Status(s.ctx(t), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	_, err = s.Driver.Status(s.ctx(t), m.ID)
	want(t, "Status before Recover", err, zones.ErrNotExist)
	_, err = s.Driver.Start(s.ctx(t), m)
	want(t, "Start of a machine that runs on", err, zones.ErrExist)
	for range 2 {
		if err := s.Driver.Recover(s.ctx(t), h); err != nil {
			t.Fatalf("Recover: %v", err)
		}
	}
	if st, err := s.Driver.Status(s.ctx(t), m.ID); err != nil || st.PID != before.PID || st.Phase != zones.PhaseRunning {
		t.Errorf("Status = %+v, %v; before the restart %+v", st, err, before)
	}
	if s.Driver.Capabilities().Exec {
		if out := s.output(t, m.ID, "echo", "again"); out != "again\n" {
			t.Errorf("exec after the restart printed %q", out)
		}
	}
	if _, err := s.Driver.Usage(s.ctx(t), m.ID); err != nil {
		t.Errorf("Usage after the restart: %v", err)
	}
	if err := s.Driver.Stop(s.ctx(t), m.ID, patience/2); err != nil {
		t.Errorf("Stop after the restart: %v", err)
	}
	if _, err := s.Driver.Wait(s.ctx(t), m.ID); err != nil {
		t.Errorf("Wait after the restart: %v", err)
	}
}

func testRecoverUnknown(t *testing.T, s *suite) {
	m := s.Machine(t)
	h := s.run(t, m)
	for name, h := range map[string]zones.Handle{
		"another driver's": {ID: h.ID, Driver: "someone-else", Version: h.Version, Data: h.Data},
		"a later version":  {ID: h.ID, Driver: h.Driver, Version: 1 << 30, Data: h.Data},
	} {
		want(t, "Recover of "+name+" handle", s.Driver.Recover(s.ctx(t), h), zones.ErrNotSupported)
	}
	s.destroy(t, m.ID)
	want(t, "Recover of a destroyed machine", s.Driver.Recover(s.ctx(t), h), zones.ErrNotExist)
}

func testDestroyAfterRestart(t *testing.T, s *suite) {
	m := s.start(t)
	s.reopen(t)
	s.destroy(t, m.ID)
	s.run(t, m)
}

// output runs a program that must succeed.
func (s *suite) output(t *testing.T, id string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	st, err := zones.Run(s.ctx(t), s.Driver, id, zones.ExecRequest{Args: args, Stdout: &out, Stderr: &errs})
	if err != nil || !st.Success() {
		t.Fatalf("exec %q: %+v, %v, %s", args, st, err, errs.String())
	}
	return out.String()
}

// copyAll reads to the end, which for a terminal is an error.
func copyAll(w io.Writer, r io.Reader) { _, _ = io.Copy(w, r) }
