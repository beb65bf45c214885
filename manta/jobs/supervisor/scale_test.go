package supervisor

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

func pebbleStore(t testing.TB) *pebble.Store {
	t.Helper()
	s, err := pebble.Open(t.TempDir(), pebble.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// many stores objects and returns n inputs that name them.
func (w *world) many(n int) []string {
	const objects = 64
	for i := range objects {
		w.must(w.put(fmt.Sprintf("/alice/stor/%02d", i), "x\n", fmt.Sprint(1+i%len(w.agents), ".stor")))
	}
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("/alice/stor/%02d", i%objects)
	}
	return list
}

// hang waits for the task to be ended.
func hang(ctx context.Context, _ *world, _ *tasktest.Task) error { <-ctx.Done(); return ctx.Err() }

// TestCancelMany cancels a job of which nearly all inputs wait: its tasks end at once, and each input that came to nothing is in the errors.
func TestCancelMany(t *testing.T) {
	n := size(10_000, 100_000)
	w := newWorld(t, worldOptions{run: hang, store: pebbleStore(t)})
	w.supervise("one")
	id := w.create("alice", "cat", "reduce 2:count")
	w.add(id, w.many(n)...)
	running := func() (now int) {
		for _, a := range w.agents {
			_, n := a.Started()
			now += n
		}
		return now
	}
	until(t, func() bool { return running() == 24 })
	began := time.Now()
	w.must(w.records.Cancel(t.Context(), id))
	until(t, func() bool { return running() == 0 })
	ended := time.Since(began)
	j := w.await(id, func(j *jobs.Job) bool { return j.State == jobs.Done })
	done := time.Since(began)
	w.await(id, archived)
	t.Logf("%d inputs: tasks ended %v after the cancel, the job %v, its archive %v", n, ended, done, time.Since(began))
	if s := j.Stats; s.Errors != int64(n+2) || s.Outputs != 0 || s.InputsRead != int64(n) {
		t.Errorf("counters %+v", s)
	}
	count, seen := 0, 0
	for list, err := range w.records.Errors(t.Context(), id) {
		w.must(err)
		for _, f := range list {
			if count++; f.Code == jobs.CodeJobCancelled && f.Message == "job was cancelled" {
				seen++
			}
		}
	}
	if count != n+2 || seen != count {
		t.Errorf("%d errors, %d of them that the job was cancelled", count, seen)
	}
}

// until waits for a condition that comes about in other goroutines.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
		runtime.Gosched()
		pause(context.Background(), time.Millisecond)
	}
}

// TestCancelRate cancels many jobs at once.
func TestCancelRate(t *testing.T) {
	w := newWorld(t, worldOptions{run: hang, store: pebbleStore(t), zones: 200})
	w.supervise("one")
	inputs := w.many(3)
	var ids []string
	for range 100 {
		ids = append(ids, w.submit("alice", inputs, "cat", "reduce 1:count"))
	}
	for _, id := range ids {
		w.await(id, func(j *jobs.Job) bool { return j.State == jobs.Running })
	}
	began := time.Now()
	for _, id := range ids {
		w.must(w.records.Cancel(t.Context(), id))
	}
	for _, id := range ids {
		w.await(id, func(j *jobs.Job) bool { return j.State == jobs.Done })
	}
	t.Logf("%.0f cancels/s", float64(len(ids))/time.Since(began).Seconds())
	for _, id := range ids {
		if j := w.await(id, archived); j.Stats.Errors != 4 {
			t.Errorf("job %s: %+v", id, j.Stats)
		}
	}
}

// TestManyInputs has one job of a great many inputs, through a map phase and reducers, in little memory.
func TestManyInputs(t *testing.T) { manyInputs(t, 64, "cat") }

// TestManyInputsLate has so few zones that reducers start when all their input is there, and read it from the commits.
func TestManyInputsLate(t *testing.T) { manyInputs(t, 3, "cat") }

// TestManyInputsReduced has no map phase: the inputs of the job are those of its reducers.
func TestManyInputsReduced(t *testing.T) { manyInputs(t, 3) }

