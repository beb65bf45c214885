package objfile

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// TestAgainst compares random histories with a node in memory, across restarts, power cuts, reaping and the loss of the index.
func TestAgainst(t *testing.T) {
	t.Parallel()
	start := seed(t)
	more := budget()
	for round := range rounds(20, 1000) {
		if !more() {
			break
		}
		seed := start + uint64(round)
		rng := rand.New(rand.NewPCG(seed, 8))
		disk := storagetest.NewCrashFS(0)
		s, err := Open("", crashConfig(disk, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		storagetest.TestAgainst(t, s, seed, 300, func() storage.Node {
			if rng.IntN(2) == 0 {
				if _, err := s.Reap(t.Context()); err != nil {
					t.Fatal(err)
				}
				return s
			}
			next := disk
			if rng.IntN(2) == 0 { // nothing is under way, so nothing may be lost
				next = disk.Crash(rng)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if disk = next; rng.IntN(3) == 0 {
				if err := diskfs.RemoveAll(disk, indexDirName); err != nil {
					t.Fatal(err)
				}
			}
			if s, err = Open("", crashConfig(disk, time.Hour)); err != nil {
				t.Fatal(err)
			}
			return s
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
