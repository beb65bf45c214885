package mpu_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

const owner = "11111111-1111-4111-8111-111111111111"

var target = manta.Key("/" + owner + "/stor/o")

var errCrash = errors.New("crashed")

// crashing is a store that can stop working after so many commits; with lost, the last of them happens, and only its answer is lost.
type crashing struct {
	metastore.Store
	left atomic.Int64
	lost atomic.Bool
}

func (s *crashing) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	left := s.left.Add(-1)
	if left < 0 {
		return metastore.Result{}, errCrash
	}
	res, err := s.Store.Commit(ctx, b)
	if left == 0 && s.lost.Load() {
		return metastore.Result{}, errCrash
	}
	return res, err
}

func (s *crashing) Colocated(p ...string) bool { return len(p) == 1 || p[0] == p[1] }

type world struct {
	t       *testing.T
	store   *crashing
	ns      *namespace.Namespace
	storage *durable.Store
	uploads *mpu.Service
	nodes   map[string]*storagetest.MemNode
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, store: &crashing{Store: metastoretest.NewMemory()}}
	w.store.left.Store(1 << 40)
	fleet := map[storage.Shark]storage.Node{}
	w.nodes = map[string]*storagetest.MemNode{}
	for _, name := range []string{"1", "2", "3"} {
		w.nodes[name] = storagetest.NewMemNode(storagetest.MemConfig{})
		fleet[storage.Shark{Datacenter: "dc", Node: name}] = w.nodes[name]
	}
	static, err := durable.OpenStatic(t.Context(), picker.Config{StreamingSize: 1}, fleet)
	w.must(err)
	w.storage, err = durable.New(durable.Config{Nodes: static})
	w.must(err)
	t.Cleanup(func() { w.storage.Close() })
	w.ns, err = namespace.New(namespace.Config{Store: w.store})
	w.must(err)
	w.must(w.ns.Define(t.Context()))
	w.uploads, err = mpu.New(mpu.Config{Namespace: w.ns, Store: w.store, Storage: w.storage, Nodes: static, PrefixLen: 2})
	w.must(err)
	w.must(w.uploads.Define(t.Context()))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create() (*mpu.Upload, error) {
	u, err := w.uploads.Create(w.t.Context(), mpu.CreateRequest{Owner: owner, Login: "alice", ObjectPath: "/alice/stor/o", ObjectKey: target, Size: -1, Copies: 2})
	if err != nil {
		return nil, err
	}
	return w.load(u.ID), nil
}

func (w *world) load(id string) *mpu.Upload {
	w.t.Helper()
	u, err := w.uploads.Load(w.t.Context(), owner, id[:2], id)
	w.must(err)
	return u
}

func (w *world) part(u *mpu.Upload, n int, body string) (string, error) {
	p, err := w.uploads.Part(w.t.Context(), u, n)
	if err != nil {
		return "", err
	}
	return w.putPart(u, p, body)
}

func (w *world) putPart(u *mpu.Upload, p *mpu.Part, body string) (string, error) {
	id := storage.ObjectID{Owner: uuid.MustParse(owner), Object: uuid.New()}
	up, err := w.storage.CreateOn(w.t.Context(), id, int64(len(body)), u.Sharks)
	w.must(err)
	_, err = up.Write([]byte(body))
	w.must(err)
	stored, err := up.Commit(w.t.Context())
	w.must(err)
	e, _, err := w.ns.Put(w.t.Context(), p.Key, manta.Entry{ObjectID: id.Object.String(), Size: stored.Size, Sharks: stored.Sharks}, p.Options)
	if err != nil {
		return "", err
	}
	return e.ObjectID, nil
}

