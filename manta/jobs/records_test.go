package jobs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

const alice = "11111111-1111-4111-8111-111111111111"

func newJob() *Job {
	return &Job{
		ID: uuid.NewString(), Name: "count", Owner: alice, Login: "alice",
		Auth:   Auth{Token: "secret", Login: "alice", UUID: alice},
		Phases: []Phase{{Type: Map, Exec: "wc", Uarg: map[string]any{"a": "b"}}, {Type: Reduce, Exec: "cat", Count: 2}},
	}
}

func create(t testing.TB, r *Records) *Job {
	t.Helper()
	j := newJob()
	if err := r.Create(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	return j
}

func claim(t testing.TB, r *Records, id, instance string) *Claim {
	t.Helper()
	c, err := r.Claim(t.Context(), id, instance)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t testing.TB, r *Records, id string) *Job {
	t.Helper()
	j, err := r.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func finish(j *Job) error {
	j.State, j.TimeDone = Done, now()
	return nil
}

func ids(t testing.TB, seq iter.Seq2[*Job, error]) (list []string) {
	t.Helper()
	for j, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, j.ID)
	}
	return list
}

func wantState(t testing.TB, err error, state string) {
	t.Helper()
	if refused, ok := errors.AsType[*StateError](err); !ok || refused.State != state {
		t.Errorf("error %v, want state %q", err, state)
	}
}

func TestLife(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		j := create(t, r)
		if err := r.Create(ctx, j); !errors.Is(err, metastore.ErrConflict) {
			t.Errorf("second Create = %v", err)
		}
		if diff := cmp.Diff(j, get(t, r, j.ID)); diff != "" {
			t.Errorf("Get (-want +got):\n%s", diff)
		}
		if err := r.AddInputs(ctx, j.ID, []string{"/alice/stor/a", "/alice/stor/b"}); err != nil {
			t.Fatal(err)
		}
		if got := get(t, r, j.ID); got.TimeInput.IsZero() || got.InputDone() {
			t.Errorf("after input: %+v", got)
		}
		c := claim(t, r, j.ID, "one")
		if got := c.Job(); got.State != Running || got.Supervisor != "one" || got.Stats.Assigns != 1 || got.TimeAssigned.IsZero() {
			t.Errorf("claimed: %+v", got)
		}
		for range 2 {
			if err := r.EndInput(ctx, j.ID); err != nil {
				t.Errorf("EndInput = %v", err)
			}
		}
		wantState(t, r.AddInputs(ctx, j.ID, []string{"/alice/stor/c"}), "inputDone")
		if err := r.Delete(ctx, j.ID); err == nil {
			t.Error("a job that runs was deleted")
		}

		// The claim has not seen the end of input, and must not undo it.
		got, err := c.Update(ctx, func(j *Job) error { j.Stats.Tasks, j.Owner = 7, "nobody"; return nil })
		if err != nil || got.Stats.Tasks != 7 || !got.InputDone() || got.Owner != alice {
			t.Errorf("Update = %+v, %v", got, err)
		}
		if _, err := c.Update(ctx, func(*Job) error { return context.Canceled }); err != context.Canceled {
			t.Errorf("Update with an error = %v", err)
		}
		if got, err = c.Update(ctx, finish); err != nil || got.State != Done || got.TimeDone.IsZero() {
			t.Errorf("Update = %+v, %v", got, err)
		}
		wantState(t, r.AddInputs(ctx, j.ID, []string{"/alice/stor/c"}), "done")
		wantState(t, r.EndInput(ctx, j.ID), "done")
		wantState(t, r.Cancel(ctx, j.ID), "done")
		if diff := cmp.Diff(get(t, r, j.ID), c.Job()); diff != "" {
			t.Errorf("record and claim differ:\n%s", diff)
		}

		if err := r.Delete(ctx, j.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Get(ctx, j.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get of a deleted job = %v", err)
		}
		if err := r.Delete(ctx, j.ID); err != nil {
			t.Errorf("Delete again = %v", err)
		}
		if err := c.Commit(ctx, &Commit{Retries: 1}); !errors.Is(err, ErrLost) {
			t.Errorf("Commit to a deleted job = %v", err)
		}
		for _, b := range buckets {
			for rec, err := range r.store.Find(ctx, b.Name, metastore.Query{Scan: true}) {
				t.Errorf("left in %s: %s %v", b.Name, rec.Value, err)
			}
		}
	})
}

