package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Limits of what is imported at once, since commits wait meanwhile.
const (
	importItems = 200
	importBytes = 1 << 20
)

// An importer gathers items for a store.
type importer struct {
	m     *mover
	to    metastore.Mover
	items []metastore.MoveItem
	bytes int
}

func (x *importer) add(ctx context.Context, item metastore.MoveItem) error {
	x.items = append(x.items, item)
	if item.Record != nil {
		x.bytes += len(item.Record.Value)
	}
	if len(x.items) < importItems && x.bytes < importBytes {
		return nil
	}
	return x.flush(ctx)
}

func (x *importer) flush(ctx context.Context) error {
	if len(x.items) == 0 {
		return nil
	}
	err := x.to.Import(ctx, x.m.check, x.items)
	x.items, x.bytes = x.items[:0], 0
	if errors.Is(err, metastore.ErrConflict) {
		return fmt.Errorf("%w: another mover has taken over", metastore.ErrConflict)
	}
	return err
}

// bucketNames lists what may hold records of the virtual nodes.
func (m *mover) bucketNames(ctx context.Context) (names []string, err error) {
	list, err := m.source.Buckets(ctx)
	for _, b := range list {
		if !reserved(b.Name) {
			names = append(names, b.Name)
		}
	}
	return names, err
}

