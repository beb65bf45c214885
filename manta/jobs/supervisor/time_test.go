package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
)

// TestIdleClose holds that the input of a job to which nobody adds any is ended after an hour, and that input puts it off.
func TestIdleClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{})
		w.must(w.put("/alice/stor/a", "a\n"))
		w.supervise("one")
		id := w.create("alice", "cat", "reduce 1:count")
		w.add(id, "/alice/stor/a")
		time.Sleep(50 * time.Minute)
		w.add(id, "/alice/stor/a")
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		j, err := w.records.Get(t.Context(), id)
		w.must(err)
		if j.InputDone() || j.Stats.TasksOK != 2 || j.Stats.InputsRead != 2 {
			t.Fatalf("before the hour is over: input done %v, %+v", j.InputDone(), j.Stats)
		}
		time.Sleep(2 * time.Minute)
		w.await(id, archived)
		if r := w.result(id); len(r.Outputs) != 1 || r.Outputs[0] != "2\n" {
			t.Errorf("%+v", r)
		}
	})
}

// TestLinger holds that the records of a job go an hour after its archive is complete.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{})
		w.supervise("one")
		id := w.submit("alice", []string{"/alice/stor/a"}, "cat")
		w.await(id, archived)
		time.Sleep(59 * time.Minute)
		if _, err := w.records.Get(t.Context(), id); err != nil {
			t.Errorf("within the hour: %v", err)
		}
		time.Sleep(3 * time.Minute)
		if _, err := w.records.Get(t.Context(), id); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("after the hour: %v", err)
		}
	})
}

// TestNoAgent holds that a task waits a minute for an agent that could run it.
func TestNoAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{})
		w.must(w.put("/alice/stor/far", "a\n", "9.stor"))
		w.must(w.put("/alice/stor/near", "a\n", "1.stor"))
		w.supervise("one")
		began := time.Now()
		id := w.submit("alice", []string{"/alice/stor/far", "/alice/stor/near"}, "cat")
		j := w.await(id, archived)
		if took := j.TimeDone.Sub(began); took < time.Minute || took > 61*time.Second {
			t.Errorf("the job took %v", took)
		}
		r := w.result(id)
		if len(r.Outputs) != 1 || len(r.Errors) != 1 || r.Errors[0] != `phase 0: input "/alice/stor/far" ServiceUnavailableError: no servers available to run task` {
			t.Errorf("%+v", r)
		}
		for _, a := range w.agents {
			a.Refuse(true)
			a.Cut()
		}
		id = w.submit("alice", nil, "reduce 1:count")
		w.await(id, archived)
		if r := w.result(id); len(r.Errors) != 1 || r.Errors[0] != `phase 0: reduce ServiceUnavailableError: no servers available to run task` {
			t.Errorf("%+v", r)
		}
	})
}

