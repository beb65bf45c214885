package datasettest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/mobulacloud/mobula/zones/dataset"
)

func created(s *suite) {
	s.create("a")
	i, err := s.pool.Get(s.Context(), "a")
	s.must(err)
	if i.Name != "a" || i.Created.IsZero() || i.Origin != (dataset.Ref{}) || len(i.Snapshots) != 0 {
		s.Errorf("info = %+v", i)
	}
	s.wantTree("a")
	s.must(s.in("a", func(r *os.Root) error {
		fi, err := r.Stat(".")
		if err == nil && fi.Mode() != fs.ModeDir|0o755 {
			err = fmt.Errorf("mode of the top is %v", fi.Mode())
		}
		return err
	}))
	s.create("b")
	s.wantList("a", "b")
	if st, err := s.pool.Stats(s.Context()); err != nil || st.Datasets != 2 || st.Size <= 0 || st.Free <= 0 || st.Free > st.Size {
		s.Errorf("stats = %+v, %v", st, err)
	}
}

func names(s *suite) {
	for _, n := range []string{"", ".", "..", "a/b", "/a", ".a", "-a", "a b", "ä", strings.Repeat("x", dataset.MaxName+1)} {
		_, err := s.pool.Create(s.Context(), n, dataset.Options{})
		s.want(err, dataset.ErrBadName)
		_, err = s.pool.Get(s.Context(), n)
		s.want(err, dataset.ErrBadName)
	}
	s.create("a")
	for _, n := range []string{"", "..", "a/b", "a b"} {
		_, err := s.pool.Snapshot(s.Context(), "a", n)
		s.want(err, dataset.ErrBadName)
	}
	s.snap("a", "A-z_0.9:%")
	s.wantSnapshots("a", "A-z_0.9:%")
}

func taken(s *suite) {
	s.create("a")
	s.write("a", "f", "1")
	_, err := s.pool.Create(s.Context(), "a", dataset.Options{})
	s.want(err, dataset.ErrExist)
	s.want(err, fs.ErrExist)
	s.snap("a", "s")
	_, err = s.pool.Snapshot(s.Context(), "a", "s")
	s.want(err, dataset.ErrExist)
	_, err = s.pool.Clone(s.Context(), dataset.Ref{Dataset: "a", Snapshot: "s"}, "a", dataset.Options{})
	s.want(err, dataset.ErrExist)
	s.create("b")
	s.want(s.pool.Rename(s.Context(), "b", "a"), dataset.ErrExist)
	s.wantTree("a", "f=1")
	s.wantSnapshots("a", "s")
	s.wantList("a", "b")
}

func missing(s *suite) {
	ctx, p := s.Context(), s.pool
	s.create("a")
	s.snap("a", "s")
	_, err := p.Get(ctx, "x")
	s.want(err, dataset.ErrNotExist)
	s.want(err, fs.ErrNotExist)
	_, err = p.Root(ctx, "x")
	s.want(err, dataset.ErrNotExist)
	_, err = p.Usage(ctx, "x")
	s.want(err, dataset.ErrNotExist)
	_, err = p.Snapshot(ctx, "x", "s")
	s.want(err, dataset.ErrNotExist)
	_, err = p.Clone(ctx, dataset.Ref{Dataset: "a", Snapshot: "x"}, "b", dataset.Options{})
	s.want(err, dataset.ErrNotExist)
	_, err = p.Clone(ctx, dataset.Ref{Dataset: "x", Snapshot: "s"}, "b", dataset.Options{})
	s.want(err, dataset.ErrNotExist)
	for _, err := range []error{
		p.Delete(ctx, "x"), p.DeleteSnapshot(ctx, "a", "x"), p.DeleteSnapshot(ctx, "x", "s"), p.Rollback(ctx, "a", "x"),
		p.Rename(ctx, "x", "y"), p.Send(ctx, &bytes.Buffer{}, dataset.Ref{Dataset: "a", Snapshot: "x"}, ""), p.SetQuota(ctx, "x", 0),
	} {
		s.want(err, dataset.ErrNotExist)
	}
	s.wantList("a")
}

func rename(s *suite) {
	ctx, p := s.Context(), s.pool
	s.create("a")
	s.write("a", "f", "1")
	s.snap("a", "s")
	_, err := p.Clone(ctx, dataset.Ref{Dataset: "a", Snapshot: "s"}, "b", dataset.Options{})
	s.must(err)
	s.must(p.Rename(ctx, "a", "c"))
	s.wantList("b", "c")
	s.wantTree("c", "f=1")
	s.wantSnapshots("c", "s")
	if i, err := p.Get(ctx, "b"); err != nil || i.Origin.String() != "c@s" {
		s.Errorf("origin of the clone = %v, %v", i.Origin, err)
	}
	s.want(p.Delete(ctx, "c"), dataset.ErrDependents)
	s.create("a")
	s.wantTree("a")
}

func deleted(s *suite) {
	s.create("a")
	s.write("a", "f", "1")
	s.snap("a", "s")
	s.must(s.pool.Delete(s.Context(), "a"))
	s.wantList()
	s.want(s.pool.Delete(s.Context(), "a"), dataset.ErrNotExist)
	s.create("a")
	s.wantTree("a")
	s.wantSnapshots("a")
}
