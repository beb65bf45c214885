package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// keyed runs a query about one key of a bucket, again with fresh schemas if they turn out to be old.
func (s *Store) keyed(ctx context.Context, name string, key metastore.Key, do func(b *bucket, r row) (generation string, err error)) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := engine.CheckKey(key); err != nil {
		return err
	}
	for fresh := false; ; fresh = true {
		all := s.buckets.Load()
		err := fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, name)
		if b := all.byName[name]; b != nil {
			var generation string
			generation, err = do(b, newRow(key))
			if generation != all.generation && (err == nil || errors.Is(err, metastore.ErrNotFound)) {
				err = errStale
			}
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errStale), errors.Is(err, metastore.ErrNoBucket) && !fresh:
			if err := s.reload(ctx); err != nil {
				return err
			}
		default:
			return unavailable("read", err)
		}
	}
}

// Get implements metastore.Store.
func (s *Store) Get(ctx context.Context, name string, key metastore.Key) (r metastore.Record, err error) {
	err = s.keyed(ctx, name, key, func(b *bucket, k row) (generation string, err error) {
		var etag *string
		var modified *time.Time
		var value []byte
		err = s.pool.QueryRow(ctx, s.sql.get, b.ID, k.partition.head, k.partition.hash, k.name.head, k.name.hash).Scan(&generation, &etag, &modified, &value)
		if err == nil && etag == nil {
			err = metastore.ErrNotFound
		}
		if err == nil {
			r = metastore.Record{Bucket: name, Key: key, Value: value, Etag: *etag, Modified: modified.UTC()}
		}
		return generation, err
	})
	return r, err
}

// Counter implements metastore.Store.
func (s *Store) Counter(ctx context.Context, name string, key metastore.Key) (n int64, err error) {
	err = s.keyed(ctx, name, key, func(b *bucket, k row) (generation string, err error) {
		err = s.pool.QueryRow(ctx, s.sql.counter, b.ID, k.partition.head, k.partition.hash, k.name.head, k.name.hash).Scan(&generation, &n)
		return generation, err
	})
	return n, err
}

// Find implements metastore.Store. Each page is one statement.
func (s *Store) Find(ctx context.Context, name string, q metastore.Query) iter.Seq2[metastore.Record, error] {
	return func(yield func(metastore.Record, error) bool) {
		q := q // what is left of it
		yielded, ended := false, false
		for fresh := false; ; fresh = true {
			all := s.buckets.Load()
			err := fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, name)
			var last metastore.Record
			n := 0
			if b := all.byName[name]; b != nil {
				err = nil
				src := &guarded{s: s, generation: all.generation}
				for r, e := range engine.Find(ctx, src, b.schema, q) {
					if e != nil {
						err = e
						break
					}
					yielded = true
					if ended = !yield(r, nil); ended {
						return
					}
					if n++; n == q.Limit {
						return
					}
					last = r
				}
				if err == nil && !src.asked { // the answer is nothing by these schemas, without a look at any record
					err = src.check(ctx)
				}
			}
			if err != nil && n > 0 { // go on behind the last record, by the new schema
				q.After, q.Limit = &last, max(q.Limit-n, 0)
			}
			switch {
			case err == nil:
				return
			case errors.Is(err, errStale),
				!yielded && !fresh && (errors.Is(err, metastore.ErrNoBucket) || errors.Is(err, metastore.ErrNotIndexed) || errors.Is(err, metastore.ErrInvalid)):
				// Another process may have defined what we do not know yet.
				leave, e := s.enter(ctx)
				if e == nil {
					e = s.reload(ctx)
					leave()
				}
				if e == nil {
					continue
				}
				err = e
			}
			yield(metastore.Record{}, err)
			return
		}
	}
}

// guarded is a source for Find: it takes a connection for each page, and looks with each whether the schemas are still those that
// the query was planned by: an index that was dropped reads as if it ended.
type guarded struct {
	s          *Store
	generation string
	asked      bool // for a page
}

// check is errStale if the schemas are not those that the query was planned by.
func (g *guarded) check(ctx context.Context) error {
	leave, err := g.s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	var generation string
	if err := g.s.pool.QueryRow(ctx, g.s.sql.metaGet, "generation").Scan(&generation); err != nil {
		return unavailable("find", err)
	}
	if generation != g.generation {
		return errStale
	}
	return nil
}

func (g *guarded) Page(ctx context.Context, r engine.Request) ([]engine.Row, bool, error) {
	leave, err := g.s.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	g.asked = true
	batch := &pgx.Batch{}
	p := newPage(g.s, r)
	p.queue(batch)
	var generation string
	batch.Queue(g.s.sql.metaGet, "generation").QueryRow(func(row pgx.Row) error { return row.Scan(&generation) })
	if err := g.s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, false, unavailable("find", err)
	}
	if generation != g.generation {
		return nil, false, errStale
	}
	return p.rows, len(p.rows) < r.N, nil
}

func (g *guarded) Get(ctx context.Context, bucket string, key metastore.Key) (metastore.Record, error) {
	return g.s.Get(ctx, bucket, key)
}

// source reads within a transaction.
type source struct {
	s *Store
	q querier
}

func (x source) Page(ctx context.Context, r engine.Request) ([]engine.Row, bool, error) {
	return x.s.page(ctx, x.q, r)
}

