package metastoretest

import (
	"context"
	"iter"
	"slices"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

var _ metastore.Mover = (*Memory)(nil)

// Counters implements metastore.Mover.
func (m *Memory) Counters(ctx context.Context, name string) iter.Seq2[metastore.CounterItem, error] {
	return func(yield func(metastore.CounterItem, error) bool) {
		list, err := m.counters(ctx, name)
		for _, c := range list {
			if !yield(c, nil) {
				return
			}
		}
		if err != nil {
			yield(metastore.CounterItem{}, err)
		}
	}
}

func (m *Memory) counters(ctx context.Context, name string) (list []metastore.CounterItem, err error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	b, err := m.bucket(name)
	if err != nil {
		return nil, err
	}
	for k, n := range b.counters {
		list = append(list, metastore.CounterItem{Key: k, Value: n})
	}
	slices.SortFunc(list, func(a, b metastore.CounterItem) int { return a.Key.Compare(b.Key) })
	return list, nil
}

// Import implements metastore.Mover.
func (m *Memory) Import(ctx context.Context, check metastore.Check, items []metastore.MoveItem) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	p, err := engine.PrepareImport(check, items, func(name string) *engine.Schema {
		if b := m.buckets[name]; b != nil {
			return b.schema
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := m.check(p.Prepared()); err != nil {
		return err
	}
	if err := m.unique(p.Prepared()); err != nil {
		return err
	}
	for i, w := range p.Writes {
		b := m.buckets[w.Schema.Name]
		if p.Records[i] == nil {
			delete(b.partitions[w.Key.Partition], w.Key.Name)
			continue
		}
		if b.partitions[w.Key.Partition] == nil {
			b.partitions[w.Key.Partition] = map[string]metastore.Record{}
		}
		r := copyRecord(*p.Records[i])
		r.Bucket, r.Key = w.Schema.Name, w.Key
		b.partitions[w.Key.Partition][w.Key.Name] = r
	}
	for _, c := range p.Counters {
		b := m.buckets[c.Schema.Name]
		if b.counters[c.Key] = c.Delta; c.Delta == 0 {
			delete(b.counters, c.Key)
		}
	}
	return nil
}
