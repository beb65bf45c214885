package shard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

var errCrash = errors.New("the mover dies here")

// The load of the move tests: each worker counts in a partition of its own, by compare-and-swap and by a counter, and reads back what it wrote, through
// whichever process's ring it happens on. If a write were lost, a stale one read, or a copy made too early, it would notice at once.
func load(ctx context.Context, t *testing.T, rings []*Store, worker int, rounds *atomic.Int64) {
	rng := rand.New(rand.NewPCG(uint64(worker), 9))
	ring := func() *Store { return rings[rng.IntN(len(rings))] }
	key := metastore.Key{Partition: fmt.Sprint("worker", worker), Name: "n"}
	type value struct {
		N    int    `json:"n"`
		Tag  string `json:"tag"`
		Pad  string `json:"pad"`
		Tags []int  `json:"tags"`
	}
	etag, last := "", 0
	for ctx.Err() == nil {
		table := metastore.NewTable[value](ring(), "load")
		item, err := table.Get(context.Background(), key)
		switch {
		case errors.Is(err, metastore.ErrNotFound) && last == 0:
		case err != nil:
			t.Errorf("worker %d: Get = %v after round %d", worker, err, last)
			return
		case item.Etag != etag || item.Value.N != last:
			t.Errorf("worker %d: read round %d, etag %q, after round %d, etag %q, was acknowledged", worker, item.Value.N, item.Etag, last, etag)
			return
		}
		put, err := table.PutOp(key, value{N: last + 1, Tag: "x"}, metastore.EtagIs(etag))
		if err != nil {
			t.Error(err)
			return
		}
		gone := metastore.Key{Partition: key.Partition, Name: fmt.Sprint("k", last%7)}
		batch := metastore.Batch{put, metastore.Add{Bucket: "load", Key: key, Delta: 1}}
		switch last % 3 {
		case 0:
			batch = append(batch, metastore.Put{Bucket: "load", Key: gone, Value: []byte(`{"tag":"k"}`)})
		case 1:
			batch = append(batch, metastore.Delete{Bucket: "load", Key: gone})
		case 2:
			batch = append(batch, metastore.UpdateMany{Bucket: "load", Query: metastore.Query{Partition: &key.Partition, Filter: metastore.Eq{Field: "tag", Value: "k"}}, Set: map[string]any{"n": last}})
		}
		result, err := ring().Commit(context.Background(), batch)
		if errors.Is(err, metastore.ErrReadOnly) {
			continue // the mover is dead for longer than we wait
		}
		if err != nil {
			t.Errorf("worker %d: Commit = %v after round %d", worker, err, last)
			return
		}
		etag = result.Etags[0]
		last++
		rounds.Add(1)
		n, err := ring().Counter(context.Background(), "load", key)
		if err != nil || n != int64(last) {
			t.Errorf("worker %d: Counter = %d, %v, after round %d", worker, n, err, last)
			return
		}
	}
}

// all checks that every worker's record is found once, from every ring.
func all(t *testing.T, rings []*Store, workers int) {
	t.Helper()
	for i, s := range rings {
		seen := map[string]int{}
		for r, err := range s.Find(t.Context(), "load", metastore.Query{Filter: metastore.Eq{Field: "tag", Value: "x"}}) {
			if err != nil {
				t.Fatal(err)
			}
			seen[r.Key.Partition]++
		}
		for w := range workers {
			if n := seen[fmt.Sprint("worker", w)]; n != 1 {
				t.Errorf("ring %d: the record of worker %d is found %d times", i, w, n)
			}
		}
	}
}

