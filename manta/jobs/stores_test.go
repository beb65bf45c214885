package jobs

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/metastore/postgres"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
	"github.com/mobulacloud/mobula/storage/metastore/shard"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

var schemas atomic.Int64

// onStores runs a test on each kind of store.
func onStores(t *testing.T, test func(t *testing.T, store metastore.Store)) {
	closing := func(t *testing.T, s metastore.Store, err error) metastore.Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	t.Run("memory", func(t *testing.T) { test(t, closing(t, metastoretest.NewMemory(), nil)) })
	t.Run("pebble", func(t *testing.T) {
		s, err := pebble.Open(t.TempDir(), pebble.Config{})
		test(t, closing(t, s, err))
	})
	t.Run("shard", func(t *testing.T) {
		var shards []shard.Shard
		for i := range 3 {
			shards = append(shards, shard.Shard{Name: fmt.Sprint("s", i), Store: metastoretest.NewMemory()})
		}
		s, err := shard.Open(t.Context(), shards, shard.Config{VirtualNodes: 64})
		test(t, closing(t, s, err))
	})
	t.Run("postgres", func(t *testing.T) {
		server := pgtest.Shared(t)
		s, err := postgres.Open(t.Context(), server.URL(), postgres.Config{Schema: fmt.Sprint("jobs", schemas.Add(1)), Connections: 8})
		test(t, closing(t, s, err))
	})
}

func onRecords(t *testing.T, test func(t *testing.T, r *Records)) {
	onStores(t, func(t *testing.T, s metastore.Store) { test(t, newRecords(t, s)) })
}

func newRecords(t testing.TB, s metastore.Store) *Records {
	t.Helper()
	r, err := NewRecords(s)
	if err == nil {
		err = r.Define(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newMemory(t testing.TB) metastore.Store {
	s := metastoretest.NewMemory()
	t.Cleanup(func() { s.Close() })
	return s
}