func TestMissing(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		for _, id := range []string{uuid.NewString(), "", strings.Repeat("x", 10000), "a\x00b"} {
			_, claimErr := r.Claim(ctx, id, "one")
			_, getErr := r.Get(ctx, id)
			for what, err := range map[string]error{
				"Get": getErr, "Claim": claimErr, "EndInput": r.EndInput(ctx, id), "Cancel": r.Cancel(ctx, id),
				"AddInputs": r.AddInputs(ctx, id, []string{"/a"}),
			} {
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("%s(%.40q) = %v", what, id, err)
				}
			}
		}
	})
}

func TestCancel(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		j := create(t, r)
		for range 2 {
			if err := r.Cancel(ctx, j.ID); err != nil {
				t.Fatal(err)
			}
		}
		if got := get(t, r, j.ID); !got.Cancelled() || !got.InputDone() || got.State != Queued {
			t.Errorf("cancelled: %+v", got)
		}
		wantState(t, r.AddInputs(ctx, j.ID, []string{"/a"}), "cancelled")
		wantState(t, r.EndInput(ctx, j.ID), "cancelled")

		// Cancel after the end of input.
		j = create(t, r)
		if err := r.EndInput(ctx, j.ID); err != nil {
			t.Fatal(err)
		}
		if err := r.Cancel(ctx, j.ID); err != nil {
			t.Fatal(err)
		}
		wantState(t, r.EndInput(ctx, j.ID), "cancelled")
	})
}

func TestList(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		var made []string
		for i := range 6 {
			j := newJob()
			if i == 1 {
				j.Name = "other"
			}
			if i == 2 {
				j.Owner = "22222222-2222-4222-8222-222222222222"
			}
			if err := r.Create(ctx, j); err != nil {
				t.Fatal(err)
			}
			made = append(made, j.ID)
			for !now().After(j.TimeCreated) { // the order is by milliseconds
			}
		}
		claim(t, r, made[3], "one")
		var archived time.Time
		for _, id := range []string{made[5], made[4]} {
			if _, err := claim(t, r, id, "one").Update(ctx, finish); err != nil {
				t.Fatal(err)
			}
		}
		if j, err := claim(t, r, made[4], "two").Update(ctx, func(j *Job) error { j.TimeArchiveDone = now(); return nil }); err != nil {
			t.Fatal(err)
		} else {
			archived = j.TimeArchiveDone
		}
		for _, test := range []struct {
			o    ListOptions
			want []int
		}{
			{ListOptions{Owner: alice}, []int{0, 1, 3, 4, 5}},
			{ListOptions{Owner: alice, Limit: 2}, []int{0, 1}},
			{ListOptions{Owner: alice, Live: true}, []int{0, 1, 3}},
			{ListOptions{Owner: alice, State: Running}, []int{3}},
			{ListOptions{Owner: alice, State: Done}, []int{4, 5}},
			{ListOptions{Owner: alice, Name: "other"}, []int{1}},
			{ListOptions{Owner: alice[:10]}, nil},
			{ListOptions{Live: true}, []int{0, 1, 2, 3}},
			{ListOptions{State: Queued}, []int{0, 1, 2}},
			{ListOptions{Unarchived: true}, []int{0, 1, 2, 3, 5}},
			{ListOptions{Unarchived: true, State: Done}, []int{5}},
			{ListOptions{ArchivedBefore: archived}, nil},
			{ListOptions{ArchivedBefore: archived.Add(time.Millisecond)}, []int{4}},
		} {
			var want []string
			for _, i := range test.want {
				want = append(want, made[i])
			}
			if got := ids(t, r.List(ctx, test.o)); !slices.Equal(got, want) {
				t.Errorf("List(%+v) = %v, want %v", test.o, got, want)
			}
		}
		if got := ids(t, r.List(ctx, ListOptions{})); len(got) != 6 {
			t.Errorf("%d jobs in all", len(got))
		}
	})
}

