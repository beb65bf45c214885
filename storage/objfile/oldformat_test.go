package objfile

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

var update = flag.Bool("update", false, "write testdata/v1 anew; only while version 1 is not released")

// sampleObjects are in testdata/v1: packed, in a file, empty, deleted.
var sampleSizes = []int{100, 3000, 0, 50, 140_000}

const (
	sampleDeleted = 3
	sampleDir     = "testdata/v1"
)

func sampleID(i int) storage.ObjectID {
	return storage.ObjectID{Owner: uuid.UUID{15: 1}, Object: uuid.UUID{0: byte(i + 1), 15: 2}}
}

// TestOldFormat opens a directory that the first version of the format wrote. Later versions add samples, and keep this one.
func TestOldFormat(t *testing.T) {
	cfg := Config{PackLimit: 1000, SegmentSize: 64 << 10, Grace: 1 << 62, ReapInterval: -1, ScrubRate: -1}
	if *update {
		writeSample(t, cfg)
	}
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(dir, os.DirFS(sampleDir)); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the second with an index of today
		s, err := Open(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i, size := range sampleSizes {
			got, _, err := storagetest.Get(t.Context(), s, sampleID(i), 0, -1)
			if i == sampleDeleted {
				if err == nil {
					t.Error("the deleted object is there")
				}
				continue
			}
			if err != nil || string(got) != string(storagetest.Data(uint64(i), size)) {
				t.Errorf("round %d: object %d: %d bytes, %v", round, i, len(got), err)
			}
		}
		if u, err := s.Usage(t.Context()); err != nil || u.Objects != 4 || u.Tombstones != 1 || u.Damaged != 0 {
			t.Errorf("round %d: %+v, %v", round, u, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func writeSample(t *testing.T, cfg Config) {
	if err := os.RemoveAll(sampleDir); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_750_000_000, 0)
	cfg.Now = func() time.Time { return now }
	s, err := Open(sampleDir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, size := range sampleSizes {
		if _, err := storagetest.Put(t.Context(), s, sampleID(i), storagetest.Data(uint64(i), size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), sampleID(sampleDeleted)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{indexDirName, quarantineDir, lockName} {
		if err := os.RemoveAll(filepath.Join(sampleDir, name)); err != nil {
			t.Fatal(err)
		}
	}
}
