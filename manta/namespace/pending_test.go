package namespace_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

// pendingWorld is a namespace on the embedded store, which can be started again as after a power cut.
type pendingWorld struct {
	t     *testing.T
	disk  *vfs.MemFS
	store *pebble.Store
	ns    *namespace.Namespace
	bytes map[string]bool // objects that the nodes have
}

func newPendingWorld(t *testing.T) *pendingWorld {
	w := &pendingWorld{t: t, disk: vfs.NewCrashableMem(), bytes: map[string]bool{}}
	w.start()
	t.Cleanup(func() { w.store.Close() })
	return w
}

func (w *pendingWorld) start() {
	w.t.Helper()
	var err error
	if w.store, err = pebble.Open("records", pebble.Config{FS: w.disk}); err != nil {
		w.t.Fatal(err)
	}
	w.ns = newNamespace(w.t, w.store, namespace.Config{})
	err = w.ns.Recover(w.t.Context(), func(_ context.Context, e *manta.Entry) (bool, error) { return w.bytes[e.ObjectID], nil })
	if err != nil {
		w.t.Fatal(err)
	}
}

// cut starts again with what is durable, and nothing else.
func (w *pendingWorld) cut() {
	w.t.Helper()
	disk := w.disk.CrashClone(vfs.CrashCloneCfg{})
	w.store.Close()
	w.disk = disk
	w.start()
}

func (w *pendingWorld) look(key manta.Key) *namespace.State {
	w.t.Helper()
	st, err := w.ns.Look(w.t.Context(), key, true)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

func (w *pendingWorld) begin(key manta.Key, e manta.Entry, o namespace.Options) *namespace.Pending {
	w.t.Helper()
	if o.Seen == nil {
		o.Seen = w.look(key)
	}
	p := w.ns.Begin(w.t.Context(), key, e, o)
	if p == nil {
		w.t.Fatal("Begin refuses")
	}
	return p
}

// is fails the test unless the entry's object is the one, "" for none, now and after a power cut.
func (w *pendingWorld) is(key manta.Key, object string) {
	w.t.Helper()
	for _, when := range []string{"now", "after a power cut"} {
		got := ""
		if st := w.look(key); st.Entry != nil {
			got = st.Entry.ObjectID
		}
		if got != object {
			w.t.Errorf("%s the entry is %q, want %q", when, got, object)
		}
		entries := int64(0)
		for range w.store.Find(w.t.Context(), "manta_put_intents", metastore.Query{Scan: true}) {
			entries++
		}
		if entries > 0 && when != "now" {
			w.t.Errorf("%d intents are left %s", entries, when)
		}
		if when == "now" {
			w.cut()
		}
	}
}

func newObject() manta.Entry {
	e := object(3)
	e.ObjectID = uuid.NewString()
	return e
}

func TestPending(t *testing.T) {
	key := stor.Join("x")
	for _, test := range []struct {
		name string
		old  bool // there is an object
		// do makes the change; e is the new object.
		do   func(w *pendingWorld, e manta.Entry) error
		want error // of do
		new  bool  // the new object is there then
	}{
		{"acknowledged", false, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{})
			w.bytes[e.ObjectID] = true
			_, _, err := p.Finish(t.Context())
			return err
		}, nil, true},
		{"acknowledged over another", true, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{Exclusive: true})
			w.bytes[e.ObjectID] = true
			_, replaced, err := p.Finish(t.Context())
			if replaced == nil {
				t.Error("nothing was replaced")
			}
			return err
		}, nil, true},
		{"cut with the bytes on one side", true, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{})
			w.bytes[e.ObjectID] = true
			_, err := w.store.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: namespace.DeletedBucket, Key: metastore.Key{Name: "z"}, Value: []byte(`{}`)}})
			w.cutOpen(p)
			return err
		}, nil, true},
		{"cut without the bytes", true, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{})
			_, err := w.store.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: namespace.DeletedBucket, Key: metastore.Key{Name: "z"}, Value: []byte(`{}`)}})
			w.cutOpen(p)
			return err
		}, nil, false},
		{"abandoned", true, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{})
			w.bytes[e.ObjectID] = true // an answer was lost
			return p.Abandon(t.Context())
		}, nil, false},
		{"overtaken", true, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{})
			w.bytes[e.ObjectID] = true
			if _, _, err := w.ns.Put(t.Context(), key, newObject(), namespace.Options{}); err != nil {
				t.Error(err)
			}
			_, _, err := p.Finish(t.Context())
			return err
		}, nil, true},
		{"overtaken by a delete", true, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{})
			w.bytes[e.ObjectID] = true
			if _, err := w.ns.Delete(t.Context(), key, namespace.Options{}); err != nil {
				t.Error(err)
			}
			_, _, err := p.Finish(t.Context())
			return err
		}, nil, true},
		{"exclusive and overtaken", true, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{Exclusive: true})
			w.bytes[e.ObjectID] = true
			if _, err := w.ns.SetMetadata(t.Context(), key, namespace.Metadata{Headers: map[string]string{"m-a": "b"}}, namespace.Options{}); err != nil {
				t.Error(err)
			}
			_, _, err := p.Finish(t.Context())
			return err
		}, namespace.ErrConcurrent, false},
		{"a directory came", false, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{})
			w.bytes[e.ObjectID] = true
			if _, _, err := w.ns.PutDirectory(t.Context(), key, manta.Entry{}, namespace.Options{}); err != nil {
				t.Error(err)
			}
			_, _, err := p.Finish(t.Context())
			if _, derr := w.ns.Delete(t.Context(), key, namespace.Options{}); derr != nil {
				t.Error(derr)
			}
			return err
		}, namespace.ErrIsDirectory, false},
		{"a second at the same time", false, func(w *pendingWorld, e manta.Entry) error {
			p := w.begin(key, e, namespace.Options{})
			w.bytes[e.ObjectID] = true
			if w.ns.Begin(t.Context(), key, newObject(), namespace.Options{Seen: w.look(key)}) != nil {
				t.Error("two puts of one key are on their way")
			}
			_, _, err := p.Finish(t.Context())
			if again := w.begin(key, newObject(), namespace.Options{}); again.Abandon(t.Context()) != nil {
				t.Error("Abandon fails")
			}
			return err
		}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newPendingWorld(t)
			old, e := newObject(), newObject()
			if test.old {
				if _, _, err := w.ns.Put(t.Context(), key, old, namespace.Options{}); err != nil {
					t.Fatal(err)
				}
			}
			err := test.do(w, e)
			if !errors.Is(err, test.want) {
				t.Fatalf("it ends with %v, want %v", err, test.want)
			}
			switch {
			case test.new:
				w.is(key, e.ObjectID)
			case test.old:
				w.is(key, old.ObjectID)
			default:
				w.is(key, "")
			}
			want := int64(0)
			if test.new || test.old {
				want = 1
			}
			if n, err := w.ns.Count(t.Context(), stor); n != want || err != nil {
				t.Errorf("%d entries are counted, %v, want %d", n, err, want)
			}
		})
	}
}