// TestTakeover has an old supervisor write after a new one has the job.
func TestTakeover(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		j := create(t, r)
		seen := get(t, r, j.ID)
		old := claim(t, r, j.ID, "one")
		if err := old.Commit(ctx, &Commit{Retries: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ClaimFrom(ctx, seen, "two"); !errors.Is(err, ErrLost) {
			t.Errorf("claim of a job seen before the last claim = %v", err)
		}
		next, err := r.ClaimFrom(ctx, old.Job(), "two")
		if err != nil || next.Job().Stats.Assigns != 2 {
			t.Fatal(err)
		}
		if err := old.Commit(ctx, &Commit{Retries: 2}); !errors.Is(err, ErrLost) {
			t.Errorf("Commit of the old claim = %v", err)
		}
		if _, err := old.Update(ctx, finish); !errors.Is(err, ErrLost) {
			t.Errorf("Update of the old claim = %v", err)
		}
		if err := next.Commit(ctx, &Commit{Retries: 3}, &Commit{Retries: 4}); err != nil {
			t.Fatal(err)
		}
		var retries []int64
		for c, err := range next.Commits(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			retries = append(retries, c.Retries)
		}
		if !slices.Equal(retries, []int64{1, 7}) {
			t.Errorf("commits with retries %v", retries)
		}
		// The same instance again, as after a restart.
		again := claim(t, r, j.ID, "two")
		if err := next.Commit(ctx, &Commit{Retries: 5}); !errors.Is(err, ErrLost) {
			t.Errorf("Commit of a claim by the process before = %v", err)
		}
		if _, err := again.Update(ctx, finish); err != nil {
			t.Fatal(err)
		}
		// Somebody has to archive it if that one dies.
		if last := claim(t, r, j.ID, "three"); last.Job().State != Done {
			t.Errorf("claim of a job that was done makes it %s", last.Job().State)
		}
	})
}

// TestClaimRace has many supervisors take jobs as they saw them: one of them gets each, and nobody else's commits go in.
func TestClaimRace(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		for range 5 {
			seen := create(t, r)
			var won atomic.Int64
			var group sync.WaitGroup
			for i := range 8 {
				group.Go(func() {
					c, err := r.ClaimFrom(ctx, seen, fmt.Sprint(i))
					switch {
					case err == nil:
						won.Add(1)
						if err := c.Commit(ctx, &Commit{Retries: 1}); err != nil {
							t.Errorf("Commit = %v", err)
						}
					case !errors.Is(err, ErrLost):
						t.Errorf("ClaimFrom = %v", err)
					}
				})
			}
			group.Go(func() {
				if err := r.Cancel(ctx, seen.ID); err != nil {
					t.Errorf("Cancel = %v", err)
				}
			})
			group.Wait()
			if won.Load() != 1 {
				t.Errorf("%d supervisors got the job", won.Load())
			}
			if j := get(t, r, seen.ID); !j.Cancelled() || j.State != Running || j.Stats.Assigns != 1 {
				t.Errorf("after the race: %+v", j)
			}
		}
	})
}

// lossy is a store whose commits may be in, or not, without telling.
type lossy struct {
	metastore.Store
	fail atomic.Int32 // 1: before, 2: after
}

func (l *lossy) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	if l.fail.Load() == 1 {
		return metastore.Result{}, metastore.ErrUnavailable
	}
	result, err := l.Store.Commit(ctx, b)
	if l.fail.Load() == 2 {
		return metastore.Result{}, metastore.ErrUnavailable
	}
	return result, err
}

// TestUnknown loses the answer to a commit: the claim must not write on, since a repetition would count twice.
func TestUnknown(t *testing.T) {
	for fail := int32(1); fail <= 2; fail++ {
		store := &lossy{Store: metastoretest.NewMemory()}
		r := newRecords(t, store)
		j := create(t, r)
		c := claim(t, r, j.ID, "one")
		store.fail.Store(fail)
		if err := c.Commit(t.Context(), &Commit{Retries: 1}); !errors.Is(err, metastore.ErrUnavailable) || errors.Is(err, ErrLost) {
			t.Errorf("Commit = %v", err)
		}
		store.fail.Store(0)
		if err := c.Commit(t.Context(), &Commit{Retries: 1}); !errors.Is(err, ErrLost) {
			t.Errorf("Commit after a loss = %v", err)
		}
		if _, err := c.Update(t.Context(), finish); !errors.Is(err, ErrLost) {
			t.Errorf("Update after a loss = %v", err)
		}
		n := int64(0)
		c = claim(t, r, j.ID, "one")
		for x, err := range c.Commits(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			n += x.Retries
		}
		if n != int64(fail)-1 {
			t.Errorf("%d retries counted", n)
		}
		if err := c.Commit(t.Context(), &Commit{Retries: 1}); err != nil {
			t.Errorf("Commit of the next claim = %v", err)
		}
	}
}

