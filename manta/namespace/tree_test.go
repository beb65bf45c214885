package namespace_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/metastore/shard"
)

const owner = "11111111-1111-4111-8111-111111111111"

var stor = manta.Key("/" + owner + "/stor")

// errCrash is what a store says from the moment on at which the process is taken to have died.
var errCrash = errors.New("crashed")

// sharded is a store on which every partition is a shard of its own, and that can stop working after so many commits.
type sharded struct {
	metastore.Store

	mu   sync.Mutex
	left int // commits until the crash; negative for none
}

func newSharded() *sharded { return &sharded{Store: metastoretest.NewMemory(), left: -1} }

func (s *sharded) Colocated(partitions ...string) bool {
	return len(slices.Compact(slices.Sorted(slices.Values(partitions)))) <= 1
}

func (s *sharded) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	var partitions []string
	for _, op := range b {
		switch op := op.(type) {
		case metastore.Put:
			partitions = append(partitions, op.Key.Partition)
		case metastore.Delete:
			partitions = append(partitions, op.Key.Partition)
		case metastore.Check:
			partitions = append(partitions, op.Key.Partition)
		case metastore.Add:
			partitions = append(partitions, op.Key.Partition)
		case metastore.CheckCounter:
			partitions = append(partitions, op.Key.Partition)
		}
	}
	if !s.Colocated(partitions...) {
		return metastore.Result{}, metastore.ErrCrossShard
	}
	s.mu.Lock()
	crashed := s.left == 0
	if s.left > 0 {
		s.left--
	}
	s.mu.Unlock()
	if crashed {
		return metastore.Result{}, errCrash
	}
	return s.Store.Commit(ctx, b)
}

func (s *sharded) crashAfter(n int) {
	s.mu.Lock()
	s.left = n
	s.mu.Unlock()
}

func newNamespace(t testing.TB, store metastore.Store, cfg namespace.Config) *namespace.Namespace {
	t.Helper()
	cfg.Store = store
	ns, err := namespace.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Define(context.Background()); err != nil {
		t.Fatal(err)
	}
	return ns
}

// stores are the kinds of store that every test of behaviour runs on.
var stores = map[string]func(testing.TB) metastore.Store{
	"one shard":   func(testing.TB) metastore.Store { return metastoretest.NewMemory() },
	"many shards": func(testing.TB) metastore.Store { return newSharded() },
	"pebble":      openPebble,
	"ring":        openRing,
	"parting":     func(testing.TB) metastore.Store { return parting{newSharded()} },
}

