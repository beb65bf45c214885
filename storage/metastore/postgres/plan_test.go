package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
)

// TestPlans holds that every kind of page is one run of an index, with nothing sorted and no table read through.
func TestPlans(t *testing.T) {
	s := fresh(t, pgtest.Shared(t), Config{})
	bucket := metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "g", Type: metastore.String}, {Field: "l", Type: metastore.Number, PerPartition: true}}}
	if err := s.Define(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	var batch metastore.Batch
	for i := range 3000 {
		batch = append(batch, metastore.Put{Bucket: "a", Key: metastore.Key{Partition: fmt.Sprint("p", i%5), Name: fmt.Sprint(i)}, Value: fmt.Appendf(nil, `{"g":"v%d","l":%d}`, i%50, i)})
	}
	if _, err := s.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if _, err := s.pool.Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	schema := s.buckets.Load().schema("a")
	start := &engine.Cursor{Value: []byte("v2"), Key: metastore.Key{Partition: "p1", Name: "1"}}
	in := metastore.In("p1")
	eq := engine.Scan{Index: 0, Lo: []byte("v2"), Hi: []byte("v2\x00"), Eq: true}
	for name, r := range map[string]engine.Request{
		"partition":          {Scan: engine.Scan{Index: -1}, Partition: in, Start: start},
		"all":                {Scan: engine.Scan{Index: -1}, Start: start},
		"index":              {Scan: engine.Scan{Index: 0}, Start: start},
		"index value":        {Scan: eq, Start: start},
		"value in partition": {Scan: eq, Partition: in, Start: start},
		"partition's index":  {Scan: engine.Scan{Index: 1}, Partition: in, Start: start},
	} {
		for _, descending := range []bool{false, true} {
			r.Schema, r.N, r.Descending = schema, 100, descending
			p := newPage(s, r)
			rows, err := s.pool.Query(t.Context(), "EXPLAIN "+p.sql.String(), p.args...)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(lines, "\n")
			if strings.Contains(plan, "Sort") || strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Bitmap") || !strings.Contains(plan, "Index") {
				t.Errorf("%s, descending %v: %s\n%s", name, descending, p.sql.String(), plan)
			}
		}
	}
}
