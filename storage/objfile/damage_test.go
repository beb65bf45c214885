package objfile

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// TestFlippedBytes flips bytes anywhere on the disk, in content, records, check-sum lists, the index and FORMAT, and demands that no reader ever gets a wrong one: an object is
// either whole or reported damaged or, where its record can no longer be found, absent; those that were not hit stay.
func TestFlippedBytes(t *testing.T) {
	t.Parallel()
	start := seed(t)
	more := budget()
	for round := range rounds(40, 3000) {
		if !more() {
			break
		}
		rng := rand.New(rand.NewPCG(start+uint64(round), 1))
		disk := storagetest.NewCrashFS(0)
		cfg := crashConfig(disk, time.Hour)
		s, err := Open("", cfg)
		if err != nil {
			t.Fatal(err)
		}
		objects := map[storage.ObjectID][]byte{}
		for range 30 {
			size := rng.IntN(2 << 10)
			if rng.IntN(4) == 0 {
				size = rng.IntN(300 << 10)
			}
			id, data := storagetest.NewID(), storagetest.Data(rng.Uint64(), size)
			if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
				t.Fatal(err)
			}
			objects[id] = data
		}
		if rng.IntN(3) > 0 { // damage met by a start, or by a store that runs
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = nil
		}
		var names []string
		files := disk.Files()
		for name := range files {
			if files[name] > 0 && (s == nil || !strings.HasPrefix(name, indexDirName)) {
				names = append(names, name)
			}
		}
		flips := 1 + rng.IntN(3)
		var hit []string
		for range flips {
			name := names[rng.IntN(len(names))]
			if err := disk.Flip(name, rng.Int64N(files[name]), 1<<rng.IntN(8)); err != nil {
				t.Fatal(err)
			}
			hit = append(hit, name)
		}
		if s == nil && rng.IntN(2) == 0 {
			if err := diskfs.RemoveAll(disk, indexDirName); err != nil {
				t.Fatal(err)
			}
		}
		if s == nil {
			if s, err = Open("", cfg); err != nil {
				t.Fatalf("seed %d: flips in %q: Open: %v", start+uint64(round), hit, err)
			}
		}
		lost := 0
		for id, want := range objects {
			got, _, err := storagetest.Get(t.Context(), s, id, 0, -1)
			switch {
			case len(got) > len(want) || !bytes.Equal(got, want[:len(got)]):
				t.Fatalf("seed %d: flips in %q: wrong bytes served", start+uint64(round), hit)
			case err == nil && len(got) != len(want):
				t.Fatalf("seed %d: flips in %q: short content without an error", start+uint64(round), hit)
			case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrNotFound):
				lost++
			case err != nil && s.readOnlyError() == nil:
				t.Fatalf("seed %d: flips in %q: %v", start+uint64(round), hit, err)
			}
		}
		if lost > flips {
			t.Fatalf("seed %d: %d flips in %q lost %d objects", start+uint64(round), flips, hit, lost)
		}
		if s.readOnlyError() == nil { // a damaged index is rebuilt by the next start
			for id, data := range objects {
				if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
					t.Fatalf("seed %d: flips in %q: heal: %v", start+uint64(round), hit, err)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Logf("seed %d: flips in %q: Close: %v", start+uint64(round), hit, err)
		}
	}
}