// check looks below the ring: each record is on the shard that owns it, and nowhere else, when no move is left.
func check(t *testing.T, s *Store) {
	t.Helper()
	l, err := s.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Moves) > 0 {
		t.Errorf("moves are left: %+v", l.Moves)
	}
	owner := map[int]string{}
	for _, x := range l.Shards {
		for _, v := range x.VNodes {
			owner[v] = x.Name
		}
	}
	for _, x := range s.shards {
		for r, err := range x.Store.Find(t.Context(), "load", metastore.Query{Scan: true}) {
			if err != nil {
				t.Fatal(err)
			}
			if owner[s.VNode(r.Key.Partition)] != x.Name {
				t.Errorf("shard %s has a record of %s", x.Name, owner[s.VNode(r.Key.Partition)])
			}
		}
		for c, err := range x.Store.(metastore.Mover).Counters(t.Context(), "load") {
			if err != nil {
				t.Fatal(err)
			}
			if owner[s.VNode(c.Key.Partition)] != x.Name {
				t.Errorf("shard %s has a counter of %s", x.Name, owner[s.VNode(c.Key.Partition)])
			}
		}
		for r, err := range x.Store.Find(t.Context(), bucketDirty, metastore.Query{Scan: true}) {
			if err != nil {
				t.Fatal(err)
			}
			t.Errorf("shard %s keeps a note: %s", x.Name, r.Value)
		}
	}
}

var loadBucket = metastore.Bucket{Name: "load", Watched: true, Indexes: []metastore.Index{{Field: "tag", Type: metastore.String}}}

