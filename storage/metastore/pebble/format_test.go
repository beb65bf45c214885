package pebble

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore"
)

var writeSamples = flag.Bool("write-samples", false, "write testdata/format1 anew, which only a change of a format that was never released justifies")

// TestFormats opens what older programs have written: directories and backups of each format. The samples stay as they are.
func TestFormats(t *testing.T) {
	sample := filepath.Join("testdata", "format1")
	if *writeSamples {
		writeSample(t, sample)
	}
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(sample, "store"))); err != nil {
		t.Fatal(err)
	}
	checkSample(t, dir)
	backup, err := os.Open(filepath.Join(sample, "backup"))
	if err != nil {
		t.Fatal(err)
	}
	defer backup.Close()
	restored := filepath.Join(t.TempDir(), "restored")
	if err := Restore(t.Context(), backup, restored, Config{}); err != nil {
		t.Fatal(err)
	}
	checkSample(t, restored)
}

func writeSample(t *testing.T, sample string) {
	if err := os.RemoveAll(sample); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(sample, 0o777); err != nil {
		t.Fatal(err)
	}
	s, err := Open(filepath.Join(sample, "store"), Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Define(t.Context(), crashBucket); err != nil {
		t.Fatal(err)
	}
	// Half of it in a table, half in the log.
	for i := range 10 {
		if i == 5 {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		for w := range 3 {
			if err := crashRound(t.Context(), s, w, i+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.BackupFile(t.Context(), filepath.Join(sample, "backup")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func checkSample(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Define(t.Context(), crashBucket); err != nil {
		t.Errorf("Define of the schema as it was: %v", err)
	}
	checkCrash(t, s, []int{10, 10, 10})
	r, err := s.Get(t.Context(), "pairs", metastore.Key{Partition: "w1", Name: "left"})
	if err != nil || r.Etag == "" || r.Modified.Year() != 2026 || string(r.Value) != `{"round":10,"writer":1}` {
		t.Errorf("record %+v, %v", r, err)
	}
	n := 0
	for _, err := range s.Watch(t.Context(), "", "pairs") {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 6 {
			break // two records of three writers, notices of a key being merged
		}
	}
	for i := range 3 {
		if err := crashRound(t.Context(), s, i, 11); err != nil {
			t.Error(err)
		}
	}
}

// TestNewerFormat refuses what it does not know.
func TestNewerFormat(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	batch := s.db.NewBatch()
	if err := batch.Set(metaKey("format"), []byte("2"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.apply(batch); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, Config{}); err == nil {
		s.Close()
		t.Error("a store of a newer format was opened")
	}
}
