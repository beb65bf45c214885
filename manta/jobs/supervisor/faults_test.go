package supervisor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/metastore/postgres"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
)

// slow is program with a moment before each task, so that there is something to break off.
func slow(ctx context.Context, w *world, t *tasktest.Task) error {
	pause(ctx, time.Duration(rand.IntN(12))*time.Millisecond)
	if err := program(ctx, w, t); err != nil {
		return err
	}
	pause(ctx, time.Duration(rand.IntN(4))*time.Millisecond) // between what it stored and its end
	return ctx.Err()
}

// disturbed puts inputs in place, has the job run to its end by play, and compares what came of it with what would have come of it undisturbed.
func disturbed(t *testing.T, w *world, n int, play func(id string, done func() bool)) *jobs.Job {
	t.Helper()
	var inputs []string
	for i := range n {
		path := fmt.Sprintf("/alice/stor/in/%d", i)
		if i%17 != 3 {
			w.must(w.put(path, fmt.Sprintf("c%d\na%d\nb%d\n", i, i, i), fmt.Sprint(1+i%3, ".stor"), fmt.Sprint(1+(i+1)%3, ".stor")))
		}
		inputs = append(inputs, path)
	}
	programs := []string{"upper", "split 3", "reduce 3:sort", "upper"}
	var want result
	calm := newWorld(t, worldOptions{})
	for _, path := range inputs {
		if content, ok := w.get(path); ok {
			calm.must(calm.put(path, content))
		}
	}
	p := calm.supervise("calm")
	id := calm.submit("alice", inputs, programs...)
	calm.await(id, archived)
	want = calm.result(id)
	p.stop()
	if len(want.Outputs) != 3 || len(want.Errors) != (n-3+16)/17 {
		t.Fatalf("undisturbed: %d outputs, %d errors", len(want.Outputs), len(want.Errors))
	}

	id = w.submit("alice", inputs, programs...)
	play(id, func() bool {
		j, err := w.records.Get(t.Context(), id)
		return err == nil && archived(j)
	})
	j := w.await(id, archived)
	if diff := cmp.Diff(want, w.result(id)); diff != "" {
		t.Errorf("-undisturbed +got\n%s", diff)
	}
	return j
}

func size(short, long int) int {
	if testenv.Long() {
		return long
	}
	return short
}

func TestAgentsLost(t *testing.T) {
	w := newWorld(t, worldOptions{run: slow})
	s := w.supervise("one")
	lost := 0
	j := disturbed(t, w, size(200, 3000), func(_ string, done func() bool) {
		for !done() && lost < size(15, 200) {
			pause(t.Context(), time.Duration(rand.IntN(40))*time.Millisecond)
			w.agents[fmt.Sprint(1+rand.IntN(3), ".stor")].Restart()
			lost++
		}
	})
	m := s.Metrics()
	t.Logf("%d agents lost, with them %d tasks; %d retries, %d objects swept", lost, m.Lost, j.Stats.Retries, m.Swept)
	if m.Lost == 0 || uint64(j.Stats.Retries) != m.Lost || m.Retried != m.Lost {
		t.Errorf("%d tasks were lost, %d retries are counted, %d in the job", m.Lost, m.Retried, j.Stats.Retries)
	}
	if m.Tasks != 0 || m.Jobs != 0 {
		t.Errorf("%d tasks and %d jobs are left", m.Tasks, m.Jobs)
	}
}

func TestSupervisorKilled(t *testing.T) {
	store, err := pebble.Open(t.TempDir(), pebble.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := newWorld(t, worldOptions{run: slow, store: store})
	kills := 0
	j := disturbed(t, w, size(200, 3000), func(_ string, done func() bool) {
		for !done() && kills < size(25, 500) {
			p := w.supervise("one")
			pause(t.Context(), time.Duration(1+rand.IntN(60))*time.Millisecond)
			p.kill()
			kills++
		}
		w.supervise("one")
	})
	t.Logf("%d kills, %d claims", kills, j.Stats.Assigns)
	if j.Stats.Assigns < 3 {
		t.Errorf("the job was claimed %d times only", j.Stats.Assigns)
	}
}

func TestEverythingKilled(t *testing.T) {
	w := newWorld(t, worldOptions{run: slow})
	kills := 0
	disturbed(t, w, size(200, 3000), func(_ string, done func() bool) {
		for !done() && kills < size(20, 300) {
			p := w.supervise("one")
			for range rand.IntN(4) {
				pause(t.Context(), time.Duration(rand.IntN(20))*time.Millisecond)
				w.agents[fmt.Sprint(1+rand.IntN(3), ".stor")].Restart()
			}
			p.kill()
			kills++
		}
		w.supervise("one")
	})
}

// faulty is a store that now and then does not answer, whether it did what it was asked or not.
type faulty struct {
	metastore.Store
	on atomic.Bool
	n  atomic.Int64
}

func (f *faulty) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	if !f.on.Load() {
		return f.Store.Commit(ctx, b)
	}
	switch rand.IntN(30) {
	case 0:
		f.n.Add(1)
		return metastore.Result{}, metastore.ErrUnavailable
	case 1:
		f.n.Add(1)
		f.Store.Commit(ctx, b)
		return metastore.Result{}, metastore.ErrUnavailable
	}
	return f.Store.Commit(ctx, b)
}