func TestBeats(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		beat := func(instance string) {
			t.Helper()
			if err := r.Beat(ctx, instance); err != nil {
				t.Fatal(err)
			}
		}
		beat("one")
		beat("two")
		first, err := r.Beats(ctx)
		if err != nil || len(first) != 2 {
			t.Fatalf("Beats = %v, %v", first, err)
		}
		beat("two")
		second, err := r.Beats(ctx)
		if err != nil || second["one"] != first["one"] || second["two"] == first["two"] {
			t.Errorf("Beats = %v, then %v, %v", first, second, err)
		}
		if err := r.Leave(ctx, "one"); err != nil {
			t.Fatal(err)
		}
		if last, err := r.Beats(ctx); err != nil || len(last) != 1 {
			t.Errorf("Beats = %v, %v", last, err)
		}
	})
}

func TestWatch(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		before := create(t, r)
		from, err := r.Position(ctx)
		if err != nil {
			t.Fatal(err)
		}
		next, stop := iter.Pull2(r.Watch(ctx, from))
		defer stop()
		expect := func(job string, input bool) {
			t.Helper()
			for {
				e, err, _ := next()
				if err != nil {
					t.Fatal(err)
				}
				if e.Job == job && e.Input == input {
					return
				}
			}
		}
		if err := r.AddInputs(ctx, before.ID, []string{"/a"}); err != nil {
			t.Fatal(err)
		}
		expect(before.ID, true)
		j := create(t, r)
		expect(j.ID, false)
		if err := r.EndInput(ctx, j.ID); err != nil {
			t.Fatal(err)
		}
		expect(j.ID, true)
		if err := r.Cancel(ctx, before.ID); err != nil {
			t.Fatal(err)
		}
		expect(before.ID, false)
		cancel()
		for {
			_, err, ok := next()
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Watch ends with %v", err)
				}
				break
			}
			if !ok {
				t.Error("Watch ends without an error")
				break
			}
		}
	})
}

// TestWatch_behind has a reader who comes too late.
func TestWatch_behind(t *testing.T) {
	store, err := pebble.Open(t.TempDir(), pebble.Config{ChangeLog: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := newRecords(t, store)
	from, err := r.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		create(t, r)
	}
	for _, err := range r.Watch(t.Context(), from) {
		if !errors.Is(err, metastore.ErrPositionGone) {
			t.Errorf("Watch = %v", err)
		}
		break
	}
}

// TestNewerFormat refuses records of a program that does not exist yet.
func TestNewerFormat(t *testing.T) {
	store := metastoretest.NewMemory()
	r := newRecords(t, store)
	for _, b := range []string{jobBucket, gateBucket, inputBucket, commitBucket, outputBucket, errorBucket} {
		j := create(t, r)
		c := claim(t, r, j.ID, "one")
		if err := r.AddInputs(t.Context(), j.ID, []string{"/a"}); err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(t.Context(), &Commit{Outputs: []string{"/b"}, Errors: []Failure{{}}, Retries: 1}); err != nil {
			t.Fatal(err)
		}
		for rec, err := range store.Find(t.Context(), b, metastore.Query{Partition: metastore.In(j.ID)}) {
			if err != nil {
				t.Fatal(err)
			}
			newer := []byte(`{"format":2,` + string(rec.Value[1:]))
			if _, err := store.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: b, Key: rec.Key, Value: newer}}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := r.Get(t.Context(), j.ID)
		_, inputs := r.RecentInputs(t.Context(), j.ID, 1)
		_, outputs := r.RecentOutputs(t.Context(), j.ID, 1)
		_, failures := r.RecentErrors(t.Context(), j.ID, 1)
		var commits error
		for _, commits = range c.Commits(t.Context()) {
		}
		if err := errors.Join(err, inputs, outputs, failures, commits); err == nil || !strings.Contains(err.Error(), "newer format 2") {
			t.Errorf("%s: %v", b, err)
		}
	}
}
