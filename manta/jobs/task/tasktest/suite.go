package tasktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// A World is an agent and the store around it, for [TestAgent].
type World struct {
	Agent task.Agent

	// Login and Owner (a uuid) of an account in that store, and a Token that its jobs may use.
	Login, Owner, Token string

	// Put stores an object where the agent has it at hand, and returns it as an input.
	Put func(path, content string) task.Input

	// Get returns an object that a task made.
	Get func(path string) (string, bool)
}

// patience is how long a step of the suite may take; it is only waited for where something is wrong.
const patience = 60 * time.Second

// TestAgent holds an agent to what [task.Agent] and [task.Stream] say. fresh makes a world for each test. Programs of the suite are plain commands, which a shell
// and [Shell] both know.
func TestAgent(t *testing.T, fresh func(t *testing.T) World) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"Hello", (*suite).hello},
		{"MapReadsItsObject", (*suite).mapReads},
		{"MapOfNothing", (*suite).mapEmpty},
		{"Output", (*suite).output},
		{"ExitCode", (*suite).exitCode},
		{"ManyTasks", (*suite).many},
		{"ReducerReadsAll", (*suite).reducer},
		{"ReducerOfNothing", (*suite).reducerEmpty},
		{"Cancel", (*suite).cancel},
		{"CancelUnknown", (*suite).cancelUnknown},
		{"Shut", (*suite).shut},
		{"NewerStream", (*suite).newerStream},
		{"OtherSupervisor", (*suite).otherSupervisor},
		{"HigherAssigned", (*suite).assigned},
		{"Close", (*suite).close},
		{"ConnectCancelled", (*suite).connectCancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := fresh(t)
			s := &suite{T: t, w: w}
			s.Stream = s.connect("one")
			c.run(s)
		})
	}
}

type suite struct {
	*testing.T
	task.Stream
	w    World
	seen []task.Report // of Stream, not asked for yet
}

func (s *suite) connect(supervisor string) task.Stream {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	stream, err := s.w.Agent.Connect(ctx, supervisor)
	if err != nil {
		s.Fatalf("Connect: %v", err)
	}
	s.Cleanup(func() { stream.Close() })
	return stream
}

func (s *suite) send(stream task.Stream, orders ...task.Order) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	if err := stream.Send(ctx, orders...); err != nil {
		s.Fatalf("Send: %v", err)
	}
}

// open begins a job whose phases run the programs; one that begins with "reduce:" is of a reduce phase.
func (s *suite) open(programs ...string) *task.Open {
	o := &task.Open{Job: uuid.NewString(), Assigned: 1, Owner: s.w.Owner, Login: s.w.Login, Token: s.w.Token}
	for _, p := range programs {
		exec, reduce := strings.CutPrefix(p, "reduce:")
		phase := jobs.Phase{Type: jobs.Map, Exec: exec}
		if reduce {
			phase.Type = jobs.Reduce
		}
		o.Phases = append(o.Phases, phase)
	}
	return o
}

func start(o *task.Open, in *task.Input) *task.Start {
	return &task.Start{Job: o.Job, Task: uuid.NewString(), Input: in}
}

func (s *suite) put(name, content string) *task.Input {
	in := s.w.Put("/"+s.w.Login+"/stor/"+name, content)
	return &in
}

// done waits for the end of a task and returns it with what it emitted before.
func (s *suite) done(stream task.Stream, id string) (*task.Done, []string) {
	s.Helper()
	var out []string
	deadline := time.Now().Add(patience)
	for {
		for i := 0; i < len(s.seen); i++ {
			switch r := s.seen[i]; {
			case r.Emit != nil && r.Emit.Task == id:
				out = append(out, r.Emit.Path)
				s.seen = slices.Delete(s.seen, i, i+1)
				i--
			case r.Done != nil && r.Done.Task == id:
				s.seen = slices.Delete(s.seen, i, i+1)
				for _, r := range s.seen {
					if r.Emit != nil && r.Emit.Task == id {
						s.Fatalf("task %s emits %s after its end", id, r.Emit.Path)
					}
				}
				return r.Done, out
			case (r.Emit == nil) == (r.Done == nil):
				s.Fatalf("report %+v has not one field set", r)
			}
		}
		ctx, cancel := context.WithDeadline(s.Context(), deadline)
		list, err := stream.Receive(ctx)
		cancel()
		if err != nil {
			s.Fatalf("Receive, waiting for the end of task %s: %v", id, err)
		}
		if len(list) == 0 {
			s.Fatal("Receive: no reports and no error")
		}
		s.seen = append(s.seen, list...)
	}
}

