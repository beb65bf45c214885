package audit

import (
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/gc"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/manta/repair"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

const owner = "11111111-1111-4111-8111-111111111111"

var stor = manta.Key("/" + owner + "/stor")

// A world is an object store without a door, on fake time.
type world struct {
	t       *testing.T
	records *hooked
	ns      *namespace.Namespace
	nodes   map[string]*storagetest.MemNode
	fleet   *durable.Static
	store   *durable.Store
	repair  *repair.Service
	uploads *mpu.Service
	garbage *gc.Collector
	cfg     Config
}

// hooked is a store of records that lets a test act while all entries are being read.
type hooked struct {
	metastore.Store
	reading func(key metastore.Key) // before each
}

func (h *hooked) Find(ctx context.Context, bucket string, q metastore.Query) iter.Seq2[metastore.Record, error] {
	if bucket != namespace.Bucket || !q.Scan || h.reading == nil {
		return h.Store.Find(ctx, bucket, q)
	}
	return func(yield func(metastore.Record, error) bool) {
		// One by one, as a store with small pages would.
		q.Limit = 1
		for {
			more := false
			for rec, err := range h.Store.Find(ctx, bucket, q) {
				if err == nil && h.reading != nil {
					h.reading(rec.Key)
				}
				if !yield(rec, err) || err != nil {
					return
				}
				more, q.After = true, &rec
			}
			if !more {
				return
			}
		}
	}
}

// Begin and Relax make it a store whose commits can be taken apart, as the embedded one's can; only a namespace that was told to recover uses them.
func (h *hooked) Begin(ctx context.Context, b metastore.Batch) (wait func() (metastore.Result, error), err error) {
	r, err := h.Commit(ctx, b)
	return func() (metastore.Result, error) { return r, nil }, err
}

func (h *hooked) Relax(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	return h.Commit(ctx, b)
}

// timeless is a node whose clock is wrong by decades: everything on it seems old.
type timeless struct{ storage.Node }

func (n timeless) List(ctx context.Context, after storage.ObjectID) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range n.Node.List(ctx, after) {
			info.Created = time.Unix(0, 0)
			if !yield(info, err) {
				return
			}
		}
	}
}

const grace = time.Hour

func run(t *testing.T, nodes int, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[string]*storagetest.MemNode{}, records: &hooked{Store: metastoretest.NewMemory()}}
		var err error
		w.ns, err = namespace.New(namespace.Config{Store: w.records})
		w.must(err)
		w.must(w.ns.Define(t.Context()))
		set := map[storage.Shark]storage.Node{}
		for i := range nodes {
			name := string(rune('a' + i))
			w.nodes[name] = storagetest.NewMemNode(storagetest.MemConfig{})
			set[storage.Shark{Datacenter: "dc", Node: name}] = timeless{w.nodes[name]}
		}
		w.fleet, err = durable.OpenStatic(t.Context(), picker.Config{StreamingSize: 1, Lag: 1 << 60}, set)
		w.must(err)
		w.store, err = durable.New(durable.Config{Nodes: w.fleet})
		w.must(err)
		defer w.store.Close()
		w.repair, err = repair.New(repair.Config{Namespace: w.ns, Storage: w.store})
		w.must(err)
		w.uploads, err = mpu.New(mpu.Config{Namespace: w.ns, Store: w.records, Storage: w.store, Nodes: w.fleet})
		w.must(err)
		w.must(w.uploads.Define(t.Context()))
		w.garbage, err = gc.New(gc.Config{Namespace: w.ns, Storage: w.store, Uploads: w.uploads, Grace: grace})
		w.must(err)
		w.cfg = Config{
			Namespace: w.ns, Store: w.records, Nodes: w.fleet, Repair: w.repair, Grace: grace, Rate: -1,
			Claims: []func(context.Context) iter.Seq2[storage.ObjectID, error]{w.uploads.Targets},
			Names: func() (names []string) {
				for name := range w.nodes {
					names = append(names, name)
				}
				return names
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = w.repair.Run(ctx) }()
		defer func() { cancel(); <-done }()
		test(t, w)
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// auditor makes one more.
func (w *world) auditor() *Auditor {
	w.t.Helper()
	a, err := New(w.cfg)
	w.must(err)
	w.must(a.Define(w.t.Context()))
	return a
}

// audit makes a round and returns what it did.
func (w *world) audit() Metrics {
	w.t.Helper()
	a := w.auditor()
	w.must(a.RunOnce(w.t.Context()))
	return a.Metrics()
}

// bytes stores bytes on two nodes, and no record.
func (w *world) bytes(content string) manta.Entry {
	w.t.Helper()
	id := storage.ObjectID{Owner: uuid.MustParse(owner), Object: uuid.New()}
	up, err := w.store.Create(w.t.Context(), durable.CreateRequest{ID: id, Size: int64(len(content)), Copies: 2})
	w.must(err)
	_, err = up.Write([]byte(content))
	w.must(err)
	stored, err := up.Commit(w.t.Context())
	w.must(err)
	return manta.Entry{ObjectID: id.Object.String(), Creator: owner, Size: stored.Size, MD5: base64.StdEncoding.EncodeToString(stored.MD5[:]), Sharks: stored.Sharks}
}

func (w *world) record(key manta.Key, e manta.Entry) {
	w.t.Helper()
	_, _, err := w.ns.Put(w.t.Context(), key, e, namespace.Options{})
	w.must(err)
}

func (w *world) put(key manta.Key, content string) manta.Entry {
	w.t.Helper()
	e := w.bytes(content)
	w.record(key, e)
	return e
}

func id(e manta.Entry) storage.ObjectID {
	return storage.ObjectID{Owner: uuid.MustParse(owner), Object: uuid.MustParse(e.ObjectID)}
}

// copies returns on how many nodes the object is.
func (w *world) copies(e manta.Entry) (n int) {
	w.t.Helper()
	for _, node := range w.nodes {
		if _, err := node.Stat(w.t.Context(), id(e)); err == nil {
			n++
		}
	}
	return n
}

// whole checks that all entries have the copies that they name.
func (w *world) whole() {
	w.t.Helper()
	for e, err := range w.ns.Objects(w.t.Context()) {
		w.must(err)
		for _, shark := range e.Sharks {
			if info, err := w.nodes[shark.Node].Stat(w.t.Context(), id(*e)); err != nil || info.Size != e.Size {
				w.t.Errorf("%s on %s: %+v, %v", e.Key, shark.Node, info, err)
			}
		}
	}
}

func (w *world) want(what string, e manta.Entry, copies int) {
	w.t.Helper()
	if n := w.copies(e); n != copies {
		w.t.Errorf("%s: %d copies, want %d", what, n, copies)
	}
}

func name(i int) string { return fmt.Sprintf("%04d", i) }
