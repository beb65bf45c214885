package postgres

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
)

var writeSamples = flag.Bool("write-samples", false, "write testdata/format1 anew, which only a change of a format that was never released justifies")

const sampleDir = "testdata/format1"

// sampleTables are all tables of format 1, with an order that makes the sample the same each time it is written.
var sampleTables = []struct{ name, order string }{
	{"meta", "key"}, {"buckets", "name"}, {"records", "bucket, pp, ph, np, nh"}, {"entries", "idx, val, pp, ph, np, nh"},
	{"partition_entries", "idx, pp, ph, val, np, nh"}, {"uniques", "idx, val"}, {"counters", "bucket, pp, ph, np, nh, slot"}, {"changes", "xid, n"},
}

// TestFormats opens what older programs have written, moved to this server as a dump would be. The samples stay as they are.
func TestFormats(t *testing.T) {
	server := pgtest.Shared(t)
	if *writeSamples {
		writeSample(t, server)
	}
	checkSample(t, loadSample(t, server))
}

// sampleBuckets use every type of index and every property.
var sampleBuckets = []metastore.Bucket{
	{Name: "all", Version: 2, Watched: true, Indexes: []metastore.Index{
		{Field: "s", Type: metastore.String}, {Field: "n", Type: metastore.Number}, {Field: "b", Type: metastore.Boolean},
		{Field: "d", Type: metastore.Date}, {Field: "u", Type: metastore.UUID, Unique: true}, {Field: "ip", Type: metastore.IP},
		{Field: "net", Type: metastore.Subnet}, {Field: "mac", Type: metastore.MAC}, {Field: "l", Type: metastore.String, PerPartition: true},
		{Field: "a", Type: metastore.Number, Array: true},
	}},
	{Name: "plain", Version: 1},
	{Name: "growing", Version: 1},
}

var grown = metastore.Bucket{Name: "growing", Version: 2, Indexes: []metastore.Index{{Field: "x", Type: metastore.Number}}}

var longName = strings.Repeat("long/", 300)

func sampleValue(i int) string {
	return fmt.Sprintf(`{"s":"s%d","n":%d.5,"b":%t,"d":"2026-01-0%dT00:00:00Z","u":"0000000%d-0000-4000-8000-000000000000","ip":"10.0.0.%d",`+
		`"net":"10.%d.0.0/16","mac":"90:b8:d0:00:00:0%d","l":"l%d","a":[%d,%d],"free":"é☃"}`, i, i, i%2 == 0, i+1, i, i, i, i, i, i, i+1)
}