func (f *faulty) Get(ctx context.Context, bucket string, key metastore.Key) (metastore.Record, error) {
	if f.on.Load() && rand.IntN(200) == 0 {
		f.n.Add(1)
		return metastore.Record{}, metastore.ErrUnavailable
	}
	return f.Store.Get(ctx, bucket, key)
}

// TestStoreFaults has a supervisor whose store answers now and then that it cannot be reached.
func TestStoreFaults(t *testing.T) {
	w := newWorld(t, worldOptions{run: slow})
	f := &faulty{Store: w.store}
	s := w.superviseOn(f, "one")
	disturbed(t, w, size(200, 3000), func(_ string, done func() bool) {
		f.on.Store(true)
		for !done() && f.n.Load() < int64(size(40, 500)) {
			pause(t.Context(), time.Millisecond)
		}
		f.on.Store(false)
	})
	t.Logf("%d faults of the store, the job fell back %d times", f.n.Load(), s.Metrics().Faults)
	if s.Metrics().Faults == 0 {
		t.Error("nothing happened")
	}
}

// TestBrokenRecord holds that a job which cannot be understood stops no other.
func TestBrokenRecord(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.must(w.put("/alice/stor/a", "a\n"))
	w.supervise("one")
	broken := &jobs.Job{ID: "0b8b5a5e-0000-4000-8000-000000000001", Owner: "x", Login: "alice", Phases: []jobs.Phase{{Type: "else", Count: -3}}}
	w.must(w.records.Create(t.Context(), broken))
	w.add(broken.ID, "/alice/stor/a", "\x00")
	id := w.submit("alice", []string{"/alice/stor/a"}, "cat")
	w.await(id, archived)
}

var schemas atomic.Int64

