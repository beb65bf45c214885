package objfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// openStore opens a store that is closed at the end of the test.
func openStore(t testing.TB, dir string, cfg Config) *Store {
	t.Helper()
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// damageable is a store in a real directory, with storagetest.Corrupter.
type damageable struct {
	*Store
	dir string
}

func (d damageable) Corrupt(id storage.ObjectID, off int64) error {
	e, err := d.find(id)
	if err != nil {
		return err
	}
	name := objectPath(id)
	if !e.file {
		name, off = segmentName(e.at.seg), e.at.off+headerSize+off
	}
	return flipFile(filepath.Join(d.dir, name), off, 0x20)
}

func flipFile(name string, off int64, mask byte) error {
	if err := os.Chmod(name, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		return err
	}
	b[0] ^= mask
	if _, err := f.WriteAt(b[:], off); err != nil {
		return err
	}
	return f.Sync()
}

func TestNode(t *testing.T) {
	for name, cfg := range map[string]Config{
		"default":     {},
		"never packs": {PackLimit: -1},
		"packs more":  {PackLimit: 1 << 20, SegmentSize: 2 << 20},
		"one buffer":  {DirectMemory: 1 << 20, DirectFrom: 1, SegmentSize: 64 << 10},
		"no buffer":   {DirectMemory: 1, DirectFrom: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.TestNode(t, func(t *testing.T) storage.Node {
				dir := t.TempDir()
				return damageable{openStore(t, dir, cfg), dir}
			})
		})
	}
	t.Run("crashfs", func(t *testing.T) {
		storagetest.TestNode(t, func(t *testing.T) storage.Node {
			return openStore(t, "", Config{FS: storagetest.NewCrashFS(0), SegmentSize: 1 << 20})
		})
	})
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{SegmentSize: 256 << 10}
	var ids []storage.ObjectID
	data := func(i int) []byte { return storagetest.Data(uint64(i), i*i*37%150_000) }
	for round := range 4 {
		s, err := Open(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			got, _, err := storagetest.Get(t.Context(), s, id, 0, -1)
			if err != nil || string(got) != string(data(i)) {
				t.Fatalf("round %d: object %d: %d bytes, %v", round, i, len(got), err)
			}
		}
		u, err := s.Usage(t.Context())
		if err != nil || u.Objects != int64(len(ids)) {
			t.Fatalf("round %d: %d objects, %v; want %d", round, u.Objects, err, len(ids))
		}
		for range 40 {
			id := storagetest.NewID()
			if _, err := storagetest.Put(t.Context(), s, id, data(len(ids))); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		switch round {
		case 1: // the index is lost
			if err := os.RemoveAll(filepath.Join(dir, indexDirName)); err != nil {
				t.Fatal(err)
			}
		case 2: // FORMAT is lost
			if err := os.Remove(filepath.Join(dir, formatName)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	openStore(t, dir, Config{})
	if _, err := Open(dir, Config{}); !errors.Is(err, diskfs.ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
}

func TestNewerFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, formatName), formatFile(2, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, Config{}); err == nil {
		s.Close()
		t.Error("a store of a newer format was opened")
	}
}

func TestClosed(t *testing.T) {
	s := openStore(t, t.TempDir(), Config{})
	id := storagetest.NewID()
	if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(1, 1<<20)); err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Open(t.Context(), id, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := s.Create(t.Context(), storagetest.NewID(), storage.CreateOptions{Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Cancel()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if _, err := s.Stat(t.Context(), id); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("Stat after Close: %v", err)
	}
	if n, err := io.Copy(io.Discard, r); err != nil || n != 1<<20 {
		t.Errorf("a reader that was open read %d bytes, %v", n, err)
	}
}

func TestCombine(t *testing.T) {
	for _, n := range []int{0, 1, 3, 1000, 65536, 100_001} {
		for _, m := range []int{0, 1, 7, 4096, 65537} {
			a, b := storagetest.Data(1, n), storagetest.Data(2, m)
			want := checksum(append(append([]byte{}, a...), b...))
			if got := combine(checksum(a), checksum(b), int64(m)); got != want {
				t.Errorf("combine of %d and %d bytes = %08x, want %08x", n, m, got, want)
			}
		}
	}
}