// TestMoveUnderLoad kills the mover at each of its steps in turn, and has the move resumed by another process, or aborted.
func TestMoveUnderLoad(t *testing.T) {
	const workers = 6
	shards := memories(3)
	rings := []*Store{open(t, shards, quick), open(t, shards, quick), open(t, shards, quick)}
	if err := rings[0].Define(t.Context(), loadBucket); err != nil {
		t.Fatal(err)
	}
	// Something to copy besides what the workers touch.
	for i := range 500 {
		key := metastore.Key{Partition: fmt.Sprint("still", i), Name: "r"}
		if _, err := rings[0].Commit(t.Context(), metastore.Batch{
			metastore.Put{Bucket: "load", Key: key, Value: []byte(`{"tag":"still"}`)}, metastore.Add{Bucket: "load", Key: key, Delta: int64(i)},
		}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var rounds atomic.Int64
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() { load(ctx, t, rings, w, &rounds) })
	}
	// What nobody touches is found exactly once by every query over all partitions, in order, whatever moves meanwhile.
	for i, s := range rings {
		work.Go(func() {
			for ctx.Err() == nil && !t.Failed() {
				seen, last := map[string]int{}, metastore.Key{}
				q := metastore.Query{Filter: metastore.Eq{Field: "tag", Value: "still"}, Descending: i == 1}
				for r, err := range s.Find(context.Background(), "load", q) {
					if err != nil {
						t.Errorf("Find = %v", err)
						return
					}
					if len(seen) > 0 && (r.Key.Compare(last) > 0) == q.Descending {
						t.Errorf("Find: %v comes after %v", r.Key, last)
					}
					last = r.Key
					seen[r.Key.Partition]++
				}
				for p, n := range seen {
					if n != 1 {
						t.Errorf("Find: %s comes %d times", p, n)
					}
				}
				if len(seen) != 500 {
					t.Errorf("Find: %d records, want 500", len(seen))
				}
			}
		})
	}
	for w := 0; w < workers && !t.Failed(); { // until each has begun
		_, err := rings[0].Get(t.Context(), "load", metastore.Key{Partition: fmt.Sprint("worker", w), Name: "n"})
		if err == nil {
			w++
		} else if !errors.Is(err, metastore.ErrNotFound) {
			t.Fatal(err)
		}
	}
	steps := []string{"", "prepare", "copying", "pass1", "pass2", "drain", "freeze", "last", "switch", "wait", "admit", "clean", "end"}
	for i, step := range steps {
		for _, abort := range []bool{false, true} {
			if t.Failed() {
				break
			}
			mover := rings[i%len(rings)]
			mover.step = func(name string) error {
				if name == step {
					return errCrash
				}
				return nil
			}
			target := shards[(i+1)%3].Name
			var vnodes []int
			for w := range workers {
				vnodes = append(vnodes, mover.VNode(fmt.Sprint("worker", w)))
			}
			before := rounds.Load()
			err := mover.Move(t.Context(), target, append(vnodes, rand.Perm(64)[:20]...)...)
			if err != nil && !errors.Is(err, errCrash) {
				t.Fatalf("step %q: Move = %v", step, err)
			}
			mover.step = nil
			other := rings[(i+1)%len(rings)]
			if abort {
				err = other.Abort(t.Context())
			} else {
				err = other.Resume(t.Context())
			}
			if err != nil {
				t.Fatalf("step %q, abort %v: %v", step, abort, err)
			}
			for rounds.Load() < before+10 && !t.Failed() { // the load goes on
				if err := other.open(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			all(t, rings, workers)
		}
	}
	stop()
	work.Wait()
	check(t, rings[0])
	t.Logf("%d rounds", rounds.Load())
}

// TestTwoMovers lets a second mover take over while the first one is still at it: one of them wins, nothing is lost.
func TestTwoMovers(t *testing.T) {
	shards := memories(2)
	rings := []*Store{open(t, shards, quick), open(t, shards, quick)}
	if err := rings[0].Define(t.Context(), loadBucket); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var rounds atomic.Int64
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() { load(ctx, t, rings, w, &rounds) })
	}
	for round := range 12 {
		var movers sync.WaitGroup
		var vnodes []int
		for v := range 64 {
			vnodes = append(vnodes, v)
		}
		movers.Go(func() {
			if err := rings[0].Move(t.Context(), shards[round%2].Name, vnodes...); err != nil && !errors.Is(err, metastore.ErrConflict) {
				t.Errorf("Move = %v", err)
			}
		})
		movers.Go(func() {
			if err := rings[1].Resume(t.Context()); err != nil && !errors.Is(err, metastore.ErrConflict) {
				t.Errorf("Resume = %v", err)
			}
		})
		movers.Wait()
		if err := rings[1].Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	work.Wait()
	all(t, rings, 4)
	check(t, rings[0])
}

// TestGrow adds a shard to a ring of embedded stores under load, drains another, and leaves it out.
func TestGrow(t *testing.T) {
	dir := t.TempDir()
	var shards []Shard
	for i := range 3 {
		s, err := pebble.Open(filepath.Join(dir, fmt.Sprint(i)), pebble.Config{})
		if err != nil {
			t.Fatal(err)
		}
		shards = append(shards, Shard{fmt.Sprint("s", i), s})
	}
	s := open(t, shards[:2], quick)
	if err := s.Define(t.Context(), loadBucket); err != nil {
		t.Fatal(err)
	}
	start, err := s.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var rounds atomic.Int64
	var work sync.WaitGroup
	grown := open(t, shards, quick)
	old := []*Store{grown} // a process that does not know the new shard cannot go on once it has something
	for w := range 4 {
		work.Go(func() { load(ctx, t, old, w, &rounds) })
	}
	if err := grown.Rebalance(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := grown.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range l.Shards {
		if n := len(x.VNodes); n < 21 || n > 22 {
			t.Errorf("shard %s has %d of 64 virtual nodes", x.Name, n)
		}
	}
	if err := grown.Drain(t.Context(), "s0"); !errors.Is(err, metastore.ErrInvalid) {
		t.Errorf("Drain of the first shard = %v", err)
	}
	if err := grown.Drain(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	for rounds.Load() < 50 && !t.Failed() {
		if err := grown.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	work.Wait()
	check(t, grown)
	all(t, []*Store{grown}, 4)
	// Whoever watched from before it all still learns of the last state of every key.
	state := map[string]string{}
	end := metastore.Key{Partition: "end", Name: "end"}
	if _, err := grown.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: "load", Key: end, Value: []byte(`{}`)}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for r, err := range grown.Find(t.Context(), "load", metastore.Query{Filter: metastore.Eq{Field: "tag", Value: "x"}}) {
		if err != nil {
			t.Fatal(err)
		}
		want[r.Key.Partition] = r.Etag
	}
	for c, err := range grown.Watch(t.Context(), start, "load") {
		if err != nil {
			t.Fatal(err)
		}
		if c.Record != nil && c.Key.Name == "n" {
			state[c.Key.Partition] = c.Record.Etag
		}
		missing := false
		for p, etag := range want {
			missing = missing || state[p] != etag
		}
		if !missing {
			break
		}
	}
	// Without the drained shard.
	if err := shards[1].Store.Close(); err != nil {
		t.Fatal(err)
	}
	rest := open(t, []Shard{shards[0], shards[2]}, quick)
	all(t, []*Store{rest}, 4)
	if err := rest.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), []Shard{shards[2], shards[0]}, quick); err == nil {
		t.Error("a ring opened with another first shard")
	}
}

// TestDeadMover has the mover die while its virtual nodes are frozen: reads go on, writes say that they cannot, others are not touched.
func TestDeadMover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shards := memories(2)
		s := open(t, shards, Config{VirtualNodes: 64})
		defer s.Close()
		if err := s.Define(t.Context(), loadBucket); err != nil {
			t.Fatal(err)
		}
		key := metastore.Key{Partition: "p", Name: "1"}
		put := metastore.Batch{metastore.Put{Bucket: "load", Key: key, Value: []byte(`{}`)}}
		if _, err := s.Commit(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		s.step = func(name string) error {
			if name == "switch" {
				return errCrash
			}
			return nil
		}
		to := shards[1].Name
		if s.known.Load().ring.owner("p") == 1 {
			to = shards[0].Name
		}
		if err := s.Move(t.Context(), to, s.VNode("p")); !errors.Is(err, errCrash) {
			t.Fatalf("Move = %v", err)
		}
		begin := time.Now()
		if _, err := s.Commit(t.Context(), put); !errors.Is(err, metastore.ErrReadOnly) {
			t.Errorf("Commit to a frozen virtual node = %v, want ErrReadOnly", err)
		}
		if d := time.Since(begin); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("Commit waited %v, want 5 s", d)
		}
		if _, err := s.Get(t.Context(), "load", key); err != nil {
			t.Errorf("Get = %v", err)
		}
		for i := range 64 {
			p := fmt.Sprint("q", i)
			if s.VNode(p) == s.VNode("p") {
				continue
			}
			if _, err := s.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: "load", Key: metastore.Key{Partition: p}, Value: []byte(`{}`)}}); err != nil {
				t.Errorf("Commit elsewhere = %v", err)
			}
		}
		if err := s.Move(t.Context(), to, s.VNode("p")); !errors.Is(err, metastore.ErrConflict) {
			t.Errorf("a second move of the same = %v", err)
		}
		s.step = nil
		if err := s.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(t.Context(), put); err != nil {
			t.Errorf("Commit after Resume = %v", err)
		}
		check(t, s)
	})
}

func TestReserved(t *testing.T) {
	s := open(t, memories(2), quick)
	defer s.Close()
	ctx := t.Context()
	key := metastore.Key{Name: "map"}
	if err := s.Define(ctx, metastore.Bucket{Name: "shard_mine"}); !errors.Is(err, metastore.ErrInvalid) {
		t.Errorf("Define = %v", err)
	}
	if _, err := s.Get(ctx, bucketMap, key); !errors.Is(err, metastore.ErrNoBucket) {
		t.Errorf("Get = %v", err)
	}
	if _, err := s.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: bucketMap, Key: key}}); !errors.Is(err, metastore.ErrNoBucket) {
		t.Errorf("Commit = %v", err)
	}
	for _, err := range s.Find(ctx, bucketMap, metastore.Query{Scan: true}) {
		if !errors.Is(err, metastore.ErrNoBucket) {
			t.Errorf("Find = %v", err)
		}
	}
	if err := s.Drop(ctx, bucketMap); err != nil {
		t.Errorf("Drop = %v", err)
	}
	if _, err := s.Layout(ctx); err != nil {
		t.Errorf("the map is gone: %v", err)
	}
}
