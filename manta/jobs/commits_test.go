package jobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// collect joins commits, whose number is the store's own affair.
func collect(t testing.TB, c *Claim) (all Commit, parts int) {
	t.Helper()
	for x, err := range c.Commits(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all.Outcomes = append(all.Outcomes, x.Outcomes...)
		all.Emitted = append(all.Emitted, x.Emitted...)
		all.Outputs = append(all.Outputs, x.Outputs...)
		all.Errors = append(all.Errors, x.Errors...)
		all.Retries += x.Retries
		parts++
	}
	return all, parts
}

func TestCommits(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		j := create(t, r)
		c := claim(t, r, j.ID, "one")
		if err := c.Commit(ctx, &Commit{}, &Commit{}); err != nil {
			t.Error(err)
		}
		var want Commit
		commit := func(list ...*Commit) {
			t.Helper()
			if err := c.Commit(ctx, list...); err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				want.Outcomes = append(want.Outcomes, x.Outcomes...)
				want.Emitted = append(want.Emitted, x.Emitted...)
				want.Outputs = append(want.Outputs, x.Outputs...)
				want.Errors = append(want.Errors, x.Errors...)
				want.Retries += x.Retries
			}
		}
		// Each kind alone, and together, so that the runs of records have different gaps.
		commit(&Commit{Outcomes: []Outcome{{Phase: 0, Number: 1, Task: "a", OK: true}}})
		commit(&Commit{Outputs: []string{"/o1"}})
		commit(&Commit{Errors: []Failure{{Phase: 1, Code: CodeUserTask, Message: "<no>", Time: now()}}})
		commit(&Commit{Retries: 2})
		commit(
			&Commit{Outcomes: []Outcome{{Phase: 0, Number: 2}}, Emitted: []Emitted{{Phase: 1, Number: 7, Path: "/x", Origin: "/y", Reducer: -1}}},
			&Commit{Outputs: []string{"/o2", "/\x00\n"}, Errors: []Failure{{Input: "/a"}}, Retries: 1},
		)
		got, _ := collect(t, c)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("commits (-want +got):\n%s", diff)
		}
		got, _ = collect(t, claim(t, r, j.ID, "two"))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("commits after a takeover (-want +got):\n%s", diff)
		}
		var outputs []string
		for some, err := range r.Outputs(ctx, j.ID) {
			if err != nil {
				t.Fatal(err)
			}
			outputs = append(outputs, some...)
		}
		var failures []Failure
		for some, err := range r.Errors(ctx, j.ID) {
			if err != nil {
				t.Fatal(err)
			}
			failures = append(failures, some...)
		}
		if diff := cmp.Diff(want.Outputs, outputs) + cmp.Diff(want.Errors, failures); diff != "" {
			t.Errorf("outputs and errors (-want +got):\n%s", diff)
		}
		if got, err := r.RecentOutputs(ctx, j.ID, 2); err != nil || !slices.Equal(got, outputs[1:]) {
			t.Errorf("RecentOutputs = %q, %v", got, err)
		}
		if got, err := r.RecentErrors(ctx, j.ID, 1); err != nil || len(got) != 1 || got[0].Input != "/a" {
			t.Errorf("RecentErrors = %+v, %v", got, err)
		}
	})
}

// TestLargeCommit has a task with 100,000 outputs, which are in together with its outcome.
func TestLargeCommit(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		j := create(t, r)
		c := claim(t, r, j.ID, "one")
		want := Commit{Outcomes: []Outcome{{Task: "t", OK: true}}}
		for i := range 100_000 {
			if i%2 == 0 {
				want.Outputs = append(want.Outputs, fmt.Sprintf("/alice/jobs/%s/stor/alice/stor/some/object.0.%d", j.ID, i))
			} else {
				want.Emitted = append(want.Emitted, Emitted{Phase: 1, Number: int64(i), Path: fmt.Sprintf("/alice/stor/%d", i), Reducer: i % 7})
			}
		}
		if err := c.Commit(t.Context(), &want); err != nil {
			t.Fatal(err)
		}
		got, parts := collect(t, c)
		if !slices.Equal(got.Outcomes, want.Outcomes) || !slices.Equal(got.Outputs, want.Outputs) || !slices.Equal(got.Emitted, want.Emitted) || parts < 10 {
			t.Errorf("%d parts, %d outcomes, %d outputs, %d emitted", parts, len(got.Outcomes), len(got.Outputs), len(got.Emitted))
		}
		if got, err := r.RecentOutputs(t.Context(), j.ID, 100); err != nil || !slices.Equal(got, want.Outputs[len(want.Outputs)-100:]) {
			t.Errorf("RecentOutputs has %d, %v", len(got), err)
		}
	})
}

func TestTooLarge(t *testing.T) {
	r := newRecords(t, newMemory(t))
	j := create(t, r)
	c := claim(t, r, j.ID, "one")
	long := strings.Repeat("x", maxItem)
	for name, x := range map[string]*Commit{
		"item":   {Outputs: []string{"/ok", long}},
		"commit": {Outputs: slices.Repeat([]string{long[:maxItem/2]}, maxCommit/(maxItem/2)+1)},
	} {
		if err := c.Commit(t.Context(), x); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Nothing is in, and the claim is as good as before.
	if err := c.Commit(t.Context(), &Commit{Outputs: []string{"/ok"}}); err != nil {
		t.Error(err)
	}
	if got, _ := collect(t, c); !slices.Equal(got.Outputs, []string{"/ok"}) {
		t.Errorf("outputs %q", got.Outputs)
	}
	big := newJob()
	big.Name = strings.Repeat("x", 2<<20)
	if err := r.Create(t.Context(), big); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Create of a large job = %v", err)
	}
}

// TestContention has supervisors of two processes take one job from each other all the time. Each, when it has the job, numbers its commit by what it has read. Were an
// old claim's commit let in, or one not seen by the next claim, a number would be there twice.
func TestContention(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		other, err := NewRecords(r.store)
		if err != nil {
			t.Fatal(err)
		}
		j := create(t, r)
		var acknowledged atomic.Int64
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				r := []*Records{r, other}[i%2]
				for range 8 {
					c, err := r.Claim(ctx, j.ID, fmt.Sprint(i))
					if errors.Is(err, ErrLost) {
						continue
					}
					if err != nil {
						t.Errorf("Claim = %v", err)
						return
					}
					next := int64(0)
					for x, err := range c.Commits(ctx) {
						if err != nil {
							t.Errorf("Commits = %v", err)
							return
						}
						for _, o := range x.Outcomes {
							next = max(next, o.Number+1)
						}
					}
					for ; ; next++ {
						err = c.Commit(ctx, &Commit{Outcomes: []Outcome{{Number: next}}})
						if err != nil {
							break
						}
						if acknowledged.Add(1); next%5 == 0 {
							break
						}
					}
					if err != nil && !errors.Is(err, ErrLost) {
						t.Errorf("Commit = %v", err)
						return
					}
				}
			})
		}
		group.Wait()
		got, _ := collect(t, claim(t, r, j.ID, "last"))
		for i, o := range got.Outcomes {
			if o.Number != int64(i) {
				t.Fatalf("commit %d has number %d", i, o.Number)
			}
		}
		if n := acknowledged.Load(); n != int64(len(got.Outcomes)) || n == 0 {
			t.Errorf("%d commits were acknowledged, %d are there", n, len(got.Outcomes))
		}
	})
}
