package metastoretest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

func TestMemory(t *testing.T) {
	metastoretest.TestStore(t, func(t *testing.T) metastore.Store { return metastoretest.NewMemory() })
}

// TestMemoryInBubble has a watcher wait for a writer on fake time.
func TestMemoryInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := metastoretest.NewMemory()
		defer s.Close()
		if err := s.Define(t.Context(), metastore.Bucket{Name: "a", Watched: true}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		go func() {
			time.Sleep(time.Hour)
			s.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: "a", Key: metastore.Key{Name: "1"}, Value: []byte(`{}`)}})
		}()
		for c, err := range s.Watch(t.Context(), "", "a") {
			if err != nil || c.Record == nil || !c.Record.Modified.Equal(begin.Add(time.Hour)) {
				t.Errorf("change %+v, %v after %v", c, err, time.Since(begin))
			}
			break
		}
		position, _ := s.Position(t.Context())
		s.Forget()
		for _, err := range s.Watch(t.Context(), "0", "a") {
			if !errors.Is(err, metastore.ErrPositionGone) {
				t.Errorf("Watch from what was forgotten = %v", err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, err := range s.Watch(ctx, position, "a") {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Watch with nothing to come = %v", err)
			}
		}
	})
}