// TestCommitCrash stops a commit and an abort after each of their steps. The same call afterwards must complete it, and the other must be refused or win, never both.
func TestCommitCrash(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for steps := range 4 {
			for _, first := range []string{"commit", "abort"} {
				for _, second := range []string{"commit", "abort"} {
					t.Run(fmt.Sprintf("%s, %d steps, lost %v, %s", first, steps, lost, second), func(t *testing.T) {
						w := newWorld(t)
						u, err := w.create()
						w.must(err)
						etag, err := w.part(u, 0, "hello")
						w.must(err)
						do := map[string]func(*mpu.Upload) error{
							"commit": func(u *mpu.Upload) error {
								_, err := w.uploads.Commit(t.Context(), u, []string{etag}, nil, manta.Entry{})
								return err
							},
							"abort": func(u *mpu.Upload) error { return w.uploads.Abort(t.Context(), u) },
						}
						w.store.left.Store(int64(steps))
						w.store.lost.Store(lost)
						acknowledged := do[first](w.load(u.ID)) == nil
						w.store.left.Store(1 << 40)
						err = do[second](w.load(u.ID))
						if first == second && err != nil {
							t.Fatalf("again: %v", err)
						}
						if first != second && acknowledged && err == nil {
							t.Fatalf("%s was acknowledged, and then %s", first, second)
						}
						st, lookErr := w.ns.Look(t.Context(), target, false)
						w.must(lookErr)
						status := w.load(u.ID).Status()
						switch {
						case err == nil && second == "commit" && (st.Entry == nil || st.Entry.Size != 5 || status.Result != "committed"):
							t.Fatalf("committed, and the target is %+v, the upload %+v", st.Entry, status)
						case err == nil && second == "abort" && (st.Entry != nil || status.Result != "aborted"):
							t.Fatalf("aborted, and the target is %+v, the upload %+v", st.Entry, status)
						case err != nil && !errors.Is(err, mpu.ErrAborted) && !errors.Is(err, mpu.ErrCommitted):
							t.Fatalf("%s after %s: %v", second, first, err)
						}
					})
				}
			}
		}
	}
}

// TestNodeGone: parts that cannot be joined where they lie, because a node is down or lost a copy, are joined elsewhere.
func TestNodeGone(t *testing.T) {
	for _, how := range []string{"down", "lost"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			u, err := w.create()
			w.must(err)
			first := strings.Repeat("p", mpu.MinPartSize)
			e0, err := w.part(u, 0, first)
			w.must(err)
			e1, err := w.part(u, 1, "end")
			w.must(err)
			node := w.nodes[u.Sharks[0].Node]
			if how == "down" {
				node.Kill()
			} else {
				w.must(node.Delete(t.Context(), storage.ObjectID{Owner: uuid.MustParse(owner), Object: uuid.MustParse(e0)}))
			}
			_, err = w.uploads.Commit(t.Context(), w.load(u.ID), []string{e0, e1}, nil, manta.Entry{})
			w.must(err)
			st, err := w.ns.Look(t.Context(), target, false)
			w.must(err)
			if len(st.Entry.Sharks) != 2 || st.Entry.Size != int64(len(first)+3) {
				t.Fatalf("target: %+v", st.Entry)
			}
			r, err := w.storage.Open(t.Context(), durable.Location{ID: storage.ObjectID{Owner: uuid.MustParse(owner), Object: uuid.MustParse(st.Entry.ObjectID)}, Size: st.Entry.Size, Sharks: st.Entry.Sharks}, 0, -1)
			w.must(err)
			defer r.Close()
			b, err := io.ReadAll(r)
			if err != nil || string(b) != first+"end" {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
}

// TestLatePart: a part that was begun before the upload was finalized is not put after it.
func TestLatePart(t *testing.T) {
	w := newWorld(t)
	u, err := w.create()
	w.must(err)
	p, err := w.uploads.Part(t.Context(), u, 0)
	w.must(err)
	w.must(w.uploads.Abort(t.Context(), w.load(u.ID)))
	if _, err := w.putPart(u, p, "late"); !errors.Is(err, namespace.ErrConcurrent) {
		t.Errorf("late part: %v", err)
	}
	if _, err := w.part(w.load(u.ID), 0, "later"); !errors.Is(err, mpu.ErrFinal) {
		t.Errorf("later part: %v", err)
	}
}

func TestCreateCrash(t *testing.T) {
	for steps := range 8 {
		w := newWorld(t)
		w.store.left.Store(int64(steps))
		_, err := w.create()
		w.store.left.Store(1 << 40)
		if err != nil {
			w2, err := w.create()
			w.must(err)
			w.must(w.uploads.Abort(t.Context(), w2))
		}
		// What an interrupted creation left goes with the next sweep.
		later := time.Now().Add(time.Hour)
		for range 2 {
			_, err = w.uploads.Sweep(t.Context(), later, later)
			w.must(err)
		}
		for prefix, err := range w.ns.List(t.Context(), manta.Key("/"+owner+"/uploads"), namespace.ListOptions{}) {
			w.must(err)
			for e, err := range w.ns.List(t.Context(), prefix.Key, namespace.ListOptions{}) {
				w.must(err)
				t.Errorf("%d steps: %s is left", steps, e.Key)
			}
		}
	}
}

func TestPartNumber(t *testing.T) {
	for s, want := range map[string]int{"0": 0, "7": 7, "9999": 9999, "10000": -1, "": -1, "01": -1, "-1": -1, "+1": -1, "1e3": -1, "٣": -1} {
		n, ok := mpu.PartNumber(s)
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("PartNumber(%q) = %d, %v", s, n, ok)
		}
	}
}
