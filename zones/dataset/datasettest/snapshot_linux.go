package datasettest

import (
	"fmt"
	"os"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/zones/dataset"
)

func snapshots(s *suite) {
	s.create("a")
	s.write("a", "f", "1")
	s.snap("a", "one")
	s.write("a", "f", "2")
	s.write("a", "g", "new")
	s.snap("a", "two")
	s.must(s.in("a", func(r *os.Root) error { return r.Remove("f") }))
	s.wantTree("a", "g=new")
	s.wantSnapshots("a", "one", "two")
	for snap, want := range map[string][]string{"one": {"f=1"}, "two": {"f=2", "g=new"}} {
		root, err := s.pool.SnapshotRoot(s.Context(), dataset.Ref{Dataset: "a", Snapshot: snap})
		s.must(err)
		if d := cmp.Diff(want, s.treeOf(root)); d != "" {
			s.Errorf("snapshot %s (-want +got):\n%s", snap, d)
		}
		if err := s.inRoot(root, func(r *os.Root) error { return r.WriteFile("x", nil, 0o644) }); err == nil {
			s.Error("a snapshot could be written")
		}
	}
}

func rollback(s *suite) {
	s.create("a")
	s.write("a", "f", "1")
	s.snap("a", "one")
	s.write("a", "f", "2")
	s.must(s.in("a", func(r *os.Root) error { return r.Mkdir("d", 0o755) }))
	s.snap("a", "two")
	s.write("a", "d/g", "3")
	for range 2 { // and again
		s.must(s.pool.Rollback(s.Context(), "a", "one"))
		s.wantTree("a", "f=1")
		s.wantSnapshots("a", "one")
		s.write("a", "f", "4")
	}
	s.snap("a", "two")
	s.wantSnapshots("a", "one", "two")
}

func deleteSnapshot(s *suite) {
	s.create("a")
	for i, n := range []string{"1", "2", "3"} {
		s.write("a", "f", fmt.Sprint(i))
		s.snap("a", n)
	}
	s.must(s.pool.DeleteSnapshot(s.Context(), "a", "2"))
	s.wantSnapshots("a", "1", "3")
	s.wantTree("a", "f=2")
	s.must(s.pool.Rollback(s.Context(), "a", "1"))
	s.wantTree("a", "f=0")
	s.want(s.pool.DeleteSnapshot(s.Context(), "a", "3"), dataset.ErrNotExist)
}

func clones(s *suite) {
	s.create("a")
	s.write("a", "f", "1")
	s.snap("a", "s")
	s.write("a", "f", "2")
	ref := dataset.Ref{Dataset: "a", Snapshot: "s"}
	i, err := s.pool.Clone(s.Context(), ref, "b", dataset.Options{Volatile: true})
	s.must(err)
	if i.Origin != ref || i.Name != "b" {
		s.Errorf("clone = %+v", i)
	}
	s.write("b", "g", "3")
	s.must(s.in("b", func(r *os.Root) error { return r.Rename("f", "h") }))
	s.wantTree("b", "g=3", "h=1")
	s.wantTree("a", "f=2")
	s.snap("b", "t")
	_, err = s.pool.Clone(s.Context(), dataset.Ref{Dataset: "b", Snapshot: "t"}, "c", dataset.Options{})
	s.must(err)
	s.wantTree("c", "g=3", "h=1")
}

func dependents(s *suite) {
	ctx, p := s.Context(), s.pool
	s.create("a")
	s.snap("a", "0")
	s.snap("a", "1")
	_, err := p.Clone(ctx, dataset.Ref{Dataset: "a", Snapshot: "1"}, "b", dataset.Options{})
	s.must(err)
	s.want(p.Delete(ctx, "a"), dataset.ErrDependents)
	s.want(p.DeleteSnapshot(ctx, "a", "1"), dataset.ErrDependents)
	s.want(p.Rollback(ctx, "a", "0"), dataset.ErrDependents)
	s.must(p.DeleteSnapshot(ctx, "a", "0"))
	s.wantSnapshots("a", "1")
	s.must(p.Delete(ctx, "b"))
	s.must(p.Delete(ctx, "a"))
	s.wantList()
}
