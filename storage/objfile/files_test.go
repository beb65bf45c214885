package objfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// TestLayout: a large object is a file of its own where the original has it, with exactly its bytes, readable for a container and writable for nobody.
func TestLayout(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Config{})
	large, small := storagetest.NewID(), storagetest.NewID()
	data := storagetest.Data(1, 3<<20+17)
	if _, err := storagetest.Put(t.Context(), s, large, data); err != nil {
		t.Fatal(err)
	}
	if _, err := storagetest.Put(t.Context(), s, small, data[:100]); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "objects", large.Owner.String(), large.Object.String())
	got, err := os.ReadFile(name)
	if err != nil || string(got) != string(data) {
		t.Errorf("file: %d bytes, %v", len(got), err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode() != 0o444 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	f, info, err := s.OpenFile(t.Context(), large)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Delete(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != string(data) || info.Size != int64(len(data)) {
		t.Errorf("OpenFile: %d bytes, %v", len(got), err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the file can be written")
	}
	if _, _, err := s.OpenFile(t.Context(), small); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("OpenFile of a packed object: %v", err)
	}
	if _, _, err := s.OpenFile(t.Context(), storagetest.NewID()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("OpenFile of nothing: %v", err)
	}
}

// TestOrphans: a start takes away files that no record knows, when they are old enough, and nothing else.
func TestOrphans(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{OrphanAge: -1}
	s, err := Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	id := storagetest.NewID()
	if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(1, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old, fresh := storagetest.NewID(), storagetest.NewID()
	stranger := filepath.Join(dir, objectsDir, id.Owner.String(), "README")
	for _, name := range []string{objectPath(old), objectPath(fresh)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left by a crash"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(stranger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(dir, objectPath(old)), past, past); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Config{OrphanAge: time.Hour})
	exists := func(name string) bool {
		_, err := os.Stat(name)
		return !errors.Is(err, fs.ErrNotExist)
	}
	if _, err := s.sweep(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(dir, objectPath(old))) {
		t.Error("an old orphan is still there")
	}
	for _, name := range []string{objectPath(fresh), objectPath(id)} {
		if !exists(filepath.Join(dir, name)) {
			t.Errorf("%s is gone", name)
		}
	}
	if !exists(stranger) {
		t.Error("a file that is not ours is gone")
	}
}

// TestLeaks: a store that is closed leaves no goroutine and no open file.
func TestLeaks(t *testing.T) {
	fds := func() (names []string) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc")
		}
		for _, e := range entries {
			name, _ := os.Readlink("/proc/self/fd/" + e.Name())
			names = append(names, name)
		}
		return names
	}
	dir := t.TempDir()
	goroutines := runtime.NumGoroutine()
	for range 3 {
		s, err := Open(dir, Config{SegmentSize: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			id, data := storagetest.NewID(), storagetest.Data(1, i*20_000)
			if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
				t.Fatal(err)
			}
			if _, _, err := storagetest.Get(t.Context(), s, id, 0, -1); err != nil {
				t.Fatal(err)
			}
			w, err := s.Create(t.Context(), storagetest.NewID(), storage.CreateOptions{Size: -1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
			w.Cancel()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range fds() {
		if strings.HasPrefix(name, dir) {
			t.Errorf("%s is still open", name)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		runtime.Gosched() // those that are on their way out
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", n, goroutines, buf[:runtime.Stack(buf, true)])
	}
}