func writeSample(t *testing.T, server *pgtest.Server) {
	t.Helper()
	s := fresh(t, server, Config{})
	for _, b := range sampleBuckets {
		if err := s.Define(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(ops ...metastore.Op) {
		t.Helper()
		if _, err := s.Commit(t.Context(), ops); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		key := metastore.Key{Partition: "p", Name: fmt.Sprint("r", i)}
		commit(metastore.Put{Bucket: "all", Key: key, Value: []byte(sampleValue(i))},
			metastore.Add{Bucket: "all", Key: metastore.Key{Partition: "p", Name: "count"}, Delta: 1},
			metastore.Put{Bucket: "growing", Key: key, Value: []byte(fmt.Sprintf(`{"x":%d}`, i))})
	}
	commit(metastore.Put{Bucket: "plain", Key: metastore.Key{Partition: longName, Name: longName + "é"}, Value: []byte(`{"long":true}`)})
	commit(metastore.Delete{Bucket: "all", Key: metastore.Key{Partition: "p", Name: "r4"}})
	if err := s.Define(t.Context(), grown); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reindex(t.Context(), "growing", 2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(sampleDir), os.MkdirAll(sampleDir, 0o777),
		os.WriteFile(filepath.Join(sampleDir, "tables.sql"), []byte(fmt.Sprintf(tables, "sample")), 0o666)); err != nil {
		t.Fatal(err)
	}
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, table := range sampleTables {
		var b bytes.Buffer
		query := fmt.Sprintf("COPY (SELECT * FROM %s.%s ORDER BY %s) TO STDOUT", pgx.Identifier{s.config.Schema}.Sanitize(), table.name, table.order)
		if _, err := conn.Conn().PgConn().CopyTo(t.Context(), &b, query); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sampleDir, table.name+".copy"), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// loadSample makes a schema out of the sample and opens it.
func loadSample(t *testing.T, server *pgtest.Server) *Store {
	t.Helper()
	schema := fmt.Sprint("sample", schemas.Add(1))
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	b, err := os.ReadFile(filepath.Join(sampleDir, "tables.sql"))
	if err != nil {
		t.Fatal(err)
	}
	sql := strings.NewReplacer("sample.", schema+".", "EXISTS sample;", "EXISTS "+schema+";").Replace(string(b))
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	for _, table := range sampleTables {
		f, err := os.Open(filepath.Join(sampleDir, table.name+".copy"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.PgConn().CopyFrom(t.Context(), f, fmt.Sprintf("COPY %s.%s FROM STDIN", schema, table.name))
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(t.Context(), server.URL(), Config{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func checkSample(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	for _, b := range []metastore.Bucket{sampleBuckets[0], sampleBuckets[1], grown} {
		if err := s.Define(ctx, b); err != nil {
			t.Errorf("Define of the schema as it was: %v", err)
		}
	}
	key := metastore.Key{Partition: "p", Name: "r2"}
	r, err := s.Get(ctx, "all", key)
	if err != nil || r.Etag == "" || r.Modified.Year() != 2026 || string(r.Value) != sampleValue(2) {
		t.Errorf("record %+v, %v", r, err)
	}
	for _, f := range []metastore.Filter{
		metastore.Eq{Field: "s", Value: "s2"}, metastore.Eq{Field: "n", Value: 2.5}, metastore.Eq{Field: "d", Value: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)},
		metastore.Eq{Field: "u", Value: "00000002-0000-4000-8000-000000000000"}, metastore.Eq{Field: "ip", Value: "10.0.0.2"},
		metastore.Eq{Field: "net", Value: "10.2.0.0/16"}, metastore.Eq{Field: "mac", Value: "90:b8:d0:00:00:02"}, metastore.Eq{Field: "l", Value: "l2"},
		metastore.And{metastore.Eq{Field: "a", Value: 2}, metastore.Eq{Field: "a", Value: 3}}, metastore.And{metastore.Eq{Field: "b", Value: true}, metastore.Ge{Field: "n", Value: 1}},
	} {
		q := metastore.Query{Filter: f}
		if strings.Contains(fmt.Sprint(f), "l2") {
			q.Partition = metastore.In("p")
		}
		wantNames(t, s, "all", q, "r2")
	}
	wantNames(t, s, "all", metastore.Query{OrderBy: "n", Descending: true}, "r3", "r2", "r1", "r0")
	if n, err := s.Counter(ctx, "all", metastore.Key{Partition: "p", Name: "count"}); n != 5 || err != nil {
		t.Errorf("counter is %d, %v", n, err)
	}
	if r, err := s.Get(ctx, "plain", metastore.Key{Partition: longName, Name: longName + "é"}); err != nil || string(r.Value) != `{"long":true}` {
		t.Errorf("record with a long key: %+v, %v", r, err)
	}
	for _, err := range s.Find(ctx, "growing", metastore.Query{OrderBy: "x"}) {
		if !errors.Is(err, metastore.ErrNotIndexed) {
			t.Errorf("order by an index that was being built: %v", err)
		}
	}
	for left := 1; left > 0; {
		if left, err = s.Reindex(ctx, "growing", 1); err != nil {
			t.Fatal(err)
		}
	}
	wantNames(t, s, "growing", metastore.Query{OrderBy: "x"}, "r0", "r1", "r2", "r3", "r4")

	at, err := s.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "all", Key: key, Value: []byte(sampleValue(2)), If: metastore.EtagIs(r.Etag)},
		metastore.Add{Bucket: "all", Key: metastore.Key{Partition: "p", Name: "count"}, Delta: -5}}); err != nil {
		t.Errorf("Commit under the old etag: %v", err)
	}
	if _, err := s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "all", Key: metastore.Key{Name: "other"}, Value: []byte(sampleValue(3))}}); !errors.Is(err, metastore.ErrNotUnique) {
		t.Errorf("Commit of a value that is taken = %v", err)
	}
	for c, err := range s.Watch(ctx, at, "all") {
		if err != nil || c.Key != key {
			t.Errorf("change %+v, %v", c, err)
		}
		break
	}
}

func wantNames(t *testing.T, s *Store, bucket string, q metastore.Query, want ...string) {
	t.Helper()
	var got []string
	for r, err := range s.Find(t.Context(), bucket, q) {
		if err != nil {
			t.Errorf("Find(%+v): %v", q, err)
			return
		}
		got = append(got, r.Key.Name)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Find(%+v) = %v, want %v", q, got, want)
	}
}

// TestNewerFormat refuses what it does not know.
func TestNewerFormat(t *testing.T) {
	server := pgtest.Shared(t)
	s := fresh(t, server, Config{})
	if _, err := s.pool.Exec(t.Context(), s.sql.metaSet, "format", "2"); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), server.URL(), s.config); !errors.Is(err, metastore.ErrInvalid) {
		if err == nil {
			s.Close()
		}
		t.Errorf("Open of tables of a newer format = %v", err)
	}
}
