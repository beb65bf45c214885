package shard

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// TestNewIndex asks by an index that one shard has yet to build and another has not: no answer may lack anything.
func TestNewIndex(t *testing.T) {
	s := open(t, memories(2), quick)
	defer s.Close()
	var p [2]string // a partition on each shard
	for i := 0; p[0] == "" || p[1] == ""; i++ {
		name := fmt.Sprint("p", i)
		p[s.known.Load().ring.owner(name)] = name
	}
	put := func(partition, name string) {
		t.Helper()
		op := metastore.Put{Bucket: "a", Key: metastore.Key{Partition: partition, Name: name}, Value: []byte(`{"x":"y"}`)}
		if _, err := s.Commit(t.Context(), metastore.Batch{op}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, partition *string, n int) {
		t.Helper()
		got := 0
		for _, err := range s.Find(t.Context(), "a", metastore.Query{Partition: partition, OrderBy: "x"}) {
			switch {
			case n < 0 && errors.Is(err, metastore.ErrNotIndexed):
				return
			case err != nil:
				t.Fatalf("%s: %v", what, err)
			}
			got++
		}
		if got != n {
			t.Errorf("%s: %d records, want %d", what, got, n)
		}
	}
	const refused = -1
	b := metastore.Bucket{Name: "a", Version: 1}
	if err := s.Define(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	put(p[0], "1")
	b.Version, b.Indexes = 2, []metastore.Index{{Field: "x", Type: metastore.String}}
	if err := s.Define(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	put(p[0], "2")
	put(p[1], "3")
	check("the shard that had records", &p[0], refused)
	check("the shard that had none", &p[1], 1)
	check("both", nil, refused)
	if err := s.Move(t.Context(), "s1", s.VNode(p[0])); err != nil {
		t.Fatal(err)
	}
	check("old records moved to a complete index", &p[0], 2)
	check("both after the move", nil, refused)
	if err := s.Move(t.Context(), "s0", s.VNode(p[0]), s.VNode(p[1])); err != nil {
		t.Fatal(err)
	}
	check("moved to an index being built", &p[1], refused)
	for left := 1; left > 0; {
		var err error
		if left, err = s.Reindex(t.Context(), "a", 1); err != nil {
			t.Fatal(err)
		}
	}
	check("reindexed", &p[0], 2)
	check("reindexed", &p[1], 1)
	check("both, reindexed", nil, 3)
}
