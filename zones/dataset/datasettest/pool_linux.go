package datasettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// TestPool runs the suite. newPlace makes a fresh place for a pool and returns a function that opens the pool there; the suite calls it
// again to open what an earlier one closed. The suite closes every pool; newPlace's clean-up runs later.
func TestPool(t *testing.T, newPlace func(t *testing.T) (open func() (dataset.Pool, error))) {
	tests := []struct {
		name string
		test func(*suite)
	}{
		{"a new dataset is empty and described", created},
		{"names are checked", names},
		{"a taken name is refused and nothing changes", taken},
		{"what is not there is ErrNotExist", missing},
		{"a snapshot keeps what the dataset loses", snapshots},
		{"a rollback brings back the snapshot and drops newer ones", rollback},
		{"a deleted snapshot leaves the others", deleteSnapshot},
		{"a clone is a copy of its own", clones},
		{"an origin with clones stays", dependents},
		{"a rename takes snapshots and clones along", rename},
		{"a deleted dataset is gone", deleted},
		{"a full stream makes an equal dataset", fullStream},
		{"a cut stream makes nothing", cutStream},
		{"an incremental stream brings a copy further", incrementalStream},
		{"a quota holds", quota},
		{"a quota that cannot be kept is refused", noQuota},
		{"a dataset within another's quota counts there", within},
		{"usage grows and shrinks", usage},
		{"all is there when the pool is opened again", reopened},
		{"a cancelled context changes nothing", cancelled},
		{"many at once", concurrent},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			s := &suite{T: t, open: newPlace(t)}
			s.reopen()
			t.Cleanup(func() { s.pool.Close() })
			tt.test(s)
		})
	}
}

type suite struct {
	*testing.T
	open func() (dataset.Pool, error)
	pool dataset.Pool
}

func (s *suite) reopen() {
	s.Helper()
	if s.pool != nil {
		s.must(s.pool.Close())
	}
	p, err := s.open()
	s.must(err)
	s.pool = p
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) want(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("error = %v, want %v", err, want)
	}
}

func (s *suite) create(name string) {
	s.Helper()
	_, err := s.pool.Create(s.Context(), name, dataset.Options{})
	s.must(err)
}

func (s *suite) snap(name, snap string) {
	s.Helper()
	_, err := s.pool.Snapshot(s.Context(), name, snap)
	s.must(err)
}

// in runs f on the tree of a dataset.
func (s *suite) in(name string, f func(r *os.Root) error) error {
	s.Helper()
	root, err := s.pool.Root(s.Context(), name)
	s.must(err)
	return s.inRoot(root, f)
}

func (s *suite) inRoot(root dataset.Root, f func(r *os.Root) error) error {
	s.Helper()
	m, err := root.Open(dataset.OpenOptions{})
	s.must(err)
	defer m.Close()
	r, err := m.OpenRoot()
	s.must(err)
	defer r.Close()
	return f(r)
}

func (s *suite) write(name, file, body string) {
	s.Helper()
	s.must(s.in(name, func(r *os.Root) error { return r.WriteFile(file, []byte(body), 0o644) }))
}

// tree gives a dataset's files and contents, "name=body", sorted.
func (s *suite) tree(name string) []string {
	s.Helper()
	root, err := s.pool.Root(s.Context(), name)
	s.must(err)
	return s.treeOf(root)
}

func (s *suite) treeOf(root dataset.Root) []string {
	s.Helper()
	out := []string{}
	s.must(s.inRoot(root, func(r *os.Root) error {
		return fs.WalkDir(r.FS(), ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || p == "." {
				return err
			}
			if d.IsDir() {
				out = append(out, p+"/")
				return nil
			}
			b, err := r.ReadFile(p)
			out = append(out, p+"="+string(b))
			return err
		})
	}))
	return out
}

func (s *suite) wantTree(name string, want ...string) {
	s.Helper()
	if want == nil {
		want = []string{}
	}
	if d := cmp.Diff(want, s.tree(name)); d != "" {
		s.Errorf("tree of %s (-want +got):\n%s", name, d)
	}
}