// TestTwoSupervisors has two of them share a database; one dies, and the other one finishes its jobs.
func TestTwoSupervisors(t *testing.T) {
	server := pgtest.Shared(t)
	schema := fmt.Sprint("two", schemas.Add(1))
	open := func() metastore.Store {
		s, err := postgres.Open(t.Context(), server.URL(), postgres.Config{Schema: schema})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	killed := make(chan struct{}) // the large job cannot end before
	w := newWorld(t, worldOptions{store: open(), run: func(ctx context.Context, w *world, task *tasktest.Task) error {
		if task.Job.Phases[task.Start.Phase].Exec == "sort" {
			select {
			case <-killed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return slow(ctx, w, task)
	}})
	quick := func(cfg *Config) { cfg.BeatInterval, cfg.DeadAfter = 100*time.Millisecond, 500*time.Millisecond }
	one := w.superviseOn(open(), "one", quick)
	two := w.superviseOn(open(), "two", quick)
	var others []string
	j := disturbed(t, w, size(120, 1000), func(id string, _ func() bool) {
		for range 20 {
			others = append(others, w.submit("alice", []string{"/alice/stor/in/0", "/alice/stor/in/1"}, "cat", "reduce 1:count"))
		}
		large := w.await(id, func(j *jobs.Job) bool { return j.Supervisor != "" })
		victim := one
		if large.Supervisor == "two" {
			victim = two
		}
		until(t, func() bool { return victim.Metrics().Outcomes > 0 })
		victim.kill()
		close(killed)
	})
	for _, id := range others {
		w.await(id, archived)
		if diff := cmp.Diff(result{Outputs: []string{"6\n"}}, w.result(id)); diff != "" {
			t.Errorf("job %s: -want +got\n%s", id, diff)
		}
	}
	if j.Stats.Assigns != 2 {
		t.Errorf("the large job was claimed %d times", j.Stats.Assigns)
	}
	t.Logf("%d of %d jobs were taken over", one.Metrics().TakenOver+two.Metrics().TakenOver, len(others)+1)
}

// TestSystemFailures holds that what the system failed is tried again elsewhere, twice, without users hearing of it.
func TestSystemFailures(t *testing.T) {
	var mu sync.Mutex
	tries := map[string][]string{}
	w := newWorld(t, worldOptions{run: func(ctx context.Context, w *world, t *tasktest.Task) error {
		key := fmt.Sprint(t.Start.Phase, "reduce", t.Start.Reducer)
		if t.Start.Input != nil {
			key = t.Start.Input.Path
		}
		mu.Lock()
		tries[key] = append(tries[key], t.Start.Task)
		n := len(tries[key])
		mu.Unlock()
		if t.Start.Input != nil && t.Start.Input.Path == "/alice/stor/never" || n <= 2 {
			if err := program(ctx, w, t); err != nil { // its objects stay behind
				return err
			}
			return &tasktest.Failed{System: true, Failure: jobs.Failure{Code: jobs.CodeInternal, Message: "internal error", Internal: "no zone"}}
		}
		return program(ctx, w, t)
	}})
	w.must(w.put("/alice/stor/a", "a\n", "1.stor", "2.stor", "3.stor"))
	w.must(w.put("/alice/stor/never", "a\n", "1.stor", "2.stor", "3.stor"))
	s := w.supervise("one")
	id := w.submit("alice", []string{"/alice/stor/a", "/alice/stor/never"}, "cat", "reduce 1:count")
	j := w.await(id, archived)
	want := result{Outputs: []string{"1\n"}, Errors: []string{`phase 0: input "/alice/stor/never" InternalError: internal error`}}
	got := w.result(id)
	// The last attempt of the task that failed counts, and so its objects stay.
	for i, path := range got.Stray {
		if last := tries["/alice/stor/never"][2]; path == "/alice/jobs/"+id+"/stor/alice/stor/never.0."+last {
			got.Stray = append(got.Stray[:i:i], got.Stray[i+1:]...)
		}
	}
	if len(got.Stray) == 0 {
		got.Stray = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if j.Stats.Retries != 6 || len(tries["/alice/stor/never"]) != 3 {
		t.Errorf("%d retries; attempts %v", j.Stats.Retries, tries)
	}
	if m := s.Metrics(); m.Swept == 0 {
		t.Errorf("nothing was swept")
	}
	if a, ok := w.get(jobs.Dir("alice", id) + "/err.txt"); !ok || len(a) == 0 {
		t.Errorf("err.txt is %q", a)
	}
}

// TestRetryElsewhere holds that another server is preferred for another attempt.
func TestRetryElsewhere(t *testing.T) {
	var w *world
	failed := make(chan string, 10)
	w = newWorld(t, worldOptions{run: func(ctx context.Context, w *world, t *tasktest.Task) error { return program(ctx, w, t) }})
	for _, name := range []string{"4.stor", "5.stor"} {
		w.agents[name] = tasktest.New(tasktest.Config{Name: name, Storage: []string{"45.stor"}, Run: func(ctx context.Context, t *tasktest.Task) error {
			if len(failed) == 0 {
				failed <- name
				return &tasktest.Failed{System: true, Failure: jobs.Failure{Code: jobs.CodeTaskKilled}}
			}
			if <-failed == name {
				return fmt.Errorf("tried on %s again", name)
			}
			return nil
		}})
		t.Cleanup(w.agents[name].Close)
	}
	w.must(w.put("/alice/stor/a", "a\n", "45.stor"))
	w.supervise("one")
	for range 10 {
		id := w.submit("alice", []string{"/alice/stor/a"}, "none")
		w.await(id, archived)
		if r := w.result(id); len(r.Errors) > 0 {
			t.Errorf("%v", r.Errors)
		}
	}
}

// TestBadJobs holds that a job which cannot go on, or has no place for its archive, is in nobody's way.
func TestBadJobs(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.must(w.put("/alice/stor/a", "a\n"))
	homeless := w.create("alice", "cat")
	var faults atomic.Int64
	w.refuse = func(path string) int {
		if path == jobs.Dir("alice", homeless)+"/job.json" {
			return 404
		}
		if faults.Add(1) <= 7 {
			return 503
		}
		return 0
	}
	s := w.supervise("one")
	w.add(homeless, "/alice/stor/a")
	w.must(w.records.EndInput(t.Context(), homeless))
	revoked := &jobs.Job{ID: "0b8b5a5e-0000-4000-8000-000000000000", Owner: w.accounts["alice"].UUID, Login: "alice", Auth: jobs.Auth{Token: "rubbish"}, Phases: phases("cat")}
	w.must(w.records.Create(t.Context(), revoked))
	w.add(revoked.ID, "/alice/stor/a")
	w.must(w.records.EndInput(t.Context(), revoked.ID))
	good := w.submit("alice", []string{"/alice/stor/a"}, "cat")
	for _, id := range []string{good, homeless, revoked.ID} {
		w.await(id, archived)
	}
	if diff := cmp.Diff(result{Outputs: []string{"a\n"}}, w.result(good)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if r := w.result(revoked.ID); len(r.Errors) != 1 || r.Errors[0] != `phase 0: input "/alice/stor/a" AuthorizationError: permission denied: "/alice/stor/a"` {
		t.Errorf("job with a bad token: %+v", r)
	}
	if m := s.Metrics(); m.Faults != 0 || m.Archived != 3 {
		t.Errorf("%+v", m)
	}
}