// TestQuarantine: a damaged copy is kept for the operator, reported once, counted, and makes room for a new one.
func TestQuarantine(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var seen []Damage
	cfg := Config{ScrubRate: -1, OnDamage: func(d Damage) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, d)
	}}
	s := openStore(t, dir, cfg)
	node := damageable{s, dir}
	for _, size := range []int{1000, 300_000} {
		seen = nil
		id, data := storagetest.NewID(), storagetest.Data(1, size)
		if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
			t.Fatal(err)
		}
		if err := node.Corrupt(id, int64(size-1)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, _, err := storagetest.Get(t.Context(), s, id, 0, -1)
				if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("Get: %v", err)
				}
			})
		}
		wg.Wait()
		if len(seen) != 1 || seen[0].ID != id || seen[0].Size != int64(size) || seen[0].Reason == "" {
			t.Fatalf("damage reported: %+v", seen)
		}
		if st, err := os.Stat(filepath.Join(dir, seen[0].Quarantine)); err != nil || st.Size() < int64(size) {
			t.Errorf("what is left: %v, %v", st, err)
		}
		if _, err := os.Stat(filepath.Join(dir, objectPath(id))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the damaged file is still in its place: %v", err)
		}
		if _, err := storagetest.Put(t.Context(), s, id, data); err != nil {
			t.Errorf("put of a new copy: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, cfg)
	if u, err := s.Usage(t.Context()); err != nil || u.Damaged != 2 || u.Objects != 2 {
		t.Errorf("Usage after a restart: %+v, %v", u, err)
	}
}

// TestMissing: a record without its file, or with a file of another length, is damage.
func TestMissing(t *testing.T) {
	for name, spoil := range map[string]func(name string) error{
		"no file":    os.Remove,
		"empty file": func(name string) error { return errors.Join(os.Chmod(name, 0o600), os.Truncate(name, 0)) },
		"short file": func(name string) error { return errors.Join(os.Chmod(name, 0o600), os.Truncate(name, 250_000)) },
		"long file":  func(name string) error { return errors.Join(os.Chmod(name, 0o600), os.Truncate(name, 350_000)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir, Config{})
			id := storagetest.NewID()
			if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(1, 300_000)); err != nil {
				t.Fatal(err)
			}
			if err := spoil(filepath.Join(dir, objectPath(id))); err != nil {
				t.Fatal(err)
			}
			if _, _, err := storagetest.Get(t.Context(), s, id, 0, -1); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("Get: %v", err)
			}
			if _, err := s.Stat(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Stat: %v", err)
			}
			if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(1, 300_000)); err != nil {
				t.Errorf("Put of a new copy: %v", err)
			}
		})
	}
}

// TestScrub finds damage by itself, the longest unverified first, and says how far it is.
func TestScrub(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	disk := storagetest.NewCrashFS(0)
	cfg := crashConfig(disk, time.Hour)
	cfg.Now = func() time.Time { return now }
	var bad []storage.ObjectID
	cfg.OnDamage = func(d Damage) { bad = append(bad, d.ID) }
	s, err := Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	var ids []storage.ObjectID
	for i := range 20 {
		id := storagetest.NewID()
		if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(1, 100+i%4*50_000)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		now = now.Add(time.Minute)
	}
	oldest := func() time.Time {
		u, err := s.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u.OldestUnverified
	}
	if got, want := oldest(), time.Unix(1_000_000, 0); !got.Equal(want) {
		t.Errorf("OldestUnverified = %v, want %v", got, want)
	}
	if err := disk.Flip(objectPath(ids[7]), 60_000, 1); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Scrub(t.Context(), time.Unix(1_000_000+5*60, 0), 0); n != 5 || err != nil {
		t.Errorf("Scrub of what was not verified for long = %d, %v; want 5", n, err)
	}
	if got, want := oldest(), time.Unix(1_000_000+5*60, 0); !got.Equal(want) || len(bad) != 0 {
		t.Errorf("OldestUnverified = %v, want %v; damaged %v", got, want, bad)
	}
	if n, err := s.Scrub(t.Context(), now, 0); n != 15 || err != nil {
		t.Errorf("Scrub of the rest = %d, %v; want 15", n, err)
	}
	if len(bad) != 1 || bad[0] != ids[7] {
		t.Errorf("damaged: %v, want %v", bad, ids[7])
	}
	if got := oldest(); !got.Equal(now) {
		t.Errorf("OldestUnverified = %v, want %v", got, now)
	}
}

// TestUnreadable: an object that the disk cannot read is given up if the disk can read others, and kept if it can read nothing.
func TestUnreadable(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	disk := storagetest.NewFaultFS(storagetest.NewCrashFS(0))
	cfg := crashConfig(nil, time.Hour)
	cfg.FS = disk
	cfg.Now = func() time.Time { return now }
	s, err := Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	var ids []storage.ObjectID
	for range 10 {
		id := storagetest.NewID()
		if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(1, 100_000)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		now = now.Add(time.Minute)
	}
	damaged := func() int64 {
		u, err := s.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u.Damaged
	}
	eio := storagetest.FailWith(storagetest.ErrFault).On("readat")
	disk.Set(eio.Under(objectsDir))
	_, _ = s.Scrub(t.Context(), now, 0)
	if _, _, err := storagetest.Get(t.Context(), s, ids[0], 0, -1); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("Get from a disk that reads nothing: %v", err)
	}
	if n := damaged(); n != 0 {
		t.Errorf("a disk that reads nothing: %d copies given up", n)
	}
	disk.Set(eio.Under(objectPath(ids[3])))
	if _, err := s.Scrub(t.Context(), now, 0); err != nil {
		t.Errorf("Scrub: %v", err)
	}
	if n := damaged(); n != 1 {
		t.Errorf("a disk that cannot read one object: %d copies given up", n)
	}
	if _, err := s.Stat(t.Context(), ids[3]); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat of the object given up: %v", err)
	}
}
