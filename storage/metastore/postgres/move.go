package postgres

import (
	"context"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

var _ metastore.Mover = (*Store)(nil)

const counterPage = 1024

// Counters implements metastore.Mover.
func (s *Store) Counters(ctx context.Context, name string) iter.Seq2[metastore.CounterItem, error] {
	return func(yield func(metastore.CounterItem, error) bool) {
		if err := s.eachCounter(ctx, name, yield); err != nil {
			yield(metastore.CounterItem{}, err)
		}
	}
}

func (s *Store) eachCounter(ctx context.Context, name string, yield func(metastore.CounterItem, error) bool) error {
	if _, err := s.Counter(ctx, name, metastore.Key{}); err != nil {
		return err // it has made sure that the schemas are fresh
	}
	b := s.buckets.Load().byName[name]
	if b == nil {
		return fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, name)
	}
	last := row{part{head: []byte{}, hash: []byte{}}, part{head: []byte{}, hash: []byte{}}}
	for first := true; ; first = false {
		list, end, err := s.counterPage(ctx, b.ID, last, first)
		if err != nil {
			return err
		}
		for _, c := range list {
			if c.Value != 0 && !yield(c, nil) {
				return nil
			}
		}
		if len(list) < counterPage {
			return nil
		}
		last = end
	}
}

func (s *Store) counterPage(ctx context.Context, id uint32, after row, inclusive bool) (list []metastore.CounterItem, last row, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, last, err
	}
	defer leave()
	comparison := ">"
	if inclusive {
		comparison = ">="
	}
	query := fmt.Sprintf(`SELECT pp, ph, np, nh, (array_agg(prest))[1], (array_agg(nrest))[1], sum(n)::bigint FROM %s.counters
		WHERE bucket = $1 AND (pp, ph, np, nh) %s ($2, $3, $4, $5) GROUP BY pp, ph, np, nh ORDER BY pp, ph, np, nh LIMIT %d`,
		pgx.Identifier{s.config.Schema}.Sanitize(), comparison, counterPage)
	rows, err := s.pool.Query(ctx, query, id, after.partition.head, after.partition.hash, after.name.head, after.name.hash)
	if err != nil {
		return nil, last, unavailable("counters", err)
	}
	defer rows.Close()
	for rows.Next() {
		var k row
		var n int64
		if err := rows.Scan(append(k.dest(), &n)...); err != nil {
			return nil, last, unavailable("counters", err)
		}
		last = k
		list = append(list, metastore.CounterItem{Key: k.key(), Value: n})
	}
	return list, last, unavailable("counters", rows.Err())
}

// Import implements metastore.Mover. All other commits wait meanwhile, so keep the lists short.
func (s *Store) Import(ctx context.Context, check metastore.Check, items []metastore.MoveItem) error {
	return s.restructure(ctx, func(tx pgx.Tx, all *buckets) (bool, error) {
		imported, err := engine.PrepareImport(check, items, all.schema)
		if err != nil {
			return false, err
		}
		return false, s.take(ctx, tx, imported)
	})
}

func (s *Store) take(ctx context.Context, tx pgx.Tx, imported *engine.Import) error {
	c := commit{s: s, p: imported.Prepared()}
	c.p.Bounds = make([]engine.Bound, len(imported.Counters))
	for i, d := range imported.Counters {
		c.p.Bounds[i] = engine.Bound{Op: d.Op, Schema: d.Schema, Key: d.Key, Min: -1 << 63, Max: 1<<63 - 1}
	}
	batch := &pgx.Batch{}
	c.olds = make([]oldState, len(c.p.Writes))
	c.queueOlds(batch, c.p.Writes, c.olds)
	reads := make([]oldState, 1)
	c.queueReads(batch, reads)
	counts := make([]count, len(c.p.Bounds))
	c.queueBounds(batch, counts)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if err := c.check(reads, counts); err != nil {
		return err
	}
	if err := c.uniqueOn(ctx, tx); err != nil {
		return err
	}
	c.writes.s = s
	for i, w := range c.p.Writes {
		b := of(w.Schema)
		if r := imported.Records[i]; r == nil {
			c.writes.removed.add(b.ID, w.Key)
		} else {
			c.writes.put.add(b.ID, w.Key)
			c.writes.etags = append(c.writes.etags, r.Etag)
			c.writes.values = append(c.writes.values, string(r.Value))
			c.writes.times = append(c.writes.times, r.Modified)
		}
		engine.EachDifference(c.olds[i].entries, w.Entries, func(e engine.Entry, added bool) error {
			c.writes.entry(b, e, w.Key, added)
			return nil
		})
	}
	for i, d := range imported.Counters {
		if n := d.Delta - counts[i].n; n != 0 {
			c.p.Deltas = append(c.p.Deltas, engine.Delta{Op: d.Op, Schema: d.Schema, Key: d.Key, Delta: n})
		}
	}
	batch = &pgx.Batch{}
	c.writes.queue(batch)
	c.queueDeltas(batch)
	return tx.SendBatch(ctx, batch).Close()
}