func (x source) Get(ctx context.Context, bucket string, key metastore.Key) (metastore.Record, error) {
	b := x.s.buckets.Load().byName[bucket]
	if b == nil {
		return metastore.Record{}, errStale
	}
	rows, _, err := x.s.page(ctx, x.q, engine.Request{Schema: b.schema, Scan: engine.Scan{Index: -1}, Partition: &key.Partition, Start: &engine.Cursor{Key: key, Inclusive: true}, N: 1})
	if err != nil {
		return metastore.Record{}, err
	}
	if len(rows) == 0 || rows[0].Record.Key != key {
		return metastore.Record{}, metastore.ErrNotFound
	}
	return rows[0].Record, nil
}

func (s *Store) page(ctx context.Context, q querier, r engine.Request) ([]engine.Row, bool, error) {
	batch := &pgx.Batch{}
	p := newPage(s, r)
	p.queue(batch)
	if err := q.SendBatch(ctx, batch).Close(); err != nil {
		return nil, false, err
	}
	return p.rows, len(p.rows) < r.N, nil
}

// A page is one statement for the next rows of a scan.
type page struct {
	bucket string
	n      int
	sql    strings.Builder
	args   []any
	rows   []engine.Row
}

func (p *page) arg(v any) string {
	p.args = append(p.args, v)
	return fmt.Sprint("$", len(p.args))
}

func newPage(s *Store, r engine.Request) *page {
	b := of(r.Schema)
	p := &page{bucket: b.Bucket.Name, n: r.N}
	schema := pgx.Identifier{s.config.Schema}.Sanitize()
	order := []string{"k.pp", "k.ph", "k.np", "k.nh"}
	if r.Scan.Index < 0 {
		fmt.Fprintf(&p.sql, `SELECT ''::bytea, k.pp, k.ph, k.np, k.nh, k.prest, k.nrest, k.etag, k.modified, k.value::text FROM %s.records k WHERE k.bucket = %s`, schema, p.arg(b.ID))
	} else {
		table := "entries"
		order = []string{"k.val", "k.pp", "k.ph", "k.np", "k.nh"}
		if r.Schema.Indexes[r.Scan.Index].PerPartition {
			table = "partition_entries"
			order = []string{"k.pp", "k.ph", "k.val", "k.np", "k.nh"}
		}
		fmt.Fprintf(&p.sql, `SELECT k.val, k.pp, k.ph, k.np, k.nh, t.prest, t.nrest, t.etag, t.modified, t.value::text FROM %[1]s.%[2]s k
			JOIN %[1]s.records t ON t.bucket = %[3]s AND t.pp = k.pp AND t.ph = k.ph AND t.np = k.np AND t.nh = k.nh WHERE k.idx = %[4]s`,
			schema, table, p.arg(b.ID), p.arg(b.Indexes[r.Scan.Index].ID))
		if r.Scan.Eq {
			// Equal, not between: the index is then known to give the rest in key order.
			fmt.Fprintf(&p.sql, " AND k.val = %s", p.arg(bytesOf(r.Scan.Lo)))
			order = remove(order, "k.val")
		} else {
			if len(r.Scan.Lo) > 0 {
				fmt.Fprintf(&p.sql, " AND k.val >= %s", p.arg(r.Scan.Lo))
			}
			if r.Scan.Hi != nil {
				fmt.Fprintf(&p.sql, " AND k.val < %s", p.arg(r.Scan.Hi))
			}
		}
	}
	if r.Partition != nil {
		x := newPart(*r.Partition)
		fmt.Fprintf(&p.sql, " AND k.pp = %s AND k.ph = %s", p.arg(x.head), p.arg(x.hash))
		order = remove(remove(order, "k.pp"), "k.ph")
	}
	p.beyond(r, order)
	direction := " ASC"
	if r.Descending {
		direction = " DESC"
	}
	fmt.Fprintf(&p.sql, " ORDER BY %s%s LIMIT %s", strings.Join(order, direction+", "), direction, p.arg(r.N))
	return p
}

// beyond continues after a cursor: a comparison of rows over just the columns that are ordered by.
func (p *page) beyond(r engine.Request, order []string) {
	if r.Start == nil {
		return
	}
	k := newRow(r.Start.Key)
	var args []string
	for _, column := range order {
		switch column {
		case "k.val":
			args = append(args, p.arg(bytesOf(r.Start.Value)))
		case "k.pp":
			args = append(args, p.arg(k.partition.head))
		case "k.ph":
			args = append(args, p.arg(k.partition.hash))
		case "k.np":
			args = append(args, p.arg(k.name.head))
		case "k.nh":
			args = append(args, p.arg(k.name.hash))
		}
	}
	comparison := ">"
	if r.Descending {
		comparison = "<"
	}
	if r.Start.Inclusive {
		comparison += "="
	}
	fmt.Fprintf(&p.sql, " AND (%s) %s (%s)", strings.Join(order, ", "), comparison, strings.Join(args, ", "))
}

func bytesOf(v []byte) []byte {
	if v == nil {
		return []byte{}
	}
	return v
}

func remove(list []string, s string) (out []string) {
	for _, x := range list {
		if x != s {
			out = append(out, x)
		}
	}
	return out
}

func (p *page) queue(batch *pgx.Batch) {
	batch.Queue(p.sql.String(), p.args...).Query(func(rows pgx.Rows) error {
		p.rows = make([]engine.Row, 0, p.n)
		for rows.Next() {
			var indexed []byte
			var k row
			x := metastore.Record{Bucket: p.bucket}
			var value []byte
			if err := rows.Scan(append(append([]any{&indexed}, k.dest()...), &x.Etag, &x.Modified, &value)...); err != nil {
				return err
			}
			x.Key, x.Value, x.Modified = k.key(), value, x.Modified.UTC()
			p.rows = append(p.rows, engine.Row{Value: indexed, Record: x})
		}
		return rows.Err()
	})
}