// wantOutput waits for a task to end well with one output, and compares that.
func (s *suite) wantOutput(stream task.Stream, o *task.Open, st *task.Start, want string) {
	s.Helper()
	d, out := s.done(stream, st.Task)
	if d.Failure != nil {
		s.Fatalf("task failed: %+v", *d.Failure)
	}
	origin := ""
	if st.Input != nil {
		origin = st.Input.Origin
	}
	path := jobs.OutputBase(o.Login, o.Job, origin, st.Phase) + st.Task
	if len(out) != 1 || out[0] != path {
		s.Fatalf("task emitted %q, want %q", out, path)
	}
	if got, ok := s.w.Get(path); !ok || got != want {
		s.Errorf("output %s is %q, %v, want %q", path, got, ok, want)
	}
}

func (s *suite) hello() {
	h := s.Hello()
	if h.Agent == "" || h.Generation == "" || h.Zones < 1 || len(h.Storage) == 0 {
		s.Errorf("Hello: %+v lacks something", h)
	}
}

func (s *suite) mapReads() {
	o := s.open("cat")
	st := start(o, s.put("a", "some text\n"))
	s.send(s, task.Order{Open: o}, task.Order{Start: st})
	s.wantOutput(s, o, st, "some text\n")
}

func (s *suite) mapEmpty() {
	o := s.open("cat")
	st := start(o, s.put("empty", ""))
	s.send(s, task.Order{Open: o}, task.Order{Start: st})
	s.wantOutput(s, o, st, "")
}

func (s *suite) output() {
	o := s.open("echo hello")
	st := start(o, s.put("a b/ü", "x"))
	s.send(s, task.Order{Open: o})
	s.send(s, task.Order{Start: st})
	s.wantOutput(s, o, st, "hello\n")
}

func (s *suite) exitCode() {
	o := s.open("exit 3")
	st := start(o, s.put("a", "x"))
	s.send(s, task.Order{Open: o}, task.Order{Start: st})
	d, _ := s.done(s, st.Task)
	if d.Failure == nil || d.System || d.Failure.Code != jobs.CodeUserTask || d.Failure.Message != "user command exited with code 3" {
		s.Errorf("task ended with %+v, system %v", d.Failure, d.System)
	}
}

func (s *suite) many() {
	o := s.open("cat")
	orders := []task.Order{{Open: o}}
	var list []*task.Start
	for i := range 50 {
		st := start(o, s.put(fmt.Sprint("many/", i), fmt.Sprint(i)))
		list = append(list, st)
		orders = append(orders, task.Order{Start: st})
	}
	s.send(s, orders...)
	for i, st := range list {
		s.wantOutput(s, o, st, fmt.Sprint(i))
	}
	if len(s.seen) > 0 {
		s.Errorf("%d reports more than expected", len(s.seen))
	}
}

func (s *suite) reducer() {
	o := s.open("reduce:cat")
	st := start(o, nil)
	s.send(s, task.Order{Open: o}, task.Order{Start: st}, task.Order{Feed: &task.Feed{Task: st.Task, Inputs: []task.Input{*s.put("1", "one\n"), *s.put("2", "two\n")}}})
	s.send(s, task.Order{Feed: &task.Feed{Task: st.Task, Inputs: []task.Input{*s.put("3", "three\n")}}})
	s.send(s, task.Order{Feed: &task.Feed{Task: st.Task, End: true}})
	d, out := s.done(s, st.Task)
	if d.Failure != nil || len(out) != 1 {
		s.Fatalf("reducer ended with %+v and outputs %q", d.Failure, out)
	}
	got, _ := s.w.Get(out[0])
	lines := strings.Split(got, "\n")
	slices.Sort(lines)
	if want := []string{"", "one", "three", "two"}; !slices.Equal(lines, want) {
		s.Errorf("reducer read %q", got)
	}
}

func (s *suite) reducerEmpty() {
	o := s.open("reduce:cat")
	st := start(o, nil)
	s.send(s, task.Order{Open: o}, task.Order{Start: st}, task.Order{Feed: &task.Feed{Task: st.Task, End: true}})
	s.wantOutput(s, o, st, "")
}

// after holds that a task runs after something else, so that the zone of that is free again.
func (s *suite) after(stream task.Stream) {
	s.Helper()
	o := s.open("echo after")
	st := start(o, s.put("after", "x"))
	s.send(stream, task.Order{Open: o}, task.Order{Start: st})
	s.wantOutput(stream, o, st, "after\n")
}

