package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// world is a registry, a fleet that follows it, and nodes in memory that report.
type world struct {
	t        *testing.T
	store    metastore.Store
	registry *Registry
	fleet    *Fleet

	mu     sync.Mutex
	nodes  map[string]*storagetest.MemNode
	dials  map[string]int
	closed map[string]int
}

func newWorld(t *testing.T, nodes int, edit ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, store: metastoretest.NewMemory(), nodes: map[string]*storagetest.MemNode{}, dials: map[string]int{}, closed: map[string]int{}}
	t.Cleanup(func() { w.store.Close() })
	var err error
	if w.registry, err = NewRegistry(t.Context(), w.store); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: w.store, Dial: w.dial, Rand: rand.New(rand.NewPCG(1, 1))}
	for _, e := range edit {
		e(&cfg)
	}
	if w.fleet, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		w.add(fmt.Sprintf("%d.stor", i+1))
	}
	return w
}

// run lets the fleet follow the records; the function that it returns ends that.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.fleet.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("Run: %v", err)
		}
	}
}

func (w *world) add(id string) {
	w.t.Helper()
	w.mu.Lock()
	w.nodes[id] = storagetest.NewMemNode(storagetest.MemConfig{})
	w.mu.Unlock()
	w.report(id)
}

func (w *world) report(id string) {
	w.t.Helper()
	if err := w.reporter(id).RunOnce(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) reporter(id string) *Reporter {
	return &Reporter{Node: w.nodes[id], Registrar: w.registry, Identity: Report{Node: id, Datacenter: "dc", Address: "mem:" + id}}
}

func (w *world) dial(r Report) (storage.Node, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials[r.Node]++
	n := w.nodes[r.Node]
	if n == nil {
		return nil, errors.New("no route")
	}
	return connection{n, func() { w.mu.Lock(); defer w.mu.Unlock(); w.closed[r.Node]++ }}, nil
}

type connection struct {
	storage.Node
	close func()
}

func (c connection) Close() error { c.close(); return nil }

func (w *world) chosen(copies int) ([]string, error) {
	tuples, err := w.fleet.Choose(picker.Request{Size: 1, Copies: copies})
	var ids []string
	for _, t := range tuples {
		for _, s := range t {
			ids = append(ids, s.Node)
		}
	}
	slices.Sort(ids)
	return ids, err
}

func TestRecordShape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		r, err := w.store.Get(t.Context(), "manta_storage", metastore.Key{Name: "1.stor"})
		if err != nil {
			t.Fatal(err)
		}
		// The bubble's clock begins at midnight UTC of 2000-01-01.
		want := `{"availableMB":1024,"percentUsed":0,"filesystem":"/manta","statvfs":{"bsize":4096,"frsize":4096,"blocks":262144,"bfree":262144,"bavail":262144},` +
			`"timestamp":946684800000,"manta_storage_id":"1.stor","datacenter":"dc","address":"mem:1.stor","hostname":"1.stor",` +
			`"usage":{"Capacity":1073741824,"Available":1073741824,"Objects":0,"Bytes":0,"Tombstones":0,"Damaged":0,"OldestUnverified":"0001-01-01T00:00:00Z","ReadOnly":""}}`
		if diff := cmp.Diff(want, string(r.Value)); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		for _, q := range []metastore.Filter{metastore.Eq{Field: "manta_storage_id", Value: "1.stor"}, metastore.Le{Field: "percentUsed", Value: 90}} {
			n := 0
			for _, err := range w.store.Find(t.Context(), "manta_storage", metastore.Query{Filter: q}) {
				if n++; err != nil {
					t.Fatal(err)
				}
			}
			if n != 1 {
				t.Errorf("%v finds %d records", q, n)
			}
		}
	})
}

func TestFleetFollowsRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		if _, err := w.fleet.Node("1.stor"); !errors.Is(err, storage.ErrUnavailable) || w.fleet.Standing("1.stor") != durable.Down {
			t.Errorf("before Run: %v, %v", err, w.fleet.Standing("1.stor"))
		}
		defer w.run()()
		select {
		case <-w.fleet.Ready():
		default:
			t.Fatal("not ready")
		}
		check := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			got, err := w.chosen(1)
			if !slices.Equal(got, want) || (len(want) == 0) != errors.Is(err, storage.ErrNoSpace) {
				t.Errorf("%s: chosen %v, %v, want %v", what, got, err, want)
			}
		}
		check("two nodes", "1.stor", "2.stor")
		w.add("3.stor")
		check("a third reports", "1.stor", "2.stor", "3.stor")

		w.nodes["3.stor"].SetReadOnly("disk errors")
		w.report("3.stor")
		check("it is read-only", "1.stor", "2.stor")
		verdicts, err := w.fleet.Explain(picker.Request{Size: 1, Copies: 1})
		if err != nil || len(verdicts) != 3 || verdicts[2].Rule != picker.ReadOnly || verdicts[2].Detail != "disk errors" {
			t.Errorf("Explain: %+v, %v", verdicts, err)
		}

		for _, state := range []State{Draining, Lost} {
			if err := w.registry.SetState(t.Context(), "2.stor", state, "test"); err != nil {
				t.Fatal(err)
			}
			check(string(state), "1.stor")
			if want := map[State]durable.Standing{Draining: durable.Up, Lost: durable.Lost}[state]; w.fleet.Standing("2.stor") != want {
				t.Errorf("%s: standing %v", state, w.fleet.Standing("2.stor"))
			}
			if _, err := w.fleet.Node("2.stor"); err != nil {
				t.Errorf("%s: %v", state, err)
			}
		}
		if err := w.registry.SetState(t.Context(), "2.stor", Running, ""); err != nil {
			t.Fatal(err)
		}
		check("running again", "1.stor", "2.stor")

		time.Sleep(61 * time.Minute)
		w.report("1.stor")
		check("only one has reported within the hour", "1.stor")
	})
}

func TestWaitReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		defer w.run()()
		time.Sleep(2 * time.Hour)
		if _, err := w.chosen(1); err == nil {
			t.Error("a node that was silent for hours is chosen")
		}
		since := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.fleet.WaitReport(ctx, "1.stor", since); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no report: %v", err)
		}
		time.AfterFunc(time.Second, func() { w.report("1.stor") })
		if err := w.fleet.WaitReport(t.Context(), "1.stor", since); err != nil {
			t.Error(err)
		}
		if got, err := w.chosen(1); err != nil || len(got) != 1 {
			t.Errorf("at once afterwards: %v, %v", got, err)
		}
	})
}

func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.run()()
		if _, err := w.fleet.Node("2.stor"); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if err := w.registry.Remove(ctx, "2.stor", ""); !errors.Is(err, ErrState) {
			t.Errorf("remove a running node: %v", err)
		}
		if err := w.registry.SetState(ctx, "2.stor", Lost, "burnt"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.registry.Remove(ctx, "2.stor", "burnt"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if w.fleet.Standing("2.stor") != durable.Lost || len(w.fleet.Nodes()) != 1 || w.closed["2.stor"] != 1 {
			t.Errorf("standing %v, nodes %v, closed %d times", w.fleet.Standing("2.stor"), w.fleet.Nodes(), w.closed["2.stor"])
		}
		if _, err := w.fleet.Node("2.stor"); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Node: %v", err)
		}
		if err := w.reporter("2.stor").Run(ctx); !errors.Is(err, ErrRemoved) {
			t.Errorf("Reporter.Run: %v", err)
		}
		if err := w.registry.SetState(ctx, "2.stor", Running, ""); !errors.Is(err, ErrState) {
			t.Errorf("bring it back: %v", err)
		}
		nodes, err := w.registry.Nodes(ctx)
		if err != nil || len(nodes) != 2 || nodes[1].Member.State != Removed || !nodes[1].Reported.IsZero() {
			t.Errorf("Nodes: %+v, %v", nodes, err)
		}
	})
}

func TestDownAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		defer w.run()()
		down := func() bool { return w.fleet.Standing("1.stor") == durable.Down }
		dead := fmt.Errorf("%w: connection refused", storage.ErrUnavailable)

		w.nodes["1.stor"].Kill()
		w.fleet.Observe("1.stor", dead)
		synctest.Wait()
		if !down() {
			t.Fatal("unreachable, but not down")
		}
		if got, _ := w.chosen(1); !slices.Equal(got, []string{"2.stor"}) {
			t.Errorf("chosen %v", got)
		}
		_, err := w.chosen(2)
		if e, ok := errors.AsType[*picker.NotEnoughSpaceError](err); !ok || !e.Unreachable {
			t.Errorf("two copies: %v", err)
		}
		if s := w.fleet.Nodes()[0]; s.Down != dead.Error() || s.Failures != 1 || s.DownSince.IsZero() {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Minute)
		if !down() {
			t.Fatal("up although it is dead")
		}
		w.nodes["1.stor"].Revive()
		time.Sleep(25 * time.Second) // the longest delay, with its random part
		if down() {
			t.Fatal("not found to be back")
		}

		// A read that works brings it back before the probe does.
		w.fleet.Observe("1.stor", dead)
		w.fleet.Observe("1.stor", dead)
		if !down() {
			t.Error("up after two calls that did not reach it")
		}
		w.fleet.Observe("1.stor", nil)
		if down() {
			t.Error("down although it answers")
		}
		time.Sleep(time.Minute)

		// A busy node turns a call away now and then.
		for range 10 {
			w.fleet.Observe("1.stor", dead)
			synctest.Wait()
			if down() {
				t.Error("down after a single failure, although it answers the probe")
			}
			w.fleet.Observe("1.stor", nil)
		}
		time.Sleep(10 * time.Minute)

		// Faults of its own are tolerated for a while.
		broken := errors.New("I/O error")
		for i := range tolerated {
			if down() {
				t.Errorf("down after %d faults", i)
			}
			w.fleet.Observe("1.stor", broken)
		}
		if !down() {
			t.Error("up after many faults in a row")
		}
		time.Sleep(time.Minute)
		for range 5 {
			w.fleet.Observe("1.stor", broken)
			w.fleet.Observe("1.stor", nil)
		}
		if down() {
			t.Error("down after faults that were not in a row")
		}
		if s := w.fleet.Nodes()[0]; s.Failures < 5 {
			t.Errorf("%d failures remembered", s.Failures)
		}
		time.Sleep(10 * time.Minute)
		if s := w.fleet.Nodes()[0]; s.Failures != 0 {
			t.Errorf("%d failures remembered after a while", s.Failures)
		}
		w.fleet.Observe("unknown.stor", dead)
	})
}

func TestDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		stop := w.run()
		for range 3 {
			if _, err := w.fleet.Node("1.stor"); err != nil {
				t.Fatal(err)
			}
			w.report("1.stor")
			synctest.Wait()
		}
		if w.dials["1.stor"] != 1 || w.closed["1.stor"] != 0 {
			t.Errorf("dialled %d times, closed %d times", w.dials["1.stor"], w.closed["1.stor"])
		}
		r := w.reporter("1.stor")
		r.Identity.Address = "mem:elsewhere"
		if err := r.RunOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := w.fleet.Node("1.stor"); err != nil || w.dials["1.stor"] != 2 || w.closed["1.stor"] != 1 {
			t.Errorf("%v: dialled %d times, closed %d times", err, w.dials["1.stor"], w.closed["1.stor"])
		}
		w.add("2.stor")
		w.mu.Lock()
		delete(w.nodes, "2.stor")
		w.mu.Unlock()
		synctest.Wait()
		if _, err := w.fleet.Node("2.stor"); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("dial fails: %v", err)
		}
		stop()
		if w.closed["1.stor"] != 2 {
			t.Errorf("closed %d times at the end", w.closed["1.stor"])
		}
	})
}

