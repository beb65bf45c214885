package datasettest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// TestHistory does steps verbs at random, from a seed that it prints, to a pool and to a model in memory, and compares every outcome: error, content,
// snapshots, origins. Now and then the pool is opened again.
func TestHistory(t *testing.T, seed uint64, steps int, newPlace func(t *testing.T) (open func() (dataset.Pool, error))) {
	s := &suite{T: t, open: newPlace(t)}
	s.reopen()
	t.Cleanup(func() { s.pool.Close() })
	t.Logf("seed %d", seed)
	h := history{suite: s, r: rand.New(rand.NewPCG(seed, 0)), sets: map[string]*modelSet{}}
	for i := range steps {
		what := h.step()
		if s.Failed() {
			t.Fatalf("step %d of seed %d: %s", i, seed, what)
		}
	}
	h.compareAll()
}

// modelSet is a dataset as it should be.
type modelSet struct {
	files  map[string]string
	snaps  []modelSnap
	origin *modelSet // with the snapshot's identity, which renames do not change
	from   *modelSnap
}

type modelSnap struct {
	name  string
	files map[string]string
	id    *int
}

type history struct {
	*suite
	r    *rand.Rand
	sets map[string]*modelSet
}

func (h *history) name() string { return string(rune('a' + h.r.IntN(5))) }
func (h *history) snapName() string {
	return string(rune('p' + h.r.IntN(4)))
}

func (m *modelSet) find(snap string) int {
	return slices.IndexFunc(m.snaps, func(s modelSnap) bool { return s.name == snap })
}

// dependents reports whether a clone stands on one of the snapshots.
func (h *history) dependents(m *modelSet, snaps []modelSnap) bool {
	for _, o := range h.sets {
		if o.origin == m && slices.ContainsFunc(snaps, func(s modelSnap) bool { return o.from.id == s.id }) {
			return true
		}
	}
	return false
}

