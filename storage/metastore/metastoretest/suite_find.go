package metastoretest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// testFindTwice ranges over one sequence twice: each time it is the whole answer.
func testFindTwice(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "x", Type: metastore.Number}}})
	for i := range 3 {
		put(t, s, "a", k(fmt.Sprint(i)), fmt.Sprintf(`{"x":%d}`, i))
	}
	for _, q := range []metastore.Query{{OrderBy: "x"}, {Partition: metastore.In("p"), Limit: 2}, {Scan: true}} {
		records := s.Find(t.Context(), "a", q)
		var n [2]int
		for i := range n {
			for _, err := range records {
				if err != nil {
					t.Fatal(err)
				}
				n[i]++
			}
		}
		if n[0] != n[1] || n[0] == 0 {
			t.Errorf("Find(%s), ranged over twice, gave %d and %d records", describe(q), n[0], n[1])
		}
	}
}

// testFindWhileDefining changes schemas under queries of many pages: an answer is whole, or ends with an error.
func testFindWhileDefining(t *testing.T, s metastore.Store) {
	const records = 1500
	x, y := metastore.Index{Field: "x", Type: metastore.Number}, metastore.Index{Field: "y", Type: metastore.Number}
	fill := func(bucket string) {
		t.Helper()
		define(t, s, metastore.Bucket{Name: bucket, Version: 1, Indexes: []metastore.Index{x, y}})
		for i := 0; i < records; i += 500 {
			var b metastore.Batch
			for j := range 500 {
				b = append(b, metastore.Put{Bucket: bucket, Key: k(fmt.Sprintf("%04d", i+j)), Value: fmt.Appendf(nil, `{"x":%d,"y":%d}`, i+j, i+j)})
			}
			commit(t, s, b...)
		}
	}
	for _, c := range []struct {
		name   string
		q      metastore.Query
		change func(bucket string)
		wants  []error // that may end it early; none means that it has to be whole
	}{
		{"another bucket", metastore.Query{OrderBy: "x"}, func(b string) { define(t, s, metastore.Bucket{Name: b + "_other"}) }, nil},
		{"another index", metastore.Query{OrderBy: "x", Limit: records}, func(b string) {
			define(t, s, metastore.Bucket{Name: b, Version: 2, Indexes: []metastore.Index{x}})
		}, nil},
		{"its index", metastore.Query{OrderBy: "x", Descending: true}, func(b string) {
			define(t, s, metastore.Bucket{Name: b, Version: 2, Indexes: []metastore.Index{y}})
		}, []error{metastore.ErrNotIndexed}},
		{"its index, and made anew", metastore.Query{OrderBy: "x"}, func(b string) {
			define(t, s, metastore.Bucket{Name: b, Version: 2, Indexes: []metastore.Index{y}})
			define(t, s, metastore.Bucket{Name: b, Version: 3, Indexes: []metastore.Index{x, y}})
		}, []error{metastore.ErrNotIndexed}},
		{"its index, made anew and complete", metastore.Query{OrderBy: "x", Descending: true}, func(b string) {
			define(t, s, metastore.Bucket{Name: b, Version: 2, Indexes: []metastore.Index{y}})
			define(t, s, metastore.Bucket{Name: b, Version: 3, Indexes: []metastore.Index{x, y}})
			for left := 1; left > 0; {
				var err error
				if left, err = s.Reindex(t.Context(), b, 1000); err != nil {
					t.Fatal(err)
				}
			}
		}, nil},
		{"an index, in key order", metastore.Query{Partition: metastore.In("p")}, func(b string) {
			define(t, s, metastore.Bucket{Name: b, Version: 2})
		}, nil},
		{"the bucket", metastore.Query{Partition: metastore.In("p")}, func(b string) {
			if err := s.Drop(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}, []error{metastore.ErrNoBucket}},
	} {
		bucket := strings.NewReplacer(" ", "_", ",", "").Replace(c.name)
		fill(bucket)
		seen := map[string]bool{}
		var last error
		for r, err := range s.Find(t.Context(), bucket, c.q) {
			if last = err; err != nil {
				break
			}
			if seen[r.Key.Name] {
				t.Errorf("%s: %s was yielded twice", c.name, r.Key.Name)
			}
			seen[r.Key.Name] = true
			if len(seen) == 10 {
				c.change(bucket)
			}
		}
		switch {
		case last == nil && len(seen) != records:
			t.Errorf("change of %s: %d records and no error, want all %d", c.name, len(seen), records)
		case last != nil && !slices.ContainsFunc(c.wants, func(want error) bool { return errors.Is(last, want) }):
			t.Errorf("change of %s: %v after %d records", c.name, last, len(seen))
		}
	}
}
