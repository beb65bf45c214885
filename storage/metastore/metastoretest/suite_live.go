package metastoretest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// watchTimeout ends a test whose change never comes; no test that passes waits for it.
const watchTimeout = 30 * time.Second

// testFindWhileWriting holds Find to its promise: what is not touched comes exactly once, whatever happens around it.
func testFindWhileWriting(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "n", Type: metastore.Number}}})
	var batch metastore.Batch
	for i := range 2000 {
		batch = append(batch, metastore.Put{Bucket: "a", Key: k(fmt.Sprintf("%04d", i)), Value: fmt.Appendf(nil, `{"n":%d}`, i%10)})
	}
	commit(t, s, batch...)
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			key := k(fmt.Sprintf("%04d-x", i*37%2000))
			s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "a", Key: key, Value: fmt.Appendf(nil, `{"n":%d}`, i%10)}})
			s.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: "a", Key: key}})
		}
	})
	for _, q := range []metastore.Query{{Partition: metastore.In("p")}, {OrderBy: "n", Descending: true}, {Filter: metastore.Le{Field: "n", Value: 20}}} {
		seen := map[string]int{}
		for r, err := range s.Find(t.Context(), "a", q) {
			if err != nil {
				t.Fatal(err)
			}
			seen[r.Key.Name]++
		}
		for i := range 2000 {
			if n := seen[fmt.Sprintf("%04d", i)]; n != 1 {
				t.Errorf("%s: record %d came %d times", describe(q), i, n)
			}
		}
	}
	stop()
	writer.Wait()
}

// A watcher reads a Watch step by step.
type watcher struct {
	t    *testing.T
	next func() (metastore.Change, error, bool)
}

func watch(t *testing.T, s metastore.Store, after metastore.Position, buckets ...string) *watcher {
	ctx, cancel := context.WithTimeout(t.Context(), watchTimeout)
	next, stop := iter.Pull2(s.Watch(ctx, after, buckets...))
	t.Cleanup(func() { cancel(); stop() })
	return &watcher{t, next}
}

// until reads up to and with the first change for which done is true.
func (w *watcher) until(done func(metastore.Change) bool) (seen []metastore.Change) {
	w.t.Helper()
	for {
		c, err, ok := w.next()
		if !ok || err != nil {
			w.t.Fatalf("Watch ended with %v after %d changes", err, len(seen))
		}
		seen = append(seen, c)
		if done(c) {
			return seen
		}
	}
}

func key(want metastore.Key) func(metastore.Change) bool {
	return func(c metastore.Change) bool { return c.Key == want }
}

func watched(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "w", Watched: true, Indexes: []metastore.Index{{Field: "g", Type: metastore.Number}}})
	define(t, s, metastore.Bucket{Name: "v", Watched: true})
	define(t, s, metastore.Bucket{Name: "quiet"})
}

func testWatch(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	watched(t, s)
	put(t, s, "w", k("old"), `{}`)
	start, err := s.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "w", k("1"), `{"g":1}`)
	put(t, s, "v", k("2"), `{}`)
	put(t, s, "quiet", k("3"), `{}`)
	commit(t, s, metastore.Delete{Bucket: "w", Key: k("old")}, metastore.Put{Bucket: "w", Key: k("4"), Value: []byte(`{"g":1}`)}, metastore.Add{Bucket: "w", Key: k("n"), Delta: 1})
	if _, err := s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "w", Key: k("refused"), Value: []byte(`{}`), If: metastore.Present()}}); err == nil {
		t.Error("no conflict")
	}
	commit(t, s, metastore.UpdateMany{Bucket: "w", Query: metastore.Query{Partition: metastore.In("p"), Filter: metastore.Eq{Field: "g", Value: 1}}, Set: map[string]any{"g": 2}})
	end := put(t, s, "w", k("end"), `{"v":"end"}`)

	last := map[metastore.Key]metastore.Change{}
	for _, c := range watch(t, s, start, "w").until(key(k("end"))) {
		if c.Bucket != "w" || c.Position == "" {
			t.Errorf("change %+v", c)
		}
		last[c.Key] = c
	}
	for _, name := range []string{"1", "4", "old", "end"} {
		if _, ok := last[k(name)]; !ok {
			t.Errorf("no change for %s", name)
		}
	}
	if len(last) != 4 {
		t.Errorf("changes for %d keys, want 4", len(last))
	}
	if c := last[k("old")]; c.Record != nil {
		t.Errorf("record of a deleted key: %+v", c.Record)
	}
	if c := last[k("end")]; c.Record == nil || c.Record.Etag != end || string(c.Record.Value) != `{"v":"end"}` || c.Record.Key != k("end") {
		t.Errorf("record of a put key: %+v", c.Record)
	}
	if c := last[k("1")]; c.Record == nil || !sameJSON(string(c.Record.Value), `{"g":2}`) {
		t.Errorf("record of an updated key: %+v", c.Record)
	}
	both := map[string]bool{}
	for _, c := range watch(t, s, "", "v", "w").until(key(k("end"))) {
		both[c.Bucket] = true
	}
	if !both["v"] || !both["w"] {
		t.Errorf("Watch of two buckets from the beginning saw %v", both)
	}
	for bucket, want := range map[string]error{"quiet": metastore.ErrInvalid, "nope": metastore.ErrNoBucket} {
		for _, err := range s.Watch(ctx, "", bucket) {
			wantErr(t, "Watch of "+bucket, err, want)
		}
	}
	for _, err := range s.Watch(ctx, "no position at all", "w") {
		if !errors.Is(err, metastore.ErrInvalid) && !errors.Is(err, metastore.ErrPositionGone) {
			t.Errorf("Watch from nonsense = %v", err)
		}
	}
}