// records yields a store's records of the virtual nodes, in key order.
func (m *mover) records(ctx context.Context, store metastore.Store, bucket string) iter.Seq2[metastore.Record, error] {
	return func(yield func(metastore.Record, error) bool) {
		for r, err := range store.Find(ctx, bucket, metastore.Query{Scan: true}) {
			if err == nil && !m.mine[vnode(r.Key.Partition, m.vnodes)] {
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

func (m *mover) counters(ctx context.Context, store metastore.Mover, bucket string) iter.Seq2[metastore.CounterItem, error] {
	return func(yield func(metastore.CounterItem, error) bool) {
		for c, err := range store.Counters(ctx, bucket) {
			if err == nil && !m.mine[vnode(c.Key.Partition, m.vnodes)] {
				continue
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// synchronize makes the target's part of every bucket like the source's, by going through both in key order.
func (m *mover) synchronize(ctx context.Context) error {
	names, err := m.bucketNames(ctx)
	if err != nil {
		return err
	}
	x := importer{m: m, to: m.target.Mover}
	for _, bucket := range names {
		err := differences(m.records(ctx, m.source, bucket), m.records(ctx, m.target, bucket),
			func(a, b metastore.Record) int { return a.Key.Compare(b.Key) },
			func(a, b metastore.Record) bool { return a.Etag == b.Etag },
			func(r metastore.Record, there bool) error {
				item := metastore.MoveItem{Bucket: bucket, Key: r.Key}
				if there {
					item.Record = &r
				}
				return x.add(ctx, item)
			})
		if err != nil {
			return err
		}
		err = differences(m.counters(ctx, m.source, bucket), m.counters(ctx, m.target, bucket),
			func(a, b metastore.CounterItem) int { return a.Key.Compare(b.Key) },
			func(a, b metastore.CounterItem) bool { return a.Value == b.Value },
			func(c metastore.CounterItem, there bool) error {
				item := metastore.MoveItem{Bucket: bucket, Key: c.Key, Counter: true}
				if there {
					item.Value = c.Value
				}
				return x.add(ctx, item)
			})
		if err != nil {
			return err
		}
	}
	return x.flush(ctx)
}

// differences goes through two ordered sequences and calls visit for what is in the first and not the same in the second (there), and for
// what is in the second only.
func differences[T any](a, b iter.Seq2[T, error], order func(a, b T) int, same func(a, b T) bool, visit func(x T, there bool) error) error {
	nextA, stopA := iter.Pull2(a)
	defer stopA()
	nextB, stopB := iter.Pull2(b)
	defer stopB()
	x, errA, okA := nextA()
	y, errB, okB := nextB()
	for {
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		o := 0
		switch {
		case !okA && !okB:
			return nil
		case !okA:
			o = 1
		case !okB:
			o = -1
		default:
			o = order(x, y)
		}
		var err error
		switch {
		case o < 0:
			err = visit(x, true)
			x, errA, okA = nextA()
		case o > 0:
			err = visit(y, false)
			y, errB, okB = nextB()
		default:
			if !same(x, y) {
				err = visit(x, true)
			}
			x, errA, okA = nextA()
			y, errB, okB = nextB()
		}
		if err != nil {
			return err
		}
	}
}

// drain copies what has been noted as written since it was copied, and returns how much that was. A note goes only after its copy is durable, and
// stays if the key has been written again.
func (m *mover) drain(ctx context.Context) (n int, err error) {
	var list []metastore.Record
	for r, err := range m.source.Find(ctx, bucketDirty, metastore.Query{Partition: metastore.In(""), Limit: importItems}) {
		if err != nil {
			return 0, err
		}
		list = append(list, r)
	}
	for len(list) > 0 {
		x := importer{m: m, to: m.target.Mover}
		var done metastore.Batch
		for _, r := range list {
			var d dirty
			if err := json.Unmarshal(r.Value, &d); err != nil {
				return n, fmt.Errorf("decode note: %w", err)
			}
			if m.mine[vnode(d.Partition, m.vnodes)] {
				n++
				if err := m.copyDirty(ctx, &x, d); err != nil {
					return n, err
				}
				done = append(done, metastore.Delete{Bucket: bucketDirty, Key: r.Key, If: metastore.EtagIs(r.Etag)})
			}
		}
		if err := x.flush(ctx); err != nil {
			return n, err
		}
		for _, op := range done {
			// One by one: that a key was written again must not keep the other notes.
			if _, err := m.source.Commit(ctx, metastore.Batch{op}); err != nil && !errors.Is(err, metastore.ErrConflict) {
				return n, err
			}
		}
		last := list[len(list)-1]
		list = list[:0]
		for r, err := range m.source.Find(ctx, bucketDirty, metastore.Query{Partition: metastore.In(""), After: &last, Limit: importItems}) {
			if err != nil {
				return n, err
			}
			list = append(list, r)
		}
	}
	return n, nil
}

// copyDirty reads the present state of what a note names.
func (m *mover) copyDirty(ctx context.Context, x *importer, d dirty) error {
	key := metastore.Key{Partition: d.Partition, Name: d.Name}
	switch {
	case d.All:
		in := metastore.Query{Partition: &d.Partition}
		return differences(m.source.Find(ctx, d.Bucket, in), m.target.Find(ctx, d.Bucket, in),
			func(a, b metastore.Record) int { return a.Key.Compare(b.Key) },
			func(a, b metastore.Record) bool { return a.Etag == b.Etag },
			func(r metastore.Record, there bool) error {
				item := metastore.MoveItem{Bucket: d.Bucket, Key: r.Key}
				if there {
					item.Record = &r
				}
				return x.add(ctx, item)
			})
	case d.Counter:
		n, err := m.source.Counter(ctx, d.Bucket, key)
		if errors.Is(err, metastore.ErrNoBucket) {
			return nil // dropped since
		}
		if err != nil {
			return err
		}
		return x.add(ctx, metastore.MoveItem{Bucket: d.Bucket, Key: key, Counter: true, Value: n})
	}
	r, err := m.source.Get(ctx, d.Bucket, key)
	item := metastore.MoveItem{Bucket: d.Bucket, Key: key}
	switch {
	case err == nil:
		item.Record = &r
	case errors.Is(err, metastore.ErrNoBucket):
		return nil
	case !errors.Is(err, metastore.ErrNotFound):
		return err
	}
	return x.add(ctx, item)
}

// remove empties the virtual nodes at a store, and forgets notes of them.
func (m *mover) remove(ctx context.Context, store *side) error {
	names, err := m.bucketNames(ctx)
	if err != nil {
		return err
	}
	x := importer{m: m, to: store.Mover}
	for _, bucket := range names {
		for r, err := range m.records(ctx, store, bucket) {
			if err == nil {
				err = x.add(ctx, metastore.MoveItem{Bucket: bucket, Key: r.Key})
			}
			if err != nil {
				return err
			}
		}
		for c, err := range m.counters(ctx, store, bucket) {
			if err == nil {
				err = x.add(ctx, metastore.MoveItem{Bucket: bucket, Key: c.Key, Counter: true})
			}
			if err != nil {
				return err
			}
		}
	}
	if err := x.flush(ctx); err != nil {
		return err
	}
	if store == m.source {
		return m.forget(ctx)
	}
	return nil
}

// forget removes the source's notes for the virtual nodes, which have no more use.
func (m *mover) forget(ctx context.Context) error {
	for r, err := range m.source.Find(ctx, bucketDirty, metastore.Query{Partition: metastore.In("")}) {
		var d dirty
		if err == nil {
			err = json.Unmarshal(r.Value, &d)
		}
		if err != nil {
			return err
		}
		if m.mine[vnode(d.Partition, m.vnodes)] {
			if _, err := m.source.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: bucketDirty, Key: r.Key}}); err != nil {
				return err
			}
		}
	}
	return nil
}
