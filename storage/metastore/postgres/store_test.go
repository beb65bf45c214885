package postgres

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
)

var seed = flag.Uint64("seed", 0, "seed of the random histories; 0 picks one")

func seeds(n int) []uint64 {
	if *seed != 0 {
		return []uint64{*seed}
	}
	if testenv.Long() {
		n *= 20
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = rand.Uint64()
	}
	return list
}

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

var schemas atomic.Int64

// fresh opens an empty store: a schema of its own on the server.
func fresh(t testing.TB, server *pgtest.Server, c Config) *Store {
	t.Helper()
	c.Schema = fmt.Sprint("test", schemas.Add(1))
	s, err := Open(t.Context(), server.URL(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	server := pgtest.Shared(t)
	metastoretest.TestStore(t, func(t *testing.T) metastore.Store { return fresh(t, server, Config{}) })
}

// TestHistory moves from one connection pool to another now and then, as two head nodes would take turns.
func TestHistory(t *testing.T) {
	server := pgtest.Shared(t)
	for _, seed := range seeds(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { history(t, server, seed) })
	}
}

func history(t *testing.T, server *pgtest.Server, seed uint64) {
	one := fresh(t, server, Config{})
	two, err := Open(t.Context(), server.URL(), one.config)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	rng := rand.New(rand.NewPCG(seed, 2))
	metastoretest.TestHistory(t, one, metastoretest.History{Seed: seed, Steps: 600, Between: func(_ int, s metastore.Store) metastore.Store {
		if rng.IntN(10) > 0 {
			return s
		}
		if s == metastore.Store(one) {
			return two
		}
		return one
	}})
}