// TestStoreOutage has the watch fail: the fleet must keep what it knows and catch up, also with what went away meanwhile.
func TestStoreOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flaky *flakyStore
		w := newWorld(t, 3, func(c *Config) {
			flaky = &flakyStore{Store: c.Store}
			flaky.cut = make(chan struct{})
			c.Store = flaky
		})
		defer w.run()()
		flaky.fail()
		synctest.Wait()
		if got, err := w.chosen(1); err != nil || len(got) != 3 {
			t.Errorf("during the outage: %v, %v", got, err)
		}
		if err := w.registry.SetState(t.Context(), "3.stor", Lost, ""); err != nil {
			t.Fatal(err)
		}
		if err := w.registry.Remove(t.Context(), "3.stor", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(w.fleet.Nodes()) != 3 {
			t.Errorf("heard of a change without a watch")
		}
		flaky.heal()
		time.Sleep(time.Minute)
		if got, err := w.chosen(1); err != nil || !slices.Equal(got, []string{"1.stor", "2.stor"}) {
			t.Errorf("after the outage: %v, %v", got, err)
		}
	})
}

// flakyStore can lose its watches and refuse new ones.
type flakyStore struct {
	metastore.Store
	mu     sync.Mutex
	broken bool
	cut    chan struct{}
}

func (s *flakyStore) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
	close(s.cut)
}

func (s *flakyStore) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.cut = false, make(chan struct{})
}

func (s *flakyStore) Position(ctx context.Context) (metastore.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return "", metastore.ErrUnavailable
	}
	return s.Store.Position(ctx)
}

func (s *flakyStore) Watch(ctx context.Context, after metastore.Position, buckets ...string) iter.Seq2[metastore.Change, error] {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	go func() {
		select {
		case <-cut:
		case <-ctx.Done():
		}
		cancel()
	}()
	return func(yield func(metastore.Change, error) bool) {
		defer cancel()
		s.Store.Watch(ctx, after, buckets...)(yield)
	}
}

func TestEndToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.run()()
		store, err := durable.New(durable.Config{Nodes: w.fleet})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		put := func() (durable.Location, error) {
			u, err := store.Create(t.Context(), durable.CreateRequest{ID: storagetest.NewID(), Size: 1 << 20, Copies: 2})
			if err != nil {
				return durable.Location{}, err
			}
			defer u.Cancel()
			if _, err := u.Write(make([]byte, 1<<20)); err != nil {
				return durable.Location{}, err
			}
			s, err := u.Commit(t.Context())
			return durable.Location{ID: u.ID(), Size: s.Size, MD5: s.MD5, Sharks: s.Sharks}, err
		}
		loc, err := put()
		if err != nil {
			t.Fatal(err)
		}
		w.nodes[loc.Sharks[0].Node].Kill()
		for range 4 {
			r, err := store.Open(t.Context(), loc, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, r); n != loc.Size || err != nil {
				t.Errorf("read %d bytes, %v", n, err)
			}
			r.Close()
			if _, err := put(); err != nil {
				t.Error(err)
			}
		}
		if err := w.registry.SetState(t.Context(), loc.Sharks[0].Node, Lost, "dead"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		moved, err := store.Repair(t.Context(), loc)
		if err != nil || slices.Contains(moved.Sharks, loc.Sharks[0]) {
			t.Errorf("Repair: %v, %v", moved.Sharks, err)
		}
	})
}

func TestConfig(t *testing.T) {
	dial := func(Report) (storage.Node, error) { return nil, nil }
	store := metastoretest.NewMemory()
	defer store.Close()
	for _, cfg := range []Config{{}, {Store: store}, {Dial: dial}, {Store: store, Dial: dial, ProbeMin: -1},
		{Store: store, Dial: dial, Policy: picker.Config{Lag: -1}}} {
		if _, err := New(cfg); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("New(%+v): %v", cfg, err)
		}
	}
}
