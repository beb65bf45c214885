package metastoretest

import (
	"bytes"
	"context"
	"iter"
	"slices"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// Find implements metastore.Store. All of the answer is of one point in time.
func (m *Memory) Find(ctx context.Context, name string, q metastore.Query) iter.Seq2[metastore.Record, error] {
	return func(yield func(metastore.Record, error) bool) {
		list, err := m.answer(ctx, name, q, false)
		for _, r := range list {
			if err = ctx.Err(); err != nil {
				break
			}
			if !yield(copyRecord(r), nil) {
				return
			}
		}
		if err != nil {
			yield(metastore.Record{}, err)
		}
	}
}

// answer finds all records at once. With early, indexes count as complete that Reindex has not finished.
func (m *Memory) answer(ctx context.Context, name string, q metastore.Query, early bool) ([]metastore.Record, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	b, err := m.bucket(name)
	if err != nil {
		return nil, err
	}
	schema := *b.schema
	if early {
		schema.Usable = slices.Repeat([]bool{true}, len(schema.Usable))
	}
	p, err := engine.NewPlan(&schema, q)
	if err != nil {
		return nil, err
	}
	if err := p.CheckStart(); err != nil {
		return nil, err
	}
	return m.find(p), nil
}

// sorted returns the records of a partition, nil for all, in key order.
func (b *memoryBucket) sorted(partition *string) []metastore.Record {
	var list []metastore.Record
	for name, records := range b.partitions {
		if partition != nil && name != *partition {
			continue
		}
		for _, r := range records {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b metastore.Record) int { return a.Key.Compare(b.Key) })
	return list
}

// find looks at everything: no index takes part, so none can be wrong.
func (m *Memory) find(p *engine.Plan) []metastore.Record {
	q := p.Query
	list := m.buckets[p.Schema.Name].sorted(q.Partition)
	list = slices.DeleteFunc(list, func(r metastore.Record) bool {
		if !p.Matcher.Match(r.Value) {
			return true
		}
		return q.OrderBy != "" && value(p, r) == nil
	})
	slices.SortStableFunc(list, p.Compare)
	list = slices.DeleteFunc(list, func(r metastore.Record) bool { return early(p, r) })
	if q.Limit > 0 && len(list) > q.Limit {
		list = list[:q.Limit]
	}
	return list
}

// value returns what the query orders a record by.
func value(p *engine.Plan, r metastore.Record) []byte {
	for _, e := range p.Schema.FittingEntries(r.Value) {
		if p.Schema.Indexes[e.Index].Field == p.Query.OrderBy {
			return append([]byte{'='}, e.Value...)
		}
	}
	return nil
}

// early reports whether a record comes before the place where the query is to begin.
func early(p *engine.Plan, r metastore.Record) bool {
	q := p.Query
	switch {
	case q.After != nil:
		return p.Compare(r, *q.After) <= 0
	case q.From == nil:
		return false
	}
	var order int
	if q.OrderBy == "" {
		order = r.Key.Compare(metastore.Key{Partition: r.Key.Partition, Name: q.From.(string)})
	} else {
		i, _ := p.Schema.Index(q.OrderBy)
		from, _ := engine.Encode(p.Schema.Indexes[i].Type, q.From)
		order = bytes.Compare(value(p, r)[1:], from)
	}
	if q.Descending {
		order = -order
	}
	return order < 0
}
