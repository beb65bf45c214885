package metastoretest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// TestStore runs the conformance suite: one subtest for each duty of metastore.Store. open returns an empty store of the implementation
// for one subtest, which closes it; what else it made it cleans up by t.Cleanup. A store on which partitions are not colocated is asked to
// refuse batches across them, and spared what cannot be had there.
func TestStore(t *testing.T, open func(t *testing.T) metastore.Store) {
	duties := []struct {
		name string
		test func(t *testing.T, s metastore.Store)
	}{
		{"Define", testDefine},
		{"Drop", testDrop},
		{"Records", testRecords},
		{"Conditions", testConditions},
		{"Batches", testBatches},
		{"CrossShard", testCrossShard},
		{"Limits", testLimits},
		{"Counters", testCounters},
		{"Unique", testUnique},
		{"UpdateMany", testUpdateMany},
		{"DeleteMany", testDeleteMany},
		{"Reindex", testReindex},
		{"ReindexUnique", testReindexUnique},
		{"KeyOrder", testKeyOrder},
		{"LongKeys", testLongKeys},
		{"Filters", testFilters},
		{"IndexTypes", testIndexTypes},
		{"Orders", testOrders},
		{"Pages", testPages},
		{"NotIndexed", testNotIndexed},
		{"FindWhileWriting", testFindWhileWriting},
		{"FindWhileDefining", testFindWhileDefining},
		{"FindTwice", testFindTwice},
		{"Watch", testWatch},
		{"WatchResume", testWatchResume},
		{"WatchWakes", testWatchWakes},
		{"WatchConcurrent", testWatchConcurrent},
		{"ConcurrentSwaps", testConcurrentSwaps},
		{"ConcurrentCounters", testConcurrentCounters},
		{"ConcurrentEmptyCheck", testConcurrentEmptyCheck},
		{"Cancelled", testCancelled},
		{"Close", testClose},
	}
	for _, d := range duties {
		t.Run(d.name, func(t *testing.T) {
			s := open(t)
			defer s.Close()
			d.test(t, s)
		})
	}
}

// k makes a key in the suite's usual partition, where everything is colocated.
func k(name string) metastore.Key { return metastore.Key{Partition: "p", Name: name} }

func define(t *testing.T, s metastore.Store, b metastore.Bucket) {
	t.Helper()
	if err := s.Define(t.Context(), b); err != nil {
		t.Fatalf("Define(%s) = %v", b.Name, err)
	}
}

func commit(t *testing.T, s metastore.Store, ops ...metastore.Op) metastore.Result {
	t.Helper()
	r, err := s.Commit(t.Context(), ops)
	if err != nil {
		t.Fatalf("Commit(%v) = %v", ops, err)
	}
	return r
}

func put(t *testing.T, s metastore.Store, bucket string, key metastore.Key, value string) (etag string) {
	t.Helper()
	return commit(t, s, metastore.Put{Bucket: bucket, Key: key, Value: json.RawMessage(value)}).Etags[0]
}

// find returns the names, or whole keys where partitions differ, in the order found.
func find(ctx context.Context, s metastore.Store, bucket string, q metastore.Query) (names []string, err error) {
	names = []string{}
	for r, err := range s.Find(ctx, bucket, q) {
		if err != nil {
			return names, err
		}
		if r.Key.Partition == "p" {
			names = append(names, r.Key.Name)
		} else {
			names = append(names, r.Key.Partition+"/"+r.Key.Name)
		}
	}
	return names, nil
}

func wantFind(t *testing.T, s metastore.Store, bucket string, q metastore.Query, want ...string) {
	t.Helper()
	got, err := find(t.Context(), s, bucket, q)
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Find(%s) = error %v, (-want +got)\n%s", describe(q), err, diff)
	}
}

func describe(q metastore.Query) string {
	text := fmt.Sprintf("filter %v order %q desc %v from %v limit %d", q.Filter, q.OrderBy, q.Descending, q.From, q.Limit)
	if q.Partition != nil {
		text += " in " + *q.Partition
	}
	if q.After != nil {
		text += fmt.Sprintf(" after %v", q.After.Key)
	}
	return text
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func wantCounter(t *testing.T, s metastore.Store, bucket string, key metastore.Key, want int64) {
	t.Helper()
	if got, err := s.Counter(t.Context(), bucket, key); got != want || err != nil {
		t.Errorf("Counter(%v) = %d, %v, want %d", key, got, err, want)
	}
}

func wantValue(t *testing.T, s metastore.Store, bucket string, key metastore.Key, want string) {
	t.Helper()
	r, err := s.Get(t.Context(), bucket, key)
	if want == "" {
		wantErr(t, fmt.Sprintf("Get(%v)", key), err, metastore.ErrNotFound)
		return
	}
	if err != nil || !sameJSON(string(r.Value), want) {
		t.Errorf("Get(%v) = %s, %v, want %s", key, r.Value, err, want)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && cmp.Equal(x, y)
}