func manyInputs(t *testing.T, zones int, maps ...string) {
	n := size(5_000, 100_000)
	w := newWorld(t, worldOptions{store: pebbleStore(t), zones: zones, run: func(ctx context.Context, w *world, t *tasktest.Task) error {
		if t.Start.Input != nil {
			t.Emit("/alice/stor/00", -1)
			return nil
		}
		n := 0
		for {
			list, err := t.Inputs()
			if err != nil {
				return err
			}
			if n += len(list); len(list) == 0 {
				break
			}
		}
		path := t.OutputBase() + t.Start.Task
		t.Emit(path, -1)
		return w.put(path, fmt.Sprint(n))
	}})
	w.supervise("one")
	id := w.create("alice", append(maps, "reduce 3:count")...)
	w.add(id, w.many(n)...)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	var most atomic.Uint64
	stop := make(chan struct{})
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapAlloc))
		}
	}()
	began := time.Now()
	w.must(w.records.EndInput(t.Context(), id))
	j := w.await(id, archived)
	took := time.Since(began)
	close(stop)
	<-sampled
	t.Logf("%d inputs in %v; the heap grew by %.1f MiB at most", n, took, float64(int64(most.Load()-min(before, most.Load())))/(1<<20))
	if want := int64(n*len(maps) + 3); j.Stats.TasksOK != want || j.Stats.Outputs != 3 {
		t.Errorf("%+v", j.Stats)
	}
	sum := 0
	for _, s := range w.result(id).Outputs {
		k := 0
		fmt.Sscan(s, &k)
		sum += k
	}
	if sum != n {
		t.Errorf("reducers read %d inputs, want %d", sum, n)
	}
}

// TestFairness holds that a small job does not wait behind a large one.
func TestFairness(t *testing.T) {
	w := newWorld(t, worldOptions{run: slow})
	w.supervise("one")
	large := w.submit("alice", w.many(2000), "none")
	w.await(large, func(j *jobs.Job) bool { return j.State == jobs.Running })
	for range 5 {
		small := w.submit("alice", []string{"/alice/stor/00"}, "cat", "reduce 1:count")
		w.await(small, archived)
	}
	j, err := w.records.Get(t.Context(), large)
	w.must(err)
	if done := j.Stats.TasksOK; done > 1500 {
		t.Errorf("%d tasks of the large job were done before five small jobs", done)
	}
	w.await(large, archived)
}

// TestHundredJobs has jobs of many owners at once.
func TestHundredJobs(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for i := range 20 {
		login := fmt.Sprint("user", i)
		w.account(login)
		for k := range 10 {
			w.must(w.put(fmt.Sprintf("/%s/stor/%d", login, k), fmt.Sprintf("%s %d\n", login, k)))
		}
	}
	w.supervise("one")
	var ids []string
	for i := range 100 {
		var inputs []string
		for k := range 10 {
			inputs = append(inputs, fmt.Sprintf("/user%d/stor/%d", i%20, k))
		}
		ids = append(ids, w.submit(fmt.Sprint("user", i%20), inputs, "cat", "reduce 2:cat", "reduce 1:count"))
	}
	for _, id := range ids {
		w.await(id, archived)
		if r := w.result(id); len(r.Outputs) != 1 || r.Outputs[0] != "10\n" || r.Errors != nil || r.Stray != nil {
			t.Errorf("job %s: %+v", id, r)
		}
	}
}

// BenchmarkTasks is map tasks of one job with agents that take no time.
func BenchmarkTasks(b *testing.B) {
	w := newWorld(b, worldOptions{store: pebbleStore(b), zones: 64, run: func(_ context.Context, _ *world, t *tasktest.Task) error {
		t.Emit(t.OutputBase()+t.Start.Task, -1)
		return nil
	}})
	w.supervise("one")
	const n = 10_000
	inputs := w.many(n)
	total := 0
	b.ReportAllocs()
	for b.Loop() {
		id := w.create("alice", "cat")
		w.add(id, inputs...)
		w.must(w.records.EndInput(b.Context(), id))
		w.await(id, func(j *jobs.Job) bool { return j.State == jobs.Done })
		total += n
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "tasks/s")
}

// BenchmarkSmallJob is a job of one object, from its creation to the end of its archive.
func BenchmarkSmallJob(b *testing.B) {
	w := newWorld(b, worldOptions{store: pebbleStore(b)})
	w.supervise("one")
	w.many(1)
	for b.Loop() {
		id := w.submit("alice", []string{"/alice/stor/00"}, "cat")
		w.await(id, archived)
	}
}

// TestManyIntermediates hands a great many objects from phase to phase, all of which are gone in the end.
func TestManyIntermediates(t *testing.T) {
	n := size(2000, 20_000)
	w := newWorld(t, worldOptions{store: pebbleStore(t), zones: 64})
	s := w.supervise("one")
	began := time.Now()
	id := w.submit("alice", w.many(n), "cat", "upper", "reduce 2:count", "reduce 1:cat")
	w.await(id, archived)
	m := s.Metrics()
	t.Logf("%d objects in %v, %d deleted", n, time.Since(began), m.Deleted)
	r := w.result(id)
	sum := 0
	for _, line := range strings.Fields(strings.Join(r.Outputs, "")) {
		k := 0
		fmt.Sscan(line, &k)
		sum += k
	}
	if sum != n || r.Stray != nil || r.Errors != nil {
		t.Errorf("%d lines counted, %d stray objects, errors %v", sum, len(r.Stray), r.Errors)
	}
}