func testWatchResume(t *testing.T, s metastore.Store) {
	watched(t, s)
	var after []metastore.Position
	for i := range 20 {
		after = append(after, commit(t, s,
			metastore.Put{Bucket: "w", Key: k(fmt.Sprint("a", i)), Value: []byte(`{}`)},
			metastore.Put{Bucket: "w", Key: k(fmt.Sprint("b", i)), Value: []byte(`{}`)}).Position)
	}
	for i := range 19 {
		// What comes after a commit's own position is what was committed later.
		names := map[string]bool{}
		for _, c := range watch(t, s, after[i], "w").until(key(k("b19"))) {
			names[c.Key.Name] = true
		}
		for j := range 20 {
			if j <= i && names[fmt.Sprint("a", j)] || j > i && !names[fmt.Sprint("a", j)] {
				t.Errorf("after commit %d: %v", i, names)
				break
			}
		}
	}
	// From each change's position on, nothing is lost, and nothing read before comes again.
	all := watch(t, s, "", "w").until(key(k("b19")))
	for i, c := range all[:len(all)-1] {
		rest := watch(t, s, c.Position, "w").until(key(k("b19")))
		if rest[0].Key != all[i+1].Key || len(rest) != len(all)-i-1 {
			t.Errorf("after change %d of %d: %d changes from %v, want %d from %v", i, len(all), len(rest), rest[0].Key, len(all)-i-1, all[i+1].Key)
		}
	}
}

func testWatchWakes(t *testing.T, s metastore.Store) {
	watched(t, s)
	start, err := s.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, s, start, "w")
	for i := range 50 {
		// The watcher has seen all and waits, or is about to: the next commit must wake it.
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: "w", Key: k(fmt.Sprint(i)), Value: []byte(`{}`)}})
		}()
		w.until(key(k(fmt.Sprint(i))))
		<-done
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var last error
		for _, err := range s.Watch(ctx, start, "w") {
			last = err
		}
		ended <- last
	}()
	cancel()
	wantErr(t, "Watch with its context ended", <-ended, context.Canceled)
}

