package datasettest

import (
	"errors"
	"io/fs"
	"os"
	"strings"
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
