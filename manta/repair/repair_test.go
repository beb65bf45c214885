package repair

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

const owner = "11111111-1111-4111-8111-111111111111"

// A world is a namespace over nodes in memory, with repair running.
type world struct {
	t     *testing.T
	ns    *namespace.Namespace
	nodes map[string]*storagetest.MemNode
	fleet *durable.Static
	store *durable.Store
	*Service
}

func run(t *testing.T, nodes int, test func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[string]*storagetest.MemNode{}}
		var err error
		must := func() {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		w.ns, err = namespace.New(namespace.Config{Store: metastoretest.NewMemory()})
		must()
		err = w.ns.Define(t.Context())
		must()
		set := map[storage.Shark]storage.Node{}
		for i := range nodes {
			name := string(rune('a' + i))
			w.nodes[name] = storagetest.NewMemNode(storagetest.MemConfig{})
			set[storage.Shark{Datacenter: "dc", Node: name}] = w.nodes[name]
		}
		w.fleet, err = durable.OpenStatic(t.Context(), picker.Config{StreamingSize: 1 << 20}, set)
		must()
		w.store, err = durable.New(durable.Config{Nodes: w.fleet, Damaged: func(d durable.Damage) { w.Damaged(d) }})
		must()
		defer w.store.Close()
		w.Service, err = New(Config{Namespace: w.ns, Storage: w.store})
		must()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = w.Run(ctx) }()
		test(w)
		cancel()
		<-done
	})
}

// put stores an object on two nodes and returns its entry.
func (w *world) put(name string, content []byte) *manta.Entry {
	w.t.Helper()
	id := storage.ObjectID{Owner: uuid.MustParse(owner), Object: uuid.New()}
	u, err := w.store.Create(w.t.Context(), durable.CreateRequest{ID: id, Size: int64(len(content)), Copies: 2})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := u.Write(content); err != nil {
		w.t.Fatal(err)
	}
	stored, err := u.Commit(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	e := manta.Entry{ObjectID: id.Object.String(), Size: stored.Size, MD5: base64.StdEncoding.EncodeToString(stored.MD5[:]), Sharks: stored.Sharks}
	out, _, err := w.ns.Put(w.t.Context(), manta.Key("/"+owner+"/stor/"+name), e, namespace.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) look(name string) *manta.Entry {
	w.t.Helper()
	st, err := w.ns.Look(w.t.Context(), manta.Key("/"+owner+"/stor/"+name), false)
	if err != nil || st.Entry == nil {
		w.t.Fatalf("look up %s: %v, %v", name, st, err)
	}
	return st.Entry
}

// intact checks that every copy that the entry names is there, and is content.
func (w *world) intact(name string, content []byte) {
	w.t.Helper()
	e := w.look(name)
	loc, err := location(e)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(e.Sharks) != 2 || e.Sharks[0] == e.Sharks[1] {
		w.t.Errorf("%s has copies on %v, want two nodes", name, e.Sharks)
	}
	for _, shark := range e.Sharks {
		r, _, err := w.nodes[shark.Node].Open(w.t.Context(), loc.ID, 0, -1)
		if err != nil {
			w.t.Errorf("%s on %s: %v", name, shark.Node, err)
			continue
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(got, content) {
			w.t.Errorf("%s on %s: %d bytes and %v, want %d bytes", name, shark.Node, len(got), err, len(content))
		}
	}
}

func TestEvacuate_noEntryRefersToTheNodeAnyMore(t *testing.T) {
	run(t, 4, func(w *world) {
		content := make([]byte, 100_000)
		_, _ = rand.Read(content)
		names := map[string]bool{}
		for i := range 30 {
			name := "obj" + string(rune('A'+i))
			w.put(name, content)
			names[name] = true
		}
		first := w.look("objA")
		if _, err := w.ns.Link(w.t.Context(), manta.Key("/"+owner+"/stor/link"), first.Key, nil, namespace.Options{}); err != nil {
			w.t.Fatal(err)
		}
		names["link"] = true
		lost := first.Sharks[0].Node
		if err := w.Evacuate(w.t.Context(), lost, nil); err == nil {
			w.t.Error("a node that is not lost was evacuated")
		}
		w.nodes[lost].Kill()
		w.fleet.SetLost(lost, true)
		seen := 0
		if err := w.Evacuate(w.t.Context(), lost, func(p Progress) { seen = max(seen, p.Seen) }); err != nil {
			w.t.Fatal(err)
		}
		if seen == 0 {
			w.t.Error("no progress was told")
		}
		for name := range names {
			for _, shark := range w.look(name).Sharks {
				if shark.Node == lost {
					w.t.Errorf("%s still has a copy on the lost node", name)
				}
			}
			w.intact(name, content)
		}
		if after := w.look("objA"); after.ObjectID != first.ObjectID || !after.Mtime.Equal(first.Mtime) {
			w.t.Error("evacuation changed the etag or the time of an object")
		}
	})
}

func TestNodeDamaged_isFoundByIDAlone(t *testing.T) {
	run(t, 2, func(w *world) {
		e := w.put("x", []byte("content"))
		w.put("y", []byte("other"))
		loc, err := location(e)
		if err != nil {
			w.t.Fatal(err)
		}
		node := w.nodes[e.Sharks[1].Node]
		if err := node.Corrupt(loc.ID, 0); err != nil {
			w.t.Fatal(err)
		}
		if _, err := node.Verify(w.t.Context(), loc.ID); !errors.Is(err, storage.ErrCorrupt) {
			w.t.Fatalf("verify: %v, want ErrCorrupt", err)
		}
		w.NodeDamaged(loc.ID)
		w.NodeDamaged(storage.ObjectID{Owner: loc.ID.Owner, Object: uuid.New()}) // deleted meanwhile
		time.Sleep(time.Minute)                                                  // fake time
		synctest.Wait()
		w.intact("x", []byte("content"))
		if m := w.Metrics(); m.Waiting != 0 {
			w.t.Errorf("%d objects wait for repair, want none", m.Waiting)
		}
	})
}

// TestLinkedBytesStay has one of two entries of an object go while the object is being repaired under that entry's name.
func TestLinkedBytesStay(t *testing.T) {
	run(t, 3, func(w *world) {
		content := []byte("linked")
		e := w.put("x", content)
		if _, err := w.ns.Link(w.t.Context(), manta.Key("/"+owner+"/stor/y"), e.Key, nil, namespace.Options{}); err != nil {
			w.t.Fatal(err)
		}
		e = w.look("x")
		loc, err := location(e)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.nodes[e.Sharks[0].Node].Delete(w.t.Context(), loc.ID); err != nil {
			w.t.Fatal(err)
		}
		err = w.Restore(w.t.Context(), func(yield func(*manta.Entry, error) bool) {
			w.nodes[e.Sharks[0].Node].SetDelay(time.Second)
			time.AfterFunc(500*time.Millisecond, func() {
				if _, err := w.ns.Delete(context.Background(), e.Key, namespace.Options{}); err != nil {
					w.t.Error(err)
				}
			})
			yield(e, nil)
		})
		if err != nil {
			w.t.Fatal(err)
		}
		w.nodes[e.Sharks[0].Node].SetDelay(0)
		synctest.Wait()
		if w.look("y").ObjectID != e.ObjectID {
			w.t.Fatal("the link is another object")
		}
		w.intact("y", content)
	})
}
