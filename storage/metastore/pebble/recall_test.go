package pebble

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// TestRecall has few records read all the time while every kind of commit changes them: nobody may see an older state after a newer one, which a memory of reads
// would make possible, and no compare-and-swap may be lost.
func TestRecall(t *testing.T) {
	s, err := Open("store", Config{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	if err := s.Define(ctx, metastore.Bucket{Name: "b", Version: 1}); err != nil {
		t.Fatal(err)
	}
	type value struct{ Swapped, Updated int }
	const records, rounds = 3, 300
	key := func(i int) metastore.Key { return metastore.Key{Partition: "p", Name: fmt.Sprint(i)} }
	for i := range records {
		if _, err := s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "b", Key: key(i), Value: json.RawMessage(`{"Swapped":0,"Updated":0}`)}}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(i int) (v value, etag string) {
		r, err := s.Get(ctx, "b", key(i))
		if err == nil {
			err = json.Unmarshal(r.Value, &v)
		}
		if err != nil {
			t.Error(err)
		}
		return v, r.Etag
	}
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			var last [records]value
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				i := n % records
				v, _ := read(i)
				if v.Swapped < last[i].Swapped || v.Updated < last[i].Updated {
					t.Errorf("record %d shows %+v after %+v", i, v, last[i])
					return
				}
				last[i] = v
			}
		})
	}
	for range 4 {
		writers.Go(func() {
			for n := range rounds {
				for i := n % records; ; {
					v, etag := read(i)
					v.Swapped++
					text, _ := json.Marshal(v)
					_, err := s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "b", Key: key(i), Value: text, If: metastore.EtagIs(etag)}})
					if err == nil {
						break
					}
					if !errors.Is(err, metastore.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	writers.Go(func() {
		partition := "p"
		for n := range rounds {
			update := metastore.UpdateMany{Bucket: "b", Query: metastore.Query{Partition: &partition}, Set: map[string]any{"Updated": n + 1}}
			if _, err := s.Commit(ctx, metastore.Batch{update}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	writers.Go(func() { // comes and goes: absence is remembered, too
		for range rounds {
			gone := metastore.Key{Partition: "p", Name: "gone"}
			if _, err := s.Get(ctx, "b", gone); !errors.Is(err, metastore.ErrNotFound) {
				t.Errorf("Get of a deleted record = %v", err)
			}
			for _, op := range []metastore.Op{
				metastore.Put{Bucket: "b", Key: gone, Value: json.RawMessage(`{}`), If: metastore.Absent()},
				metastore.Check{Bucket: "b", Key: gone, If: metastore.Present()},
				metastore.Delete{Bucket: "b", Key: gone, If: metastore.Present()},
			} {
				if _, err := s.Commit(ctx, metastore.Batch{op}); err != nil {
					t.Errorf("%T: %v", op, err)
				}
			}
		}
	})
	writers.Wait()
	close(stop)
	readers.Wait()
	total := 0
	for i := range records {
		v, _ := read(i)
		total += v.Swapped
		if v.Updated != rounds {
			t.Errorf("record %d: the last update is lost: %+v", i, v)
		}
	}
	if total != 4*rounds {
		t.Errorf("%d swaps of %d are left", total, 4*rounds)
	}
}
