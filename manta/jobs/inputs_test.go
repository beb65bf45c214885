package jobs

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

// readInputs returns a job's inputs and checks that their numbers have no gap.
func readInputs(t testing.TB, r *Records, id string, from int64) (first int64, paths []string) {
	t.Helper()
	first = -1
	for in, err := range r.Inputs(t.Context(), id, from) {
		if err != nil {
			t.Fatal(err)
		}
		if first < 0 {
			first = in.First
		}
		if in.First != first+int64(len(paths)) {
			t.Fatalf("inputs jump from %d to %d", first+int64(len(paths)), in.First)
		}
		paths = append(paths, in.Paths...)
	}
	return first, paths
}

func TestInputs(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		j := create(t, r)
		if first, paths := readInputs(t, r, j.ID, 0); first != -1 || paths != nil {
			t.Errorf("inputs of a new job: %d %v", first, paths)
		}
		if err := r.AddInputs(ctx, j.ID, nil); err != nil {
			t.Error(err)
		}
		for _, p := range []string{"", strings.Repeat("x", MaxInput+1)} {
			if err := r.AddInputs(ctx, j.ID, []string{"/ok", p}); !errors.Is(err, ErrTooLarge) {
				t.Errorf("input of %d bytes: %v", len(p), err)
			}
		}
		var want []string
		add := func(paths ...string) {
			t.Helper()
			if err := r.AddInputs(ctx, j.ID, paths); err != nil {
				t.Fatal(err)
			}
			want = append(want, paths...)
		}
		add("/a")
		var many []string // several records at once
		for i := range 1000 {
			many = append(many, fmt.Sprintf("/%d/%s", i, strings.Repeat("\x01", 1000)))
		}
		add(many...)
		add("/b", "/\x00", "/é<>&")
		first, got := readInputs(t, r, j.ID, 0)
		if first != 0 || !slices.Equal(got, want) {
			t.Fatalf("%d inputs from %d, want %d", len(got), first, len(want))
		}
		for _, from := range []int64{1, 2, 500, 1000, 1001, 1003} {
			first, got := readInputs(t, r, j.ID, from)
			if first > from || first < 0 || !slices.Equal(got, want[first:]) || from == 1 && first != 1 {
				t.Errorf("from %d: %d inputs from %d", from, len(got), first)
			}
		}
		for _, n := range []int{0, 1, 3, 100, 10000} {
			got, err := r.RecentInputs(ctx, j.ID, n)
			if err != nil || !slices.Equal(got, want[len(want)-min(n, len(want)):]) {
				t.Errorf("RecentInputs(%d) has %d, %v", n, len(got), err)
			}
		}
	})
}

// TestAdders has adders of two processes, and a cancel in the middle: every input that was acknowledged is there, once, in its adder's order, and none comes later.
func TestAdders(t *testing.T) {
	onRecords(t, func(t *testing.T, r *Records) {
		ctx := t.Context()
		other, err := NewRecords(r.store)
		if err != nil {
			t.Fatal(err)
		}
		j := create(t, r)
		var group sync.WaitGroup
		acked := make([]int, 6)
		for a := range acked {
			group.Go(func() {
				r := []*Records{r, other}[a%2]
				for i := range 40 {
					err := r.AddInputs(ctx, j.ID, []string{fmt.Sprintf("/%d/%d", a, i)})
					if refused, ok := errors.AsType[*StateError](err); ok && refused.State == "cancelled" {
						return
					}
					if err != nil {
						t.Errorf("AddInputs = %v", err)
						return
					}
					acked[a]++
					if a == 0 && i == 20 {
						if err := r.Cancel(ctx, j.ID); err != nil {
							t.Errorf("Cancel = %v", err)
						}
					}
				}
			})
		}
		group.Wait()
		_, got := readInputs(t, r, j.ID, 0)
		next := make([]int, len(acked))
		for _, p := range got {
			var a, i int
			if _, err := fmt.Sscanf(p, "/%d/%d", &a, &i); err != nil || i != next[a] {
				t.Fatalf("input %s after %d of its adder", p, next[a])
			}
			next[a]++
		}
		if !slices.Equal(next, acked) || acked[0] != 21 {
			t.Errorf("acknowledged %v, there are %v", acked, next)
		}
	})
}

// TestMillion goes through a job of a million inputs, tasks and outputs without holding them.
func TestMillion(t *testing.T) {
	n := 1_000_000
	if !testenv.Long() {
		n = 100_000
	}
	store, err := pebble.Open(t.TempDir(), pebble.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := newRecords(t, store)
	j := create(t, r)
	before := heap()
	var peak uint64
	const batch = 1000
	for i := 0; i < n; i += batch {
		paths := make([]string, batch)
		for k := range paths {
			paths[k] = fmt.Sprintf("/alice/stor/some/directory/of/objects/%d", i+k)
		}
		if err := r.AddInputs(t.Context(), j.ID, paths); err != nil {
			t.Fatal(err)
		}
	}
	c := claim(t, r, j.ID, "one")
	read := 0
	for in, err := range r.Inputs(t.Context(), j.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		var x Commit
		for i, p := range in.Paths {
			x.Outcomes = append(x.Outcomes, Outcome{Number: in.First + int64(i), Task: "11111111-1111-4111-8111-111111111111", OK: true})
			x.Outputs = append(x.Outputs, OutputBase("alice", j.ID, p, 0))
		}
		if err := c.Commit(t.Context(), &x); err != nil {
			t.Fatal(err)
		}
		if read += len(in.Paths); read%(50*batch) == 0 {
			peak = max(peak, heap())
		}
	}
	done, outputs := 0, 0
	for x, err := range c.Commits(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		done += len(x.Outcomes)
		outputs += len(x.Outputs)
		if done%(100*batch) == 0 {
			peak = max(peak, heap())
		}
	}
	if read != n || done != n || outputs != n {
		t.Errorf("%d inputs, %d outcomes, %d outputs; want %d of each", read, done, outputs, n)
	}
	if _, err := c.Update(t.Context(), finish); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d inputs: heap %d MiB before, at most %d MiB", n, before>>20, peak>>20)
	if peak > before+(48<<20) { // with -race, the store has its tables and blocks in there, too
		t.Errorf("heap grew from %d to %d MiB", before>>20, peak>>20)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
