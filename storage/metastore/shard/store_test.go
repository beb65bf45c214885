package shard

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/lintest"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/metastore/postgres"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
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

var quick = Config{VirtualNodes: 64, MapTTL: 5 * time.Millisecond}

func memories(n int) (list []Shard) {
	for i := range n {
		list = append(list, Shard{fmt.Sprint("s", i), metastoretest.NewMemory()})
	}
	return list
}

func open(t *testing.T, shards []Shard, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), shards, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			metastoretest.TestStore(t, func(t *testing.T) metastore.Store { return open(t, memories(n), quick) })
		})
	}
}

// TestHistory moves virtual nodes to and fro between the steps, and steps through two processes' views of the ring.
func TestHistory(t *testing.T) {
	for _, seed := range seeds(3) {
		shards := memories(3)
		one, two := open(t, shards[:2], quick), open(t, shards, quick)
		one = open(t, shards, quick)
		rng := rand.New(rand.NewPCG(seed, 2))
		metastoretest.TestHistory(t, one, metastoretest.History{Seed: seed, Steps: 800, Sharded: true, Between: func(_ int, s metastore.Store) metastore.Store {
			if rng.IntN(40) == 0 {
				var vnodes []int
				for range 1 + rng.IntN(40) {
					vnodes = append(vnodes, rng.IntN(64))
				}
				if err := s.(*Store).Move(t.Context(), fmt.Sprint("s", rng.IntN(3)), vnodes...); err != nil {
					t.Fatal(err)
				}
			}
			if rng.IntN(5) > 0 {
				return s
			}
			if s == metastore.Store(one) {
				return two
			}
			return one
		}})
	}
}

// TestLinearizable has virtual nodes move while clients compare and swap through two processes' rings.
func TestLinearizable(t *testing.T) {
	shards := memories(2)
	one, two := open(t, shards, quick), open(t, shards, quick)
	for i := range 6 {
		var mover sync.WaitGroup
		mover.Go(func() {
			if err := one.Move(t.Context(), shards[i%2].Name, one.VNode("lin")); err != nil {
				t.Errorf("Move = %v", err)
			}
		})
		lintest.Check(t, one, two)
		mover.Wait()
	}
}

// TestPebble runs the suite and histories with moves on three embedded stores.
func TestPebble(t *testing.T) {
	stores := func(t *testing.T) (list []Shard) {
		for i := range 3 {
			s, err := pebble.Open("store", pebble.Config{FS: vfs.NewMem(), MemTableSize: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			list = append(list, Shard{fmt.Sprint("s", i), s})
		}
		return list
	}
	if testenv.Long() {
		metastoretest.TestStore(t, func(t *testing.T) metastore.Store { return open(t, stores(t), quick) })
	}
	for _, seed := range seeds(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { historyWithMoves(t, open(t, stores(t), quick), seed, 600) })
	}
}

// TestPostgres runs the suite and a history with moves on three databases.
func TestPostgres(t *testing.T) {
	server := pgtest.Shared(t)
	n := 0
	databases := func(t *testing.T) (list []Shard) {
		for i := range 3 {
			n++
			s, err := postgres.Open(t.Context(), server.URL(), postgres.Config{Schema: fmt.Sprint("shard", n), Connections: 8})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			list = append(list, Shard{fmt.Sprint("s", i), s})
		}
		return list
	}
	slow := Config{VirtualNodes: 64, MapTTL: 50 * time.Millisecond}
	if testenv.Long() {
		metastoretest.TestStore(t, func(t *testing.T) metastore.Store { return open(t, databases(t), slow) })
	}
	for _, seed := range seeds(1) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { historyWithMoves(t, open(t, databases(t), slow), seed, 200) })
	}
}

func historyWithMoves(t *testing.T, ring *Store, seed uint64, steps int) {
	rng := rand.New(rand.NewPCG(seed, 2))
	metastoretest.TestHistory(t, ring, metastoretest.History{Seed: seed, Steps: steps, Sharded: true, Between: func(step int, s metastore.Store) metastore.Store {
		if step%60 == 59 {
			if err := ring.Move(t.Context(), fmt.Sprint("s", rng.IntN(3)), rng.Perm(64)[:30]...); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}})
}

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