func (h *history) agree(what string, err, want error) {
	h.Helper()
	if want == nil && err != nil || want != nil && !errors.Is(err, want) {
		h.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (h *history) step() string {
	ctx, p, name, snap := h.Context(), h.pool, h.name(), h.snapName()
	m := h.sets[name]
	missing := func() error {
		if m == nil {
			return dataset.ErrNotExist
		}
		return nil
	}
	switch verb := h.r.IntN(13); verb {
	case 0, 1:
		_, err := p.Create(ctx, name, dataset.Options{Volatile: h.r.IntN(2) == 0})
		if m != nil {
			h.agree("create "+name, err, dataset.ErrExist)
		} else if h.agree("create "+name, err, nil); err == nil {
			h.sets[name] = &modelSet{files: map[string]string{}}
		}
		return "create " + name
	case 2, 3, 4:
		if m == nil {
			return "nothing"
		}
		f, body := fmt.Sprint("f", h.r.IntN(4)), fmt.Sprint(h.r.IntN(1000))
		if h.r.IntN(4) == 0 {
			h.must(h.in(name, func(r *os.Root) error { return r.RemoveAll(f) }))
			delete(m.files, f)
		} else {
			h.write(name, f, body)
			m.files[f] = body
		}
		return "write " + name + "/" + f
	case 5, 6:
		_, err := p.Snapshot(ctx, name, snap)
		want := missing()
		if m != nil && m.find(snap) >= 0 {
			want = dataset.ErrExist
		}
		h.agree("snapshot", err, want)
		if want == nil {
			m.snaps = append(m.snaps, modelSnap{snap, maps.Clone(m.files), new(0)})
		}
		return "snapshot " + name + "@" + snap
	case 7:
		i, want := -1, dataset.ErrNotExist
		if m != nil {
			i = m.find(snap)
		}
		if i >= 0 {
			want = nil
			if h.dependents(m, m.snaps[i:i+1]) {
				want = dataset.ErrDependents
			}
		}
		h.agree("delete snapshot", p.DeleteSnapshot(ctx, name, snap), want)
		if want == nil {
			m.snaps = slices.Delete(m.snaps, i, i+1)
		}
		return "delete snapshot " + name + "@" + snap
	case 8:
		i, want := -1, dataset.ErrNotExist
		if m != nil {
			i = m.find(snap)
		}
		if i >= 0 {
			want = nil
			if h.dependents(m, m.snaps[i+1:]) {
				want = dataset.ErrDependents
			}
		}
		h.agree("rollback", p.Rollback(ctx, name, snap), want)
		if want == nil {
			m.files, m.snaps = maps.Clone(m.snaps[i].files), m.snaps[:i+1]
		}
		return "rollback " + name + "@" + snap
	case 9:
		return h.clone(name, snap)
	case 10:
		to := h.name()
		want := missing()
		if want == nil && h.sets[to] != nil {
			want = dataset.ErrExist
		}
		h.agree("rename", p.Rename(ctx, name, to), want)
		if want == nil {
			h.sets[to] = m
			delete(h.sets, name)
		}
		return "rename " + name + " " + to
	case 11:
		want := missing()
		if m != nil && h.dependents(m, m.snaps) {
			want = dataset.ErrDependents
		}
		h.agree("delete", p.Delete(ctx, name), want)
		if want == nil {
			delete(h.sets, name)
		}
		return "delete " + name
	}
	if h.r.IntN(3) > 0 {
		return h.move(name, snap)
	}
	h.reopen()
	h.compareAll()
	return "open again"
}

func (h *history) clone(name, snap string) string {
	to := h.name()
	what := "clone " + name + "@" + snap + " " + to
	i, m := -1, h.sets[name]
	if m != nil {
		i = m.find(snap)
	}
	_, err := h.pool.Clone(h.Context(), dataset.Ref{Dataset: name, Snapshot: snap}, to, dataset.Options{})
	switch {
	case h.sets[to] != nil:
		h.agree(what, err, dataset.ErrExist)
	case i < 0:
		h.agree(what, err, dataset.ErrNotExist)
	default:
		h.agree(what, err, nil)
		s := m.snaps[i]
		h.sets[to] = &modelSet{files: maps.Clone(s.files), origin: m, from: &s}
	}
	return what
}

// move sends a snapshot and receives it under another name.
func (h *history) move(name, snap string) string {
	to := h.name()
	what := "send " + name + "@" + snap + " to " + to
	m := h.sets[name]
	if m == nil || m.find(snap) < 0 || h.sets[to] != nil {
		return "nothing"
	}
	var b bytes.Buffer
	h.must(h.pool.Send(h.Context(), &b, dataset.Ref{Dataset: name, Snapshot: snap}, ""))
	_, err := h.pool.Receive(h.Context(), &b, to, "r", dataset.Options{})
	h.agree(what, err, nil)
	files := m.snaps[m.find(snap)].files
	h.sets[to] = &modelSet{files: maps.Clone(files), snaps: []modelSnap{{"r", files, new(0)}}}
	return what
}

// compareAll compares all that can be seen.
func (h *history) compareAll() {
	h.Helper()
	var names []string
	for n := range h.sets {
		names = append(names, n)
	}
	slices.Sort(names)
	h.wantList(names...)
	flat := func(files map[string]string) []string {
		out := []string{}
		for f, b := range files {
			out = append(out, f+"="+b)
		}
		slices.Sort(out)
		return out
	}
	for _, n := range names {
		m := h.sets[n]
		if d := cmp.Diff(flat(m.files), h.tree(n)); d != "" {
			h.Errorf("tree of %s (-want +got):\n%s", n, d)
		}
		var snaps []string
		for _, s := range m.snaps {
			snaps = append(snaps, s.name)
			root, err := h.pool.SnapshotRoot(h.Context(), dataset.Ref{Dataset: n, Snapshot: s.name})
			h.must(err)
			if d := cmp.Diff(flat(s.files), h.treeOf(root)); d != "" {
				h.Errorf("snapshot %s@%s (-want +got):\n%s", n, s.name, d)
			}
		}
		h.wantSnapshots(n, snaps...)
		want := dataset.Ref{}
		for o, om := range h.sets {
			if m.origin == om {
				if i := slices.IndexFunc(om.snaps, func(s modelSnap) bool { return s.id == m.from.id }); i >= 0 {
					want = dataset.Ref{Dataset: o, Snapshot: om.snaps[i].name}
				}
			}
		}
		if i, err := h.pool.Get(h.Context(), n); err != nil || i.Origin != want {
			h.Errorf("origin of %s = %v, %v, want %v", n, i.Origin, err, want)
		}
	}
}