// openRing opens a ring of three stores.
func openRing(t testing.TB) metastore.Store {
	t.Helper()
	var shards []shard.Shard
	for _, name := range []string{"1", "2", "3"} {
		shards = append(shards, shard.Shard{Name: name, Store: metastoretest.NewMemory()})
	}
	s, err := shard.Open(context.Background(), shards, shard.Config{VirtualNodes: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// parting is a store that always says that partitions are together and never finds them so: as when one moves at that moment.
type parting struct{ *sharded }

func (parting) Colocated(...string) bool { return true }

// openPebble opens an embedded store on a file system in memory.
func openPebble(t testing.TB) metastore.Store {
	t.Helper()
	s, err := pebble.Open("db", pebble.Config{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func object(size int64) manta.Entry {
	return manta.Entry{
		ObjectID: uuid.NewString(), Size: size, MD5: "CY9rzUYh03PK3k6DJie09g==", ContentType: "text/plain",
		Sharks: []storage.Shark{{Datacenter: "dc", Node: "1.stor"}, {Datacenter: "dc", Node: "2.stor"}},
	}
}

// A truth is what the tree ought to be: a map from keys to what stands there.
type truth struct {
	entries map[manta.Key]manta.Entry
	deleted map[string]int // by object id
}

func (tr *truth) isDir(k manta.Key) bool {
	return k == stor || tr.entries[k].Type == manta.TypeDirectory
}

func (tr *truth) children(dir manta.Key) (names []string) {
	for k := range tr.entries {
		if k.Dir() == dir {
			names = append(names, k.Name())
		}
	}
	slices.Sort(names)
	return names
}

// parentError is what a change below a key's directory must say of it.
func (tr *truth) parentError(k manta.Key) error {
	dir := k.Dir()
	switch {
	case tr.isDir(dir):
		return nil
	case tr.entries[dir].Type == manta.TypeObject:
		return namespace.ErrParentNotDirectory
	}
	return namespace.ErrNoParent
}

func (tr *truth) drop(k manta.Key) {
	if e, ok := tr.entries[k]; ok && e.Type == manta.TypeObject && len(e.Sharks) > 0 {
		tr.deleted[e.ObjectID]++
	}
	delete(tr.entries, k)
}

// TestTree compares random histories with the same in a map.
func TestTree(t *testing.T) {
	seeds := 20
	if testenv.Long() {
		seeds = 2000
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds {
				history(t, open(t), uint64(seed))
			}
		})
	}
}

func history(t *testing.T, store metastore.Store, seed uint64) {
	t.Helper()
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(seed, 1))
	now := time.UnixMilli(1_700_000_000_000).UTC()
	ns := newNamespace(t, store, namespace.Config{MaxEntries: 6, Now: func() time.Time { now = now.Add(time.Millisecond); return now }})
	tr := &truth{entries: map[manta.Key]manta.Entry{}, deleted: map[string]int{}}
	names := []string{"a", "b", "ü b", "c%", "zz", "d", "e", "f"}
	pick := func() manta.Key {
		k := stor
		for range 1 + rng.IntN(3) {
			k = k.Join(names[rng.IntN(len(names))])
		}
		return k
	}
	for step := range 150 {
		k := pick()
		var want, got error
		what := ""
		switch rng.IntN(8) {
		case 0, 1, 2:
			what = "put"
			e := object(5)
			if rng.IntN(4) == 0 {
				e.Size, e.Sharks, e.MD5 = 0, nil, manta.ZeroMD5
			}
			if rng.IntN(3) == 0 {
				e.Headers = map[string]string{"m-a": fmt.Sprint("v\"\\ü", step)}
				e.Roles = []string{uuid.NewString()}
				e.Disposition = `attachment; filename="x"`
			}
			var stored *manta.Entry
			var seen *namespace.State
			if rng.IntN(2) == 0 {
				seen, _ = ns.Look(ctx, k, rng.IntN(2) == 0)
			}
			stored, _, got = ns.Put(ctx, k, e, namespace.Options{Seen: seen})
			switch want = tr.parentError(k); {
			case want != nil:
			case tr.isDir(k):
				want = namespace.ErrIsDirectory
			case tr.entries[k].Type == "" && len(tr.children(k.Dir())) >= 6:
				want = namespace.ErrFull
			default:
				tr.drop(k)
				if stored != nil {
					tr.entries[k] = *stored
				}
			}
		case 3, 4:
			what = "mkdir"
			e := manta.Entry{}
			if rng.IntN(2) == 0 {
				e.Headers = map[string]string{"m-dir": "x"}
			}
			var stored *manta.Entry
			stored, _, got = ns.PutDirectory(ctx, k, e, namespace.Options{})
			if want = tr.parentError(k); want == nil {
				tr.drop(k)
				if stored != nil {
					tr.entries[k] = *stored
				}
			}
		case 5, 6:
			what = "delete"
			_, got = ns.Delete(ctx, k, namespace.Options{})
			switch e, ok := tr.entries[k]; {
			case !ok:
				want = namespace.ErrNotFound
			case e.Type == manta.TypeDirectory && len(tr.children(k)) > 0:
				want = namespace.ErrNotEmpty
			default:
				tr.drop(k)
			}
		case 7:
			what = "metadata"
			var stored *manta.Entry
			stored, got = ns.SetMetadata(ctx, k, namespace.Metadata{ContentType: "x/y", Headers: map[string]string{"m-new": "1"}}, namespace.Options{})
			if _, ok := tr.entries[k]; !ok {
				want = namespace.ErrNotFound
			} else if stored != nil {
				tr.entries[k] = *stored
			}
		}
		if !errors.Is(got, want) || (got == nil) != (want == nil) {
			t.Fatalf("seed %d step %d: %s %s: got %v, want %v", seed, step, what, k, got, want)
		}
	}
	compare(t, ns, tr, seed)
}

// compare holds the whole tree, its counters and its delete log against the truth.
func compare(t *testing.T, ns *namespace.Namespace, tr *truth, seed uint64) {
	t.Helper()
	ctx := t.Context()
	dirs := []manta.Key{stor}
	for k, e := range tr.entries {
		st, err := ns.Look(ctx, k, false)
		if err != nil || st.Entry == nil {
			t.Fatalf("seed %d: look %s: %v, %v", seed, k, st, err)
		}
		if diff := cmp.Diff(e, *st.Entry); diff != "" {
			t.Fatalf("seed %d: %s (-want +got):\n%s", seed, k, diff)
		}
		if e.Type == manta.TypeDirectory {
			dirs = append(dirs, k)
		}
	}
	for _, dir := range dirs {
		want := tr.children(dir)
		if got := list(t, ns, dir, namespace.ListOptions{}); !slices.Equal(got, want) {
			t.Fatalf("seed %d: list %s = %q, want %q", seed, dir, got, want)
		}
		if n, err := ns.Count(ctx, dir); err != nil || int(n) != len(want) {
			t.Fatalf("seed %d: count %s = %d, %v, want %d", seed, dir, n, err, len(want))
		}
	}
	deleted := map[string]int{}
	for d, err := range ns.Deletions(ctx, time.Now().Add(time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		deleted[d.ObjectID]++
	}
	if !maps.Equal(deleted, tr.deleted) {
		t.Fatalf("seed %d: delete log has %d objects, want %d", seed, len(deleted), len(tr.deleted))
	}
}

func list(t testing.TB, ns *namespace.Namespace, dir manta.Key, o namespace.ListOptions) (names []string) {
	t.Helper()
	for e, err := range ns.List(context.Background(), dir, o) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Key.Name())
	}
	return names
}

// TestRaces lets writers make, fill and remove one directory at the same time. No put that was acknowledged may end up outside the tree, and counters must
// be right.
func TestRaces(t *testing.T) {
	rounds := 30
	if testenv.Long() {
		rounds = 3000
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			for range rounds {
				race(t, newNamespace(t, open(t), namespace.Config{}))
			}
		})
	}
}

