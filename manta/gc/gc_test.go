package gc_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/gc"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

const owner = "11111111-1111-4111-8111-111111111111"

var stor = manta.Key("/" + owner + "/stor")

type world struct {
	t       *testing.T
	ns      *namespace.Namespace
	storage *durable.Store
	nodes   []*storagetest.MemNode
	uploads *mpu.Service
	gc      *gc.Collector
	now     time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.UnixMilli(1_700_000_000_000)}
	clock := func() time.Time { return w.now }
	store := metastoretest.NewMemory()
	fleet := map[storage.Shark]storage.Node{}
	for _, name := range []string{"1", "2"} {
		n := storagetest.NewMemNode(storagetest.MemConfig{})
		w.nodes = append(w.nodes, n)
		fleet[storage.Shark{Datacenter: "dc", Node: name}] = n
	}
	static, err := durable.OpenStatic(t.Context(), picker.Config{StreamingSize: 1}, fleet)
	w.must(err)
	w.storage, err = durable.New(durable.Config{Nodes: static})
	w.must(err)
	t.Cleanup(func() { w.storage.Close() })
	w.ns, err = namespace.New(namespace.Config{Store: store, Now: clock})
	w.must(err)
	w.must(w.ns.Define(t.Context()))
	w.uploads, err = mpu.New(mpu.Config{Namespace: w.ns, Store: store, Storage: w.storage, Nodes: static, Now: clock})
	w.must(err)
	w.must(w.uploads.Define(t.Context()))
	w.gc, err = gc.New(gc.Config{Namespace: w.ns, Storage: w.storage, Uploads: w.uploads, Grace: time.Hour, Expiry: 24 * time.Hour, Now: clock})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// put stores bytes and their entry.
func (w *world) put(key manta.Key, body string) manta.Entry {
	w.t.Helper()
	id := storage.ObjectID{Owner: uuid.MustParse(owner), Object: uuid.New()}
	up, err := w.storage.Create(w.t.Context(), durable.CreateRequest{ID: id, Size: int64(len(body)), Copies: 2})
	w.must(err)
	_, err = up.Write([]byte(body))
	w.must(err)
	stored, err := up.Commit(w.t.Context())
	w.must(err)
	e, _, err := w.ns.Put(w.t.Context(), key, manta.Entry{ObjectID: id.Object.String(), Size: stored.Size, Sharks: stored.Sharks}, namespace.Options{})
	w.must(err)
	return *e
}

func (w *world) copies() (n int64) {
	w.t.Helper()
	for _, node := range w.nodes {
		u, err := node.Usage(context.Background())
		w.must(err)
		n += u.Objects
	}
	return n
}

func (w *world) round(want int64) {
	w.t.Helper()
	w.must(w.gc.RunOnce(w.t.Context()))
	if got := w.copies(); got != want {
		w.t.Fatalf("%d copies left, want %d", got, want)
	}
}

func TestCollect(t *testing.T) {
	w := newWorld(t)
	w.put(stor.Join("a"), "one")
	w.put(stor.Join("a"), "two") // replaces it
	w.put(stor.Join("b"), "three")
	_, err := w.ns.Delete(t.Context(), stor.Join("b"), namespace.Options{})
	w.must(err)
	w.round(6) // within the grace period
	w.now = w.now.Add(2 * time.Hour)
	w.round(2)
	w.round(2)
	m := w.gc.Metrics()
	if m.Deleted != 2 || m.Bytes != 8 || m.Rounds != 3 || m.Failed != 0 {
		t.Errorf("metrics: %+v", m)
	}
}

func TestLinkedBytesStay(t *testing.T) {
	w := newWorld(t)
	a, b := stor.Join("a"), stor.Join("b")
	w.put(a, "one")
	_, err := w.ns.Link(t.Context(), b, a, nil, namespace.Options{})
	w.must(err)
	for i, key := range []manta.Key{a, b} {
		_, err := w.ns.Delete(t.Context(), key, namespace.Options{})
		w.must(err)
		w.now = w.now.Add(2 * time.Hour)
		w.round(int64(2 - 2*i))
	}
}

func TestNodeDown(t *testing.T) {
	w := newWorld(t)
	w.put(stor.Join("a"), "one")
	_, err := w.ns.Delete(t.Context(), stor.Join("a"), namespace.Options{})
	w.must(err)
	w.now = w.now.Add(2 * time.Hour)
	w.nodes[0].Kill()
	w.must(w.gc.RunOnce(t.Context()))
	if m := w.gc.Metrics(); m.Failed != 1 || m.Deleted != 0 {
		t.Errorf("metrics: %+v", m)
	}
	w.nodes[0].Revive()
	w.round(0)
}

func TestUploads(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	create := func(name string) *mpu.Upload {
		t.Helper()
		u, err := w.uploads.Create(ctx, mpu.CreateRequest{Owner: owner, Login: "alice", ObjectPath: "/alice/stor/" + name, ObjectKey: stor.Join(name), Size: -1, Copies: 2})
		w.must(err)
		u, err = w.uploads.Load(ctx, owner, u.ID[:3], u.ID)
		w.must(err)
		return u
	}
	part := func(u *mpu.Upload, body string) string {
		t.Helper()
		return w.put(u.Dir().Join("0"), body).ObjectID
	}
	u := create("committed")
	etag := part(u, "hello")
	_, err := w.uploads.Commit(ctx, u, []string{etag}, nil, manta.Entry{})
	w.must(err)
	aborted := create("aborted")
	part(aborted, "gone")
	w.must(w.uploads.Abort(ctx, aborted))
	forgotten := create("forgotten")
	part(forgotten, "gone too")
	w.now = w.now.Add(2 * time.Hour)
	w.must(w.gc.RunOnce(ctx)) // the directories of both finished uploads go, and their parts into the log
	for _, gone := range []*mpu.Upload{u, aborted} {
		if _, err := w.uploads.Load(ctx, owner, gone.ID[:3], gone.ID); !errors.Is(err, mpu.ErrNotFound) {
			t.Errorf("upload %s: %v", gone.ID, err)
		}
	}
	w.now = w.now.Add(2 * time.Hour)
	w.round(2 + 2) // the object and the forgotten part
	w.now = w.now.Add(25 * time.Hour)
	w.must(w.gc.RunOnce(ctx)) // expires
	w.now = w.now.Add(2 * time.Hour)
	w.must(w.gc.RunOnce(ctx)) // removes
	w.now = w.now.Add(2 * time.Hour)
	w.round(2)
	if st, err := w.ns.Look(ctx, stor.Join("committed"), false); err != nil || st.Entry == nil || st.Entry.Size != 5 {
		t.Errorf("target is %+v, %v", st, err)
	}
	if m := w.gc.Metrics(); m.Uploads != 3 || m.Expired != 1 {
		t.Errorf("metrics: %+v", m)
	}
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	for _, cfg := range []gc.Config{{}, {Namespace: w.ns, Storage: w.storage, Grace: time.Second}, {Namespace: w.ns, Storage: w.storage, Expiry: time.Hour}} {
		if _, err := gc.New(cfg); err == nil {
			t.Errorf("New(%+v) accepted", cfg)
		}
	}
}
