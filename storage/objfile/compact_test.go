package objfile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// reopen closes a store and opens it again, perhaps without its index.
func reopen(t *testing.T, s *Store, fs *storagetest.CrashFS, cfg Config, rebuild bool) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if rebuild {
		if err := diskfs.RemoveAll(fs, indexDirName); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open("", cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

func segmentOf(t *testing.T, s *Store, id storage.ObjectID) uint64 {
	t.Helper()
	e, ok, err := s.index.lookup(id)
	if err != nil || !ok {
		t.Fatalf("lookup of %s: %v, %v", id, ok, err)
	}
	return e.at.seg
}

// TestPurgeOutlivesItsSegment: while the put of a purged object still stands in an old segment, an index that is built anew must not find it alive,
// also when the segment that holds the purge has been compacted away; and a purge that is written anew must not end a later put of the same id.
func TestPurgeOutlivesItsSegment(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("put again=%v", again), func(t *testing.T) {
			fs := storagetest.NewCrashFS(0)
			cfg := crashConfig(fs, -1)
			cfg.PackLimit = 32 << 10
			s, err := Open("", cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { s.Close() }()
			put := func(size int) storage.ObjectID {
				id := storagetest.NewID()
				if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(uint64(size), size)); err != nil {
					t.Fatal(err)
				}
				return id
			}
			del := func(id storage.ObjectID) {
				if err := s.Delete(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			// First segment: the victim, and enough that lives.
			victim, keep := put(1000), put(32<<10)
			first := segmentOf(t, s, victim)
			// Later segments: the purge of the victim, among what will be dead.
			var dead []storage.ObjectID
			for segmentOf(t, s, append(dead, keep)[max(0, len(dead)-1)]) == first {
				dead = append(dead, put(20<<10))
			}
			del(victim)
			if n, err := s.Reap(t.Context()); err != nil || n != 1 {
				t.Fatalf("Reap = %d, %v", n, err)
			}
			holder := s.active.n
			for s.active.n == holder {
				dead = append(dead, put(20<<10))
			}
			if again {
				if _, err := storagetest.Put(t.Context(), s, victim, storagetest.Data(1000, 1000)); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range dead {
				del(id)
			}
			if _, err := s.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := fs.Stat(segmentName(holder)); err == nil {
				t.Fatal("the segment with the purge has not been compacted: the test tests nothing")
			}
			if _, err := fs.Stat(segmentName(first)); err != nil {
				t.Fatal("the segment with the put is gone: the test tests nothing")
			}
			s = reopen(t, s, fs, cfg, true)
			_, err = s.Stat(t.Context(), victim)
			if again && err != nil || !again && !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("Stat of the purged object after the index was lost: %v", err)
			}
			if _, err := s.Stat(t.Context(), keep); err != nil {
				t.Errorf("Stat of a live object: %v", err)
			}
		})
	}
}

// TestSpaceComesBack: a store that is written and emptied over and over does not grow.
func TestSpaceComesBack(t *testing.T) {
	fs := storagetest.NewCrashFS(0)
	cfg := crashConfig(fs, -1)
	s, err := Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	rng := rand.New(rand.NewPCG(1, 1))
	journal := func() (n int64) {
		for name, size := range fs.Files() {
			if len(name) > len(journalDir) && name[:len(journalDir)] == journalDir {
				n += size
			}
		}
		return n
	}
	keep := storagetest.NewID()
	if _, err := storagetest.Put(t.Context(), s, keep, storagetest.Data(7, 1500)); err != nil {
		t.Fatal(err)
	}
	for round := range 30 {
		var ids []storage.ObjectID
		for range 100 {
			size := rng.IntN(2000)
			if rng.IntN(20) == 0 {
				size = 100_000
			}
			id := storagetest.NewID()
			if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(1, size)); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		for _, id := range ids {
			if err := s.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := journal(); n > 8*cfg.SegmentSize {
			t.Fatalf("round %d: one object lives, and the journal has %d bytes", round, n)
		}
		if round%10 == 9 {
			s = reopen(t, s, fs, cfg, round%20 == 9)
		}
	}
	for name := range fs.Files() {
		if len(name) > len(objectsDir) && name[:len(objectsDir)] == objectsDir {
			t.Errorf("file %s is left", name)
		}
	}
	if got, _, err := storagetest.Get(t.Context(), s, keep, 0, -1); err != nil || !bytes.Equal(got, storagetest.Data(7, 1500)) {
		t.Errorf("the object that lives: %d bytes, %v", len(got), err)
	}
	// What the index says of the segments is what an index built anew would say.
	before := liveBytes(s)
	s = reopen(t, s, fs, cfg, true)
	if after := liveBytes(s); before != after {
		t.Errorf("live bytes %d, after building the index anew %d", before, after)
	}
}

func liveBytes(s *Store) (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.st.segs {
		n += st.live
	}
	return n
}

// TestGrace follows a deleted object through its time.
func TestGrace(t *testing.T) {
	now := time.Now()
	fs := storagetest.NewCrashFS(0)
	cfg := crashConfig(fs, time.Hour)
	cfg.Now = func() time.Time { return now }
	s, err := Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	for _, size := range []int{100, 100_000} {
		id := storagetest.NewID()
		if _, err := storagetest.Put(t.Context(), s, id, storagetest.Data(1, size)); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		now = now.Add(59 * time.Minute)
		if n, err := s.Reap(t.Context()); n != 0 || err != nil {
			t.Errorf("Reap within the grace period = %d, %v", n, err)
		}
		s = reopen(t, s, fs, cfg, true)
		if err := s.Undelete(t.Context(), id); err != nil {
			t.Errorf("Undelete within the grace period: %v", err)
		}
		if err := s.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Hour)
		if err := s.Undelete(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Undelete after the grace period, not reaped yet: %v", err)
		}
		if n, err := s.Reap(t.Context()); n != 1 || err != nil {
			t.Errorf("Reap after the grace period = %d, %v", n, err)
		}
		if _, err := fs.Stat(objectPath(id)); err == nil {
			t.Error("the file of a purged object is still there")
		}
		if u, err := s.Usage(t.Context()); err != nil || u.Tombstones != 0 {
			t.Errorf("Usage = %+v, %v", u, err)
		}
	}
}
