package namespace_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

// checks counts the puts that held a counter against a limit.
type checks struct {
	metastore.Store
	n atomic.Int64
}

func (c *checks) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	for _, op := range b {
		if _, ok := op.(metastore.CheckCounter); ok {
			c.n.Add(1)
		}
	}
	return c.Store.Commit(ctx, b)
}

// TestRoom: several front ends fill a directory at once to its limit and not beyond, and check it only now and then.
func TestRoom(t *testing.T) {
	const limit = 3000
	store := &checks{Store: metastoretest.NewMemory()}
	var wg sync.WaitGroup
	var stored atomic.Int64
	for f := range 4 {
		ns := newNamespace(t, store, namespace.Config{MaxEntries: limit})
		wg.Go(func() {
			for i := range limit {
				_, _, err := ns.Put(t.Context(), stor.Join(fmt.Sprint(f, "-", i)), object(0), namespace.Options{})
				if err == nil {
					stored.Add(1)
				} else if !errors.Is(err, namespace.ErrFull) {
					t.Error(err)
					return
				} else if i > limit/2 {
					return
				}
			}
		})
	}
	wg.Wait()
	if n := stored.Load(); n != limit {
		t.Errorf("%d entries were stored, the limit is %d", n, limit)
	}
	// Those beyond the limit are all checked, and few before it.
	if n := store.n.Load(); n > limit+4*limit {
		t.Errorf("%d checks", n)
	}
}