// sleepers starts as many tasks that do not end as the agent has zones, and returns their job.
func (s *suite) sleepers(stream task.Stream) (*task.Open, []string) {
	o := s.open("sleep 1000")
	s.send(stream, task.Order{Open: o})
	var ids []string
	for range stream.Hello().Zones {
		st := start(o, s.put("long", "x"))
		ids = append(ids, st.Task)
		s.send(stream, task.Order{Start: st})
	}
	return o, ids
}

func (s *suite) silent(ids []string) {
	s.Helper()
	for _, r := range s.seen {
		if r.Done != nil && slices.Contains(ids, r.Done.Task) {
			s.Errorf("a report of task %s, which was ended by order", r.Done.Task)
		}
	}
}

func (s *suite) cancel() {
	_, ids := s.sleepers(s)
	for _, id := range ids {
		s.send(s, task.Order{Cancel: id})
	}
	s.after(s)
	s.silent(ids)
}

func (s *suite) cancelUnknown() {
	s.send(s, task.Order{Cancel: uuid.NewString()}, task.Order{Shut: uuid.NewString()}, task.Order{Feed: &task.Feed{Task: uuid.NewString(), End: true}})
	s.after(s)
}

func (s *suite) shut() {
	o, ids := s.sleepers(s)
	s.send(s, task.Order{Shut: o.Job})
	s.after(s)
	s.silent(ids)
	again := *o
	again.Assigned++
	again.Phases = []jobs.Phase{{Type: jobs.Map, Exec: "echo again"}}
	st := start(&again, s.put("again", "x"))
	s.send(s, task.Order{Open: &again}, task.Order{Start: st})
	s.wantOutput(s, &again, st, "again\n")
}

// ends waits for a stream's end.
func (s *suite) ends(stream task.Stream) error {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	for {
		if _, err := stream.Receive(ctx); err != nil {
			if ctx.Err() != nil {
				s.Fatal("the stream does not end")
			}
			return err
		}
	}
}

func (s *suite) newerStream() {
	s.sleepers(s)
	newer := s.connect("one")
	s.ends(s)
	if err := s.Send(s.Context(), task.Order{Cancel: "x"}); err == nil {
		s.Error("Send on a stream that has ended: no error")
	}
	s.seen = nil
	s.after(newer)
}

func (s *suite) otherSupervisor() {
	o := s.open("reduce:cat")
	st := start(o, nil)
	s.send(s, task.Order{Open: o}, task.Order{Start: st})
	other := s.connect("two")
	if err := other.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	s.send(s, task.Order{Feed: &task.Feed{Task: st.Task, Inputs: []task.Input{*s.put("1", "one\n")}, End: true}})
	s.wantOutput(s, o, st, "one\n")
}

func (s *suite) assigned() {
	o, _ := s.sleepers(s)
	later := *o
	later.Assigned++
	later.Phases = []jobs.Phase{{Type: jobs.Map, Exec: "echo taken"}}
	other := s.connect("two")
	st := start(&later, s.put("taken", "x"))
	s.send(other, task.Order{Open: &later}, task.Order{Start: st})
	s.wantOutput(other, &later, st, "taken\n")
	// The older stream has no say any more.
	s.send(s, task.Order{Shut: o.Job})
	st = start(&later, s.put("taken 2", "x"))
	s.send(other, task.Order{Start: st})
	s.wantOutput(other, &later, st, "taken\n")
}

func (s *suite) close() {
	s.sleepers(s)
	for range 2 {
		if err := s.Stream.Close(); err != nil {
			s.Errorf("Close: %v", err)
		}
	}
	if err := s.ends(s); !errors.Is(err, task.ErrClosed) {
		s.Errorf("Receive after Close: %v, want ErrClosed", err)
	}
	if err := s.Send(s.Context(), task.Order{Cancel: "x"}); err == nil {
		s.Error("Send after Close: no error")
	}
	s.after(s.connect("two"))
}

func (s *suite) connectCancelled() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.w.Agent.Connect(ctx, "two"); err == nil {
		s.Error("Connect with a context that has ended: no error")
	}
	ctx, cancel = context.WithCancel(s.Context())
	stream, err := s.w.Agent.Connect(ctx, "two")
	if err != nil {
		s.Fatalf("Connect: %v", err)
	}
	defer stream.Close()
	cancel() // has no meaning any more
	s.after(stream)
}
