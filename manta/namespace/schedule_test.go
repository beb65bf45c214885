package namespace_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// stepped is a sharded store whose every call waits to be let go on, so that a test decides in which order the steps of several callers happen.
type stepped struct {
	*sharded
	mu      sync.Mutex
	waiting []chan struct{}
	free    bool
}

func (s *stepped) step() {
	s.mu.Lock()
	if s.free {
		s.mu.Unlock()
		return
	}
	c := make(chan struct{})
	s.waiting = append(s.waiting, c)
	s.mu.Unlock()
	<-c
}

func (s *stepped) setFree(free bool) {
	s.mu.Lock()
	s.free = free
	s.mu.Unlock()
}

// one lets a random caller make its next step. It reports false when nobody waits.
func (s *stepped) one(rng *rand.Rand) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return false
	}
	i := rng.IntN(len(s.waiting))
	close(s.waiting[i])
	s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
	return true
}

func (s *stepped) Get(ctx context.Context, bucket string, key metastore.Key) (metastore.Record, error) {
	s.step()
	return s.sharded.Get(ctx, bucket, key)
}

func (s *stepped) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	s.step()
	return s.sharded.Commit(ctx, b)
}

// TestSchedules mixes the steps of callers who make, fill and remove one directory whose partition is on another shard than its parent's, in random orders
// that a seed repeats. What was acknowledged must hold in the end.
func TestSchedules(t *testing.T) {
	seeds := 5000
	if testenv.Long() {
		seeds = 200000
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { schedule(t, uint64(seed)) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func schedule(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	ctx := t.Context()
	store := &stepped{sharded: newSharded(), free: true}
	ns := newNamespace(t, store, namespace.Config{})
	dir := stor.Join("d")
	mkdir := func() error {
		_, _, err := ns.PutDirectory(ctx, dir, manta.Entry{}, namespace.Options{})
		return err
	}
	if rng.IntN(4) > 0 {
		// Begin with a directory that is there, wholly or left in the middle of being made or removed.
		switch rng.IntN(3) {
		case 0:
			store.crashAfter(1 + rng.IntN(3))
			mkdir()
		case 1:
			mkdir()
		case 2:
			mkdir()
			store.crashAfter(1 + rng.IntN(3))
			ns.Delete(ctx, dir, namespace.Options{})
		}
		store.crashAfter(-1)
	}
	store.setFree(false)
	type outcome struct {
		what string
		err  error
	}
	var mu sync.Mutex
	var outcomes []outcome
	running := 0
	actor := func(what string, do func() error) {
		running++
		go func() {
			err := do()
			mu.Lock()
			defer mu.Unlock()
			outcomes = append(outcomes, outcome{what, err})
			running--
		}()
	}
	puts := 1 + rng.IntN(2)
	for i := range puts {
		key := dir.Join(fmt.Sprint("f", i))
		actor(string(key), func() error {
			_, _, err := ns.Put(ctx, key, object(1), namespace.Options{})
			return err
		})
	}
	for range 1 + rng.IntN(2) {
		actor("rmdir", func() error { _, err := ns.Delete(ctx, dir, namespace.Options{}); return err })
	}
	for range rng.IntN(2) {
		actor("mkdir", mkdir)
	}
	for {
		synctest.Wait()
		mu.Lock()
		done := running == 0
		mu.Unlock()
		if done {
			break
		}
		if !store.one(rng) {
			time.Sleep(time.Millisecond) // a caller pauses between two tries
		}
	}
	store.setFree(true)
	acknowledged := 0
	for _, o := range outcomes {
		if o.err == nil && o.what != "mkdir" && o.what != "rmdir" {
			acknowledged++
			st, err := ns.Look(ctx, manta.Key(o.what), false)
			if err != nil || st.Entry == nil {
				t.Errorf("%s was acknowledged and is gone: %v", o.what, err)
			}
		}
		for _, bad := range []error{namespace.ErrFull, namespace.ErrIsDirectory, namespace.ErrParentNotDirectory, metastore.ErrConflict, errCrash} {
			if errors.Is(o.err, bad) {
				t.Errorf("%s: %v", o.what, o.err)
			}
		}
	}
	st, err := ns.Look(ctx, dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if acknowledged > 0 && !st.Entry.IsDirectory() {
		t.Errorf("%d entries were acknowledged, and their directory is gone: %v", acknowledged, outcomes)
	}
	if n, _ := ns.Count(ctx, dir); int(n) != acknowledged {
		t.Errorf("directory counts %d entries, %d were acknowledged", n, acknowledged)
	}
	checkWhole(t, ns, dir)
}
