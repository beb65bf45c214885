package pebble

import (
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

var seed = flag.Uint64("seed", 0, "seed of the random histories; 0 picks one")

func seeds(n int) []uint64 {
	if *seed != 0 {
		return []uint64{*seed}
	}
	if testenv.Long() {
		n *= 50
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = rand.Uint64()
	}
	return list
}

// TestHistory runs random histories on small memtables, so that tables, merges and range deletions take part, with a
// crash or a restart now and then: an acknowledged step is never lost, since every one has been synced.
func TestHistory(t *testing.T) {
	for _, seed := range seeds(4) {
		fs := vfs.NewCrashableMem()
		config := Config{FS: fs, MemTableSize: 64 << 10, ChangeLog: 100}
		s, err := Open("store", config)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(seed, 2))
		last := s
		metastoretest.TestHistory(t, s, metastoretest.History{Seed: seed, Steps: 1500, Between: func(step int, _ metastore.Store) metastore.Store {
			switch rng.IntN(150) {
			case 0: // the machine loses power
				fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(100), RNG: rng})
				last.Close()
			case 1:
				if err := last.Close(); err != nil {
					t.Fatal(err)
				}
			case 2:
				if err := last.db.Flush(); err != nil {
					t.Fatal(err)
				}
				return last
			default:
				return last
			}
			config.FS = fs
			s, err := Open("store", config)
			if err != nil {
				t.Fatal(err)
			}
			last = s
			return s
		}})
		if err := last.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
