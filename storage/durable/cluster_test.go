package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// tb is what a cluster needs of a test, be it from testing or from rapid.
type tb interface {
	Helper()
	Context() context.Context
	Fatal(...any)
	Errorf(string, ...any)
}

// cluster is a Store over nodes in memory, each behind a hook that can make its calls fail.
type cluster struct {
	t     tb
	nodes map[string]*hooked
	fleet *Static
	store *Store

	mu      sync.Mutex
	damaged []Damage
}

func newCluster(t tb, n int, edit ...func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, nodes: map[string]*hooked{}}
	set := map[storage.Shark]storage.Node{}
	for i := range n {
		name := fmt.Sprintf("%d.stor", i+1)
		c.nodes[name] = &hooked{MemNode: storagetest.NewMemNode(storagetest.MemConfig{}), name: name}
		set[storage.Shark{Datacenter: "dc", Node: name}] = c.nodes[name]
	}
	var err error
	if c.fleet, err = OpenStatic(t.Context(), picker.Config{StreamingSize: 1 << 20}, set); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Nodes: c.fleet, Rand: rand.New(rand.NewPCG(1, 2)), Damaged: func(d Damage) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.damaged = append(c.damaged, d)
	}}
	for _, e := range edit {
		e(&cfg)
	}
	if c.store, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return c
}

// close waits for background work and checks that all memory was given back.
func (c *cluster) close() {
	c.t.Helper()
	c.store.Close()
	if n := c.store.Metrics().BytesInFlight; n != 0 {
		c.t.Errorf("%d bytes in flight at the end", n)
	}
}

// put stores data and returns its location.
func (c *cluster) put(data []byte, size int64, copies int) (Location, error) {
	u, err := c.store.Create(c.t.Context(), CreateRequest{ID: storagetest.NewID(), Size: size, Copies: copies})
	if err != nil {
		return Location{}, err
	}
	defer u.Cancel()
	if _, err := u.ReadFrom(bytes.NewReader(data)); err != nil {
		return Location{ID: u.id}, err
	}
	stored, err := u.Commit(c.t.Context())
	return Location{ID: u.id, Size: stored.Size, MD5: stored.MD5, Sharks: stored.Sharks}, err
}

func (c *cluster) mustPut(data []byte, copies int) Location {
	c.t.Helper()
	loc, err := c.put(data, int64(len(data)), copies)
	if err != nil {
		c.t.Fatal(err)
	}
	return loc
}

// get reads a range in full.
func (c *cluster) get(loc Location, off, n int64) ([]byte, error) {
	r, err := c.store.Open(c.t.Context(), loc, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func (c *cluster) wantContent(loc Location, data []byte) {
	c.t.Helper()
	got, err := c.get(loc, 0, -1)
	if err != nil || !bytes.Equal(got, data) {
		c.t.Errorf("get %s: %d bytes, %v; want the %d that were put", loc.ID, len(got), err, len(data))
	}
}

// holders returns the nodes that have an intact copy, whether or not they answer the Store.
func (c *cluster) holders(id storage.ObjectID) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
		if _, err := c.nodes[name].MemNode.Verify(c.t.Context(), id); err == nil {
			names = append(names, name)
		}
	}
	return names
}

func names(sharks []storage.Shark) []string {
	var names []string
	for _, s := range sharks {
		names = append(names, s.Node)
	}
	slices.Sort(names)
	return names
}

// hooked is a node whose calls can be made to fail. Embedding shares the rest of MemNode's powers.
type hooked struct {
	*storagetest.MemNode
	name string

	mu sync.Mutex
	// hook is asked at each step with the count of that step since it was set; "create", "write", "commit", "committed" (when the
	// node has done its part and only the answer is to come), "open", "read".
	hook  func(step string, n int) error
	count map[string]int
}

func (h *hooked) set(hook func(step string, n int) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hook, h.count = hook, map[string]int{}
}

func (h *hooked) at(step string) error {
	h.mu.Lock()
	hook := h.hook
	n := 0
	if hook != nil {
		h.count[step]++
		n = h.count[step]
	}
	h.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(step, n)
}

var errInjected = fmt.Errorf("%w: injected", storage.ErrUnavailable)

// failAt makes the n-th occurrence of a step fail, and everything after it.
func failAt(step string, n int) func(string, int) error {
	var mu sync.Mutex
	failed := false
	return func(s string, i int) error {
		mu.Lock()
		defer mu.Unlock()
		if failed = failed || s == step && i >= n; failed {
			return errInjected
		}
		return nil
	}
}

func (h *hooked) Create(ctx context.Context, id storage.ObjectID, o storage.CreateOptions) (storage.Writer, error) {
	if err := h.at("create"); err != nil {
		return nil, err
	}
	w, err := h.MemNode.Create(ctx, id, o)
	if err != nil {
		return nil, err
	}
	return &hookedWriter{w, h}, nil
}

type hookedWriter struct {
	storage.Writer
	h *hooked
}

func (w *hookedWriter) Write(p []byte) (int, error) {
	if err := w.h.at("write"); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

func (w *hookedWriter) Commit(ctx context.Context, sums storage.Sums) (storage.Info, error) {
	if err := w.h.at("commit"); err != nil {
		return storage.Info{}, err
	}
	info, err := w.Writer.Commit(ctx, sums)
	if err == nil {
		err = w.h.at("committed")
	}
	return info, err
}

func (h *hooked) Open(ctx context.Context, id storage.ObjectID, off, n int64) (io.ReadCloser, storage.Info, error) {
	if err := h.at("open"); err != nil {
		return nil, storage.Info{}, err
	}
	rc, info, err := h.MemNode.Open(ctx, id, off, n)
	if err != nil {
		return nil, info, err
	}
	return &hookedReader{rc, h}, info, nil
}

type hookedReader struct {
	io.ReadCloser
	h *hooked
}

func (r *hookedReader) Read(p []byte) (int, error) {
	err := r.h.at("read")
	if errors.Is(err, errLie) {
		n, err := r.ReadCloser.Read(p)
		if n > 0 {
			p[0] ^= 1
		}
		return n, err
	}
	if err != nil {
		return 0, err
	}
	n, err := r.ReadCloser.Read(p)
	if err == io.EOF {
		if end := r.h.at("end"); end != nil && !errors.Is(end, errLie) {
			err = end
		}
	}
	return n, err
}

// errLie makes a read hand out a wrong byte, as a broken transport would.
var errLie = errors.New("lie")