func race(t *testing.T, ns *namespace.Namespace) {
	t.Helper()
	ctx := t.Context()
	dir := stor.Join("d")
	var mu sync.Mutex
	stored := map[manta.Key]string{}
	var wg sync.WaitGroup
	legal := func(err error) {
		for _, ok := range []error{namespace.ErrNoParent, namespace.ErrNotFound, namespace.ErrNotEmpty, namespace.ErrConcurrent} {
			if errors.Is(err, ok) {
				return
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	for i := range 4 {
		key := dir.Join(fmt.Sprint("f", i))
		wg.Go(func() {
			for j := range 10 {
				e, _, err := ns.Put(ctx, key, object(int64(j)), namespace.Options{})
				legal(err)
				if err == nil {
					mu.Lock()
					stored[key] = e.ObjectID
					mu.Unlock()
				}
				if j%3 == 0 {
					_, err := ns.Delete(ctx, key, namespace.Options{})
					legal(err)
					if err == nil {
						mu.Lock()
						delete(stored, key)
						mu.Unlock()
					}
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 15 {
				_, _, err := ns.PutDirectory(ctx, dir, manta.Entry{}, namespace.Options{})
				legal(err)
			}
		})
		wg.Go(func() {
			for range 15 {
				_, err := ns.Delete(ctx, dir, namespace.Options{})
				legal(err)
			}
		})
	}
	wg.Wait()
	for key, id := range stored {
		st, err := ns.Look(ctx, key, true)
		if err != nil || st.Entry == nil || st.Entry.ObjectID != id || st.Parent == nil {
			t.Fatalf("%s was acknowledged and is %+v, %v", key, st, err)
		}
	}
	if len(stored) > 0 {
		if st, err := ns.Look(ctx, dir, false); err != nil || !st.Entry.IsDirectory() {
			t.Fatalf("directory of acknowledged entries is %+v, %v", st, err)
		}
	}
	names := list(t, ns, dir, namespace.ListOptions{})
	if n, _ := ns.Count(ctx, dir); int(n) != len(stored) || len(names) != len(stored) {
		t.Fatalf("directory counts %d and lists %q, want %d", n, names, len(stored))
	}
	tops := list(t, ns, stor, namespace.ListOptions{})
	if n, _ := ns.Count(ctx, stor); int(n) != len(tops) {
		t.Fatalf("parent counts %d and lists %q", n, tops)
	}
}

// TestCrowd lets many writers put one object: every one of them must get through.
func TestCrowd(t *testing.T) {
	ns := newNamespace(t, metastoretest.NewMemory(), namespace.Config{})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 10 {
				if _, _, err := ns.Put(t.Context(), stor.Join("one"), object(1), namespace.Options{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for _, err := range ns.Deletions(t.Context(), time.Now().Add(time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 319 {
		t.Errorf("%d objects were replaced, want 319", n)
	}
}

func TestExclusive(t *testing.T) {
	ctx := t.Context()
	ns := newNamespace(t, metastoretest.NewMemory(), namespace.Config{})
	key := stor.Join("x")
	seen, err := ns.Look(ctx, key, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ns.Put(ctx, key, object(1), namespace.Options{}); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"put": func() error {
			_, _, err := ns.Put(ctx, key, object(2), namespace.Options{Seen: seen, Exclusive: true})
			return err
		},
		"mkdir": func() error {
			_, _, err := ns.PutDirectory(ctx, key, manta.Entry{}, namespace.Options{Seen: seen, Exclusive: true})
			return err
		},
	} {
		if err := do(); !errors.Is(err, namespace.ErrConcurrent) {
			t.Errorf("%s over another's change: %v", what, err)
		}
	}
	if _, _, err := ns.Put(ctx, key, object(2), namespace.Options{Seen: seen}); err != nil {
		t.Errorf("put that is not exclusive: %v", err)
	}
}

func TestRoots(t *testing.T) {
	ctx := t.Context()
	ns := newNamespace(t, metastoretest.NewMemory(), namespace.Config{})
	if _, _, err := ns.Put(ctx, stor, object(1), namespace.Options{}); !errors.Is(err, namespace.ErrRoot) {
		t.Errorf("put over a root: %v", err)
	}
	if _, err := ns.Delete(ctx, stor, namespace.Options{}); !errors.Is(err, namespace.ErrRoot) {
		t.Errorf("delete of a root: %v", err)
	}
	if _, _, err := ns.PutDirectory(ctx, stor, manta.Entry{Headers: map[string]string{"m-a": "b"}, Roles: []string{"r"}}, namespace.Options{}); err != nil {
		t.Errorf("mkdir of a root: %v", err)
	}
	st, err := ns.Look(ctx, stor, false)
	if err != nil || st.Entry.Headers["m-a"] != "b" || st.Entry.Roles != nil {
		t.Errorf("root is %+v, %v", st.Entry, err)
	}
	if _, _, err := ns.Put(ctx, manta.Key("/"+owner+"/elsewhere/x"), object(1), namespace.Options{}); !errors.Is(err, namespace.ErrNoParent) {
		t.Errorf("put outside the tops: %v", err)
	}
	if got := list(t, ns, stor, namespace.ListOptions{}); strings.Join(got, "") != "" {
		t.Errorf("a root lists itself: %q", got)
	}
}
