//go:build linux

package overlay

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/datasettest"
	"github.com/mobulacloud/mobula/zones/dataset/internal/pooldir"
)

func TestPool(t *testing.T) {
	testenv.NeedRoot(t)
	place := func(t *testing.T) func() (dataset.Pool, error) {
		dir := t.TempDir()
		return func() (dataset.Pool, error) { return Open(t.Context(), Config{Dir: dir}) }
	}
	datasettest.TestPool(t, place)
	t.Run("history", func(t *testing.T) {
		steps := 300
		if testenv.Long() {
			steps = 5000
		}
		datasettest.TestHistory(t, rand.Uint64(), steps, place)
	})
}

func TestSnapshotOfADatasetInUseIsRefused(t *testing.T) {
	testenv.NeedRoot(t)
	p, err := Open(t.Context(), Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = p.Create(ctx, "a", dataset.Options{})
	must(err)
	plain, err := p.Root(ctx, "a")
	must(err)
	open, err := plain.Open(dataset.OpenOptions{})
	must(err)
	if _, err := p.Snapshot(ctx, "a", "0"); !errors.Is(err, dataset.ErrBusy) {
		t.Errorf("snapshot of a mounted dataset that stands on nothing: %v, want ErrBusy", err)
	}
	must(open.Close())
	_, err = p.Snapshot(ctx, "a", "0")
	must(err)
	root, err := p.Root(ctx, "a")
	must(err)
	ns, err := dataset.NewUserNS(1_000_000, 65536)
	must(err)
	defer ns.Close()
	m, err := root.Open(dataset.OpenOptions{UserNS: ns})
	must(err)
	if _, err := p.Snapshot(ctx, "a", "1"); !errors.Is(err, dataset.ErrBusy) {
		t.Errorf("snapshot of a mounted dataset: %v, want ErrBusy", err)
	}
	if err := p.Rollback(ctx, "a", "0"); !errors.Is(err, dataset.ErrBusy) {
		t.Errorf("rollback of a mounted dataset: %v, want ErrBusy", err)
	}
	must(m.Close())
	_, err = p.Snapshot(ctx, "a", "1")
	must(err)
}

func TestRepair(t *testing.T) {
	testenv.NeedRoot(t)
	cfg := Config{Dir: t.TempDir()}
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { p.Close() }()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	crash := func() {
		t.Helper()
		p.dir.Close() // releases the flock as death does; nothing is cleaned
		p, err = Open(ctx, cfg)
		must(err)
	}
	_, err = p.Create(ctx, "a", dataset.Options{})
	must(err)
	dir := p.dir.Dataset("a")
	upper := filepath.Join(dir, "upper")
	must(os.WriteFile(filepath.Join(upper, "f"), []byte("1"), 0o644))
	// Died in Snapshot: after the record, after the move, after the fresh layer.
	for step := range 3 {
		r, err := p.dir.Load("a")
		must(err)
		r.Pending = &pooldir.Pending{Verb: "snapshot", Layer: "id"}
		must(pooldir.Save(dir, r))
		if step > 0 {
			must(os.Rename(upper, p.layer("id")))
		}
		if step > 1 {
			must(p.freshUpper(dir, []string{"id", emptyLayer}))
		}
		crash()
		if b, err := os.ReadFile(filepath.Join(upper, "f")); string(b) != "1" {
			t.Errorf("step %d: content = %q, %v", step, b, err)
		}
		if l, _ := os.ReadDir(filepath.Join(cfg.Dir, "layers")); len(l) != 1 {
			t.Errorf("step %d: layers left: %v", step, l)
		}
	}
	_, err = p.Snapshot(ctx, "a", "s")
	must(err)
	// Died in Rollback: after the record, after the old layer is gone.
	for step := range 2 {
		must(os.WriteFile(filepath.Join(upper, "g"), []byte("2"), 0o644))
		r, err := p.dir.Load("a")
		must(err)
		r.Pending = &pooldir.Pending{Verb: "rollback", Snapshot: r.Snapshots[0].ID}
		must(pooldir.Save(dir, r))
		if step > 0 {
			must(os.Rename(upper, p.dir.Temp()))
		}
		crash()
		if names, _ := os.ReadDir(upper); len(names) != 0 {
			t.Errorf("step %d: upper holds %v", step, names)
		}
	}
	// Died in Create, and a layer without a dataset.
	_, _, err = p.build(pooldir.Record{Lower: []string{emptyLayer}}, dataset.Options{})
	must(err)
	must(os.Mkdir(p.layer("stray"), 0o755))
	crash()
	l, err := p.List(ctx)
	must(err)
	if len(l) != 1 {
		t.Errorf("list = %v", l)
	}
	names, _ := os.ReadDir(filepath.Join(cfg.Dir, "layers"))
	if len(names) != 2 || slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() == "stray" }) {
		t.Errorf("layers = %v, want the snapshot's and the empty one", names)
	}
}