// TestLostAgentWaits holds that tasks of an agent that does not come back are given to others when it can no longer act for them, and not before.
func TestLostAgentWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		w := newWorld(t, worldOptions{run: func(ctx context.Context, w *world, t *tasktest.Task) error {
			select {
			case <-hang:
				return program(ctx, w, t)
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		w.must(w.put("/alice/stor/a", "a\n", "1.stor", "2.stor"))
		s := w.supervise("one")
		id := w.submit("alice", []string{"/alice/stor/a"}, "cat")
		synctest.Wait()
		first := "1.stor"
		if _, now := w.agents[first].Started(); now == 0 {
			first = "2.stor"
		}
		w.agents[first].Refuse(true)
		w.agents[first].Cut()
		close(hang)
		began := time.Now()
		time.Sleep(2*task.Silence - time.Second)
		synctest.Wait()
		if m := s.Metrics(); m.Lost != 0 || m.Started != 1 {
			t.Errorf("the task was given to another agent too early: %+v", m)
		}
		j := w.await(id, archived)
		if took := j.TimeDone.Sub(began); took < 2*task.Silence || took > 2*task.Silence+5*time.Second {
			t.Errorf("the job was done after %v", took)
		}
		if m := s.Metrics(); m.Lost != 1 || m.Started != 2 {
			t.Errorf("%+v", m)
		}
	})
}

// changing are agents that come and go.
type changing struct {
	mu      sync.Mutex
	agents  map[string]task.Agent
	changed chan struct{}
}

func (c *changing) Agents() (map[string]task.Agent, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents, c.changed
}

func (c *changing) set(agents map[string]task.Agent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agents = agents
	close(c.changed)
	c.changed = make(chan struct{})
}

// TestAgentsChange holds that tasks wait for an agent to come, and that the tasks of one that was taken away go to others.
func TestAgentsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		w := newWorld(t, worldOptions{run: func(ctx context.Context, w *world, t *tasktest.Task) error {
			select {
			case <-hang:
				return program(ctx, w, t)
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		w.must(w.put("/alice/stor/a", "a\n", "1.stor", "2.stor"))
		agents := &changing{changed: make(chan struct{})}
		s := w.supervise("one", func(cfg *Config) { cfg.Agents = agents })
		id := w.submit("alice", []string{"/alice/stor/a"}, "cat")
		time.Sleep(30 * time.Second)
		agents.set(map[string]task.Agent{"1.stor": w.agents["1.stor"]})
		synctest.Wait()
		if m := s.Metrics(); m.Agents != 1 || m.Tasks != 1 {
			t.Fatalf("with an agent: %+v", m)
		}
		agents.set(map[string]task.Agent{"2.stor": w.agents["2.stor"]})
		synctest.Wait()
		close(hang)
		began := time.Now()
		w.await(id, archived)
		if took := time.Since(began); took < 2*task.Silence {
			t.Errorf("the task went to another agent after %v", took)
		}
		if r := w.result(id); len(r.Outputs) != 1 || r.Stray != nil {
			t.Errorf("%+v", r)
		}
		if m := s.Metrics(); m.Lost != 1 || m.Agents != 1 || m.Tasks != 0 {
			t.Errorf("at the end: %+v", m)
		}
	})
}

// TestLog holds that logs name jobs and no tokens.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		var mu sync.Mutex
		w := newWorld(t, worldOptions{})
		w.must(w.put("/alice/stor/a", "a\n"))
		p := w.supervise("one", func(cfg *Config) {
			cfg.Logger = slog.New(slog.NewJSONHandler(writer(func(b []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				return text.Write(b)
			}), &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		var mended atomic.Bool
		w.refuse = func(path string) int {
			if strings.HasSuffix(path, "out.txt") && !mended.Load() {
				return 500
			}
			return 0
		}
		id := w.submit("alice", []string{"/alice/stor/a", "/alice/stor/b"}, "cat", "reduce 1:fail")
		time.Sleep(10 * time.Second)
		mended.Store(true)
		w.await(id, archived)
		p.stop()
		if got := text.String(); !strings.Contains(got, `"job":"`+id+`"`) || !strings.Contains(got, "job archived") || !strings.Contains(got, "will be tried again") {
			t.Errorf("log:\n%s", got)
		}
		if strings.Contains(text.String(), w.tokens["alice"]) {
			t.Error("a token is in the log")
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// TestDeadSupervisor holds that the jobs of a supervisor are taken over when its beats stop, not while they go on, and that one that ends well is not waited for.
func TestDeadSupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{})
		one := w.supervise("one")
		var ids []string
		for range 3 {
			ids = append(ids, w.create("alice", "cat"))
		}
		synctest.Wait()
		two := w.supervise("two", func(cfg *Config) { cfg.MaxJobs = 4 })
		time.Sleep(time.Minute)
		if m := two.Metrics(); m.Claimed != 0 {
			t.Fatalf("a live supervisor lost %d jobs", m.Claimed)
		}
		one.kill()
		time.Sleep(7 * time.Second)
		if m := two.Metrics(); m.Claimed != 0 {
			t.Fatalf("%d jobs were taken over too early", m.Claimed)
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if m := two.Metrics(); m.TakenOver != 3 {
			t.Fatalf("%d jobs were taken over", m.TakenOver)
		}
		three := w.supervise("three")
		synctest.Wait()
		time.Sleep(time.Second)
		two.stop()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if m := three.Metrics(); m.TakenOver != 3 {
			t.Fatalf("%d jobs were taken over from one that ended well", m.TakenOver)
		}
		for _, id := range ids {
			w.must(w.records.EndInput(t.Context(), id))
			w.await(id, archived)
		}
	})
}

// TestMaxJobs holds that jobs beyond the limit wait, and do run.
func TestMaxJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, worldOptions{})
		w.supervise("one", func(cfg *Config) { cfg.MaxJobs = 2 })
		var ids []string
		for range 7 {
			ids = append(ids, w.create("alice", "cat"))
		}
		synctest.Wait()
		running := 0
		for j, err := range w.records.List(t.Context(), jobs.ListOptions{State: jobs.Running}) {
			w.must(err)
			_ = j
			running++
		}
		if running != 2 {
			t.Errorf("%d jobs run", running)
		}
		for _, id := range ids {
			w.must(w.records.EndInput(t.Context(), id))
		}
		for _, id := range ids {
			if j := w.await(id, archived); j.Stats.Assigns != 1 {
				t.Errorf("a job was claimed %d times", j.Stats.Assigns)
			}
		}
	})
}

// TestStats holds that users see a job move.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newWorld(t, worldOptions{run: func(ctx context.Context, w *world, t *tasktest.Task) error {
			if t.Start.Input.Path == "/alice/stor/slow" {
				<-release
			}
			return nil
		}})
		w.must(w.put("/alice/stor/slow", "a"))
		w.must(w.put("/alice/stor/b", "a"))
		w.supervise("one")
		id := w.submit("alice", []string{"/alice/stor/slow", "/alice/stor/b"}, "none")
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		j, err := w.records.Get(t.Context(), id)
		w.must(err)
		if s := j.Status().Stats; s.Tasks != 2 || s.TasksDone != 1 {
			t.Errorf("in the middle: %+v", s)
		}
		close(release)
		w.await(id, archived)
	})
}

func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("New of nothing: no error")
	} else {
		for _, name := range []string{"Records", "Identity", "Namespace", "Agents", "Front", "FrontURL", "Instance"} {
			if !strings.Contains(err.Error(), "Config."+name) {
				t.Errorf("New of nothing does not name %s: %v", name, err)
			}
		}
	}
}