// cutOpen is cut while a put is on its way, for which closing the old store waits.
func (w *pendingWorld) cutOpen(p *namespace.Pending) {
	w.t.Helper()
	disk := w.disk.CrashClone(vfs.CrashCloneCfg{})
	if err := p.Abandon(w.t.Context()); err != nil {
		w.t.Error(err)
	}
	w.store.Close()
	w.disk = disk
	w.start()
}

// TestPendingGone has the directory removed while bytes are on their way to it.
func TestPendingGone(t *testing.T) {
	w := newPendingWorld(t)
	dir := stor.Join("d")
	if _, _, err := w.ns.PutDirectory(t.Context(), dir, manta.Entry{}, namespace.Options{}); err != nil {
		t.Fatal(err)
	}
	e := newObject()
	p := w.begin(dir.Join("x"), e, namespace.Options{})
	w.bytes[e.ObjectID] = true
	if _, err := w.ns.Delete(t.Context(), dir, namespace.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Finish(t.Context()); !errors.Is(err, namespace.ErrNoParent) {
		t.Fatalf("Finish = %v, want ErrNoParent", err)
	}
	w.is(dir.Join("x"), "")
}

// TestPendingOff asks for what only a store that can recover it may do.
func TestPendingOff(t *testing.T) {
	w := newPendingWorld(t)
	never := newNamespace(t, w.store, namespace.Config{})
	key := stor.Join("x")
	if never.Begin(t.Context(), key, newObject(), namespace.Options{Seen: w.look(key)}) != nil {
		t.Error("Begin goes ahead without Recover")
	}
	sharded := newNamespace(t, newSharded(), namespace.Config{})
	if err := sharded.Recover(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	st, err := sharded.Look(t.Context(), key, true)
	if err != nil {
		t.Fatal(err)
	}
	if sharded.Begin(t.Context(), key, newObject(), namespace.Options{Seen: st}) != nil {
		t.Error("Begin goes ahead on a store that cannot")
	}
}