// testWatchConcurrent is the one that matters: with writers at work and pages being read all the time, the last change of every key must
// be noticed, and a watcher who applies notices in their order ends with the store's own state.
func testWatchConcurrent(t *testing.T, s metastore.Store) {
	watched(t, s)
	start, err := s.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const writers, rounds, keys = 8, 40, 10
	state := map[metastore.Key]string{}
	var got sync.WaitGroup
	got.Go(func() {
		ctx, cancel := context.WithTimeout(t.Context(), watchTimeout)
		defer cancel()
		for c, err := range s.Watch(ctx, start, "w") {
			if err != nil {
				t.Errorf("Watch: %v", err)
				return
			}
			delete(state, c.Key)
			if c.Record != nil {
				state[c.Key] = c.Record.Etag
			}
			if c.Key.Name == "end" {
				return
			}
		}
	})
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			for i := range rounds {
				key := metastore.Key{Partition: fmt.Sprint("part", w%3), Name: strconv.Itoa((i*7 + w) % keys)}
				var op metastore.Op = metastore.Put{Bucket: "w", Key: key, Value: []byte(`{}`)}
				if i%5 == 4 {
					op = metastore.Delete{Bucket: "w", Key: key}
				}
				if _, err := s.Commit(t.Context(), metastore.Batch{op}); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	work.Wait()
	// The end must come last on every shard: one key in each partition, and the watcher stops at that of the last one to be seen.
	put(t, s, "w", metastore.Key{Partition: "part0", Name: "end"}, `{}`)
	got.Wait()
	delete(state, metastore.Key{Partition: "part0", Name: "end"})
	for w := range 3 {
		if !s.Colocated("part0", fmt.Sprint("part", w)) {
			continue // it may still be on its way from another shard
		}
		for i := range keys {
			key := metastore.Key{Partition: fmt.Sprint("part", w), Name: strconv.Itoa(i)}
			r, err := s.Get(t.Context(), "w", key)
			if err != nil && !errors.Is(err, metastore.ErrNotFound) {
				t.Fatal(err)
			}
			if state[key] != r.Etag {
				t.Errorf("%v: the watcher has etag %q, the store %q", key, state[key], r.Etag)
			}
		}
	}
}

func testConcurrentSwaps(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a"})
	put(t, s, "a", k("n"), `{"n":0}`)
	const workers, each = 8, 25
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			table := metastore.NewTable[struct {
				N int `json:"n"`
			}](s, "a")
			for done := 0; done < each; {
				item, err := table.Get(t.Context(), k("n"))
				if err != nil {
					t.Error(err)
					return
				}
				item.Value.N++
				_, err = table.Put(t.Context(), k("n"), item.Value, metastore.EtagIs(item.Etag))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, metastore.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	wantValue(t, s, "a", k("n"), fmt.Sprintf(`{"n":%d}`, workers*each))
}

func testConcurrentCounters(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a"})
	const workers, each = 8, 40
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			for i := range each {
				_, err := s.Commit(t.Context(), metastore.Batch{
					metastore.Put{Bucket: "a", Key: k(fmt.Sprint(w, "-", i)), Value: []byte(`{}`), If: metastore.Absent()},
					metastore.Add{Bucket: "a", Key: k("count"), Delta: 1},
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	wantCounter(t, s, "a", k("count"), workers*each)
}

// testConcurrentEmptyCheck is the removal of a directory against the creation of an entry in it: whatever the interleaving,
// a removed parent never keeps a child.
func testConcurrentEmptyCheck(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a"})
	for round := range 40 {
		dir := k(fmt.Sprint("dir", round))
		put(t, s, "a", dir, `{}`)
		var work sync.WaitGroup
		var created, removed error
		work.Go(func() {
			_, created = s.Commit(t.Context(), metastore.Batch{
				metastore.Check{Bucket: "a", Key: dir, If: metastore.Present()},
				metastore.Put{Bucket: "a", Key: k(dir.Name + "/child"), Value: []byte(`{}`), If: metastore.Absent()},
				metastore.Add{Bucket: "a", Key: dir, Delta: 1},
			})
		})
		work.Go(func() {
			_, removed = s.Commit(t.Context(), metastore.Batch{
				metastore.CheckCounter{Bucket: "a", Key: dir, Min: 0, Max: 0},
				metastore.Delete{Bucket: "a", Key: dir, If: metastore.Present()},
			})
		})
		work.Wait()
		if (created == nil) == (removed == nil) {
			t.Fatalf("round %d: create = %v, remove = %v: exactly one can win", round, created, removed)
		}
	}
}

func testCancelled(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a", Watched: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "a", k("1"))
	wantErr(t, "Get", err, context.Canceled)
	_, err = s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "a", Key: k("1"), Value: []byte(`{}`)}})
	wantErr(t, "Commit", err, context.Canceled)
	_, err = find(ctx, s, "a", metastore.Query{Partition: metastore.In("p")})
	wantErr(t, "Find", err, context.Canceled)
	_, err = s.Counter(ctx, "a", k("1"))
	wantErr(t, "Counter", err, context.Canceled)
	wantErr(t, "Define", s.Define(ctx, metastore.Bucket{Name: "b"}), context.Canceled)
	wantValue(t, s, "a", k("1"), "")
}

func testClose(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	define(t, s, metastore.Bucket{Name: "a", Watched: true})
	ended := make(chan error, 1)
	started := make(chan struct{})
	put(t, s, "a", k("1"), `{}`)
	go func() {
		var last error
		for _, err := range s.Watch(ctx, "", "a") {
			if last = err; err == nil {
				close(started)
			}
		}
		ended <- last
	}()
	<-started
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	wantErr(t, "Watch under way", <-ended, metastore.ErrClosed)
	_, err := s.Get(ctx, "a", k("1"))
	wantErr(t, "Get", err, metastore.ErrClosed)
	_, err = s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "a", Key: k("1"), Value: []byte(`{}`)}})
	wantErr(t, "Commit", err, metastore.ErrClosed)
	_, err = find(ctx, s, "a", metastore.Query{Partition: metastore.In("p")})
	wantErr(t, "Find", err, metastore.ErrClosed)
	_, err = s.Counter(ctx, "a", k("1"))
	wantErr(t, "Counter", err, metastore.ErrClosed)
	_, err = s.Position(ctx)
	wantErr(t, "Position", err, metastore.ErrClosed)
	_, err = s.Buckets(ctx)
	wantErr(t, "Buckets", err, metastore.ErrClosed)
	wantErr(t, "Define", s.Define(ctx, metastore.Bucket{Name: "b"}), metastore.ErrClosed)
	wantErr(t, "Drop", s.Drop(ctx, "a"), metastore.ErrClosed)
}