func (s *suite) wantSnapshots(name string, want ...string) {
	s.Helper()
	i, err := s.pool.Get(s.Context(), name)
	s.must(err)
	var got []string
	for _, sn := range i.Snapshots {
		got = append(got, sn.Name)
		if sn.Created.IsZero() {
			s.Errorf("snapshot %s has no time", sn.Name)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("snapshots of %s (-want +got):\n%s", name, d)
	}
}

func (s *suite) wantList(want ...string) {
	s.Helper()
	l, err := s.pool.List(s.Context())
	s.must(err)
	var got []string
	for _, i := range l {
		got = append(got, i.Name)
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("datasets (-want +got):\n%s", d)
	}
}

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

// fill writes until it is refused or n bytes are on disk.
func (s *suite) fill(name string, n int) error {
	s.Helper()
	return s.in(name, func(r *os.Root) error {
		f, err := r.Create("big")
		if err != nil {
			return err
		}
		defer f.Close()
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = byte(i * 7)
		}
		for ; n > 0; n -= len(block) {
			if _, err := f.Write(block); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		return f.Close()
	})
}

func quota(s *suite) {
	if !s.pool.Capabilities().Quota {
		s.Skip("the pool declares no quota")
	}
	ctx, p := s.Context(), s.pool
	s.create("image")
	s.must(s.fill("image", 8<<20))
	s.snap("image", "s")
	_, err := p.Clone(ctx, dataset.Ref{Dataset: "image", Snapshot: "s"}, "a", dataset.Options{Quota: 4 << 20})
	s.must(err)
	if i, _ := p.Get(ctx, "a"); i.Quota != 4<<20 {
		s.Errorf("quota = %d", i.Quota)
	}
	s.must(s.in("a", func(r *os.Root) error { return r.WriteFile("small", []byte("x"), 0o644) }))
	if err := s.fill("a", 16<<20); err == nil {
		s.Error("16 MiB fit into a quota of 4 MiB")
	}
	s.must(p.SetQuota(ctx, "a", 0))
	s.must(s.fill("a", 16<<20))
	s.must(p.SetQuota(ctx, "a", 64<<20))
	s.snap("a", "s")
	s.must(p.Rollback(ctx, "a", "s"))
	if err := s.fill("a", 100<<20); err == nil {
		s.Error("the quota is lost with a rollback")
	}
}

func noQuota(s *suite) {
	if s.pool.Capabilities().Quota {
		s.Skip("the pool has quotas")
	}
	_, err := s.pool.Create(s.Context(), "a", dataset.Options{Quota: 1 << 20})
	s.want(err, dataset.ErrUnsupported)
	_, err = s.pool.Create(s.Context(), "a", dataset.Options{Within: "b"})
	s.want(err, dataset.ErrUnsupported)
	s.wantList()
	s.create("a")
	s.want(s.pool.SetQuota(s.Context(), "a", 1<<20), dataset.ErrUnsupported)
	s.must(s.pool.SetQuota(s.Context(), "a", 0))
}

func within(s *suite) {
	if !s.pool.Capabilities().SharedQuota {
		s.Skip("the pool declares no shared quota")
	}
	_, err := s.pool.Create(s.Context(), "a", dataset.Options{Quota: 8 << 20})
	s.must(err)
	_, err = s.pool.Create(s.Context(), "data", dataset.Options{Within: "a"})
	s.must(err)
	s.must(s.fill("a", 5<<20))
	if err := s.fill("data", 5<<20); err == nil {
		s.Error("5 and 5 MiB fit into a quota of 8 MiB")
	}
	s.must(s.pool.Delete(s.Context(), "a"))
	s.wantList("data")
}

func usage(s *suite) {
	s.create("a")
	before, err := s.pool.Usage(s.Context(), "a")
	s.must(err)
	s.must(s.fill("a", 4<<20))
	full, err := s.pool.Usage(s.Context(), "a")
	s.must(err)
	if grown := full.Used - before.Used; grown < 4<<20 || grown > 5<<20 {
		s.Errorf("4 MiB written, usage grew by %d", grown)
	}
	s.must(s.in("a", func(r *os.Root) error { return r.Remove("big") }))
	after, err := s.pool.Usage(s.Context(), "a")
	s.must(err)
	if after.Used > before.Used+1<<20 {
		s.Errorf("usage after removal = %d, before the write %d", after.Used, before.Used)
	}
}

func reopened(s *suite) {
	ctx := s.Context()
	s.create("a")
	s.write("a", "f", "1")
	s.snap("a", "s")
	s.write("a", "f", "2")
	_, err := s.pool.Clone(ctx, dataset.Ref{Dataset: "a", Snapshot: "s"}, "b", dataset.Options{})
	s.must(err)
	before, err := s.pool.List(ctx)
	s.must(err)
	s.reopen()
	after, err := s.pool.List(ctx)
	s.must(err)
	if d := cmp.Diff(before, after); d != "" {
		s.Errorf("list after opening again (-before +after):\n%s", d)
	}
	s.wantTree("a", "f=2")
	s.wantTree("b", "f=1")
	s.must(s.pool.Rollback(ctx, "a", "s"))
	s.wantTree("a", "f=1")
}

func cancelled(s *suite) {
	s.create("a")
	s.snap("a", "s")
	var b bytes.Buffer
	s.must(s.pool.Send(s.Context(), &b, dataset.Ref{Dataset: "a", Snapshot: "s"}, ""))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.pool.Receive(ctx, &b, "b", "s", dataset.Options{})
	s.want(err, context.Canceled)
	s.want(s.pool.Send(ctx, &bytes.Buffer{}, dataset.Ref{Dataset: "a", Snapshot: "s"}, ""), context.Canceled)
	s.wantList("a")
}

func concurrent(s *suite) {
	s.create("image")
	s.write("image", "f", "1")
	s.snap("image", "s")
	var wg sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		wg.Go(func() {
			name := fmt.Sprintf("z%02d", i)
			_, err := s.pool.Clone(s.Context(), dataset.Ref{Dataset: "image", Snapshot: "s"}, name, dataset.Options{Volatile: i%2 == 0})
			if err == nil {
				_, err = s.pool.Snapshot(s.Context(), name, "x")
			}
			if err == nil && i%3 == 0 {
				err = s.pool.Delete(s.Context(), name)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	s.must(errors.Join(errs...))
	l, err := s.pool.List(s.Context())
	s.must(err)
	if len(l) != 9 {
		s.Errorf("%d datasets, want 9", len(l))
	}
}
