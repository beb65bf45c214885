package pebble

import (
	"context"
	"iter"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

var _ metastore.Mover = (*Store)(nil)

const counterPage = 1024

// Counters implements metastore.Mover.
func (s *Store) Counters(ctx context.Context, name string) iter.Seq2[metastore.CounterItem, error] {
	return func(yield func(metastore.CounterItem, error) bool) {
		var after *metastore.Key
		for {
			list, done, err := s.counterPage(ctx, name, after)
			for _, c := range list {
				if c.Value != 0 && !yield(c, nil) {
					return
				}
				after = &c.Key
			}
			if err != nil {
				yield(metastore.CounterItem{}, err)
			}
			if done || err != nil {
				return
			}
		}
	}
}

func (s *Store) counterPage(ctx context.Context, name string, after *metastore.Key) (list []metastore.CounterItem, done bool, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	b, err := s.bucket(name)
	if err != nil {
		return nil, false, err
	}
	prefix := idKey(nil, kindCounter, b.ID)
	lower := prefix
	if after != nil {
		lower = append(counterKey(b.ID, *after), 0)
	}
	it, err := s.db.NewIter(&lsm.IterOptions{LowerBound: lower, UpperBound: keyEnd(prefix)})
	if err != nil {
		return nil, false, err
	}
	defer it.Close()
	for it.First(); it.Valid() && len(list) < counterPage; it.Next() {
		var c metastore.CounterItem
		if c.Key, err = takeKey(it.Key()[len(prefix):]); err == nil {
			c.Value, err = counterValue(it.Value())
		}
		if err != nil {
			return nil, false, err
		}
		list = append(list, c)
	}
	return list, !it.Valid(), it.Error()
}

// Import implements metastore.Mover. All other commits wait meanwhile, so keep the lists short.
func (s *Store) Import(ctx context.Context, check metastore.Check, items []metastore.MoveItem) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c := commit{s: s, batch: s.db.NewBatch()}
	if err := c.take(check, items); err != nil {
		c.batch.Close()
		return err
	}
	if err := c.batch.SyncWait(); err != nil {
		s.broken.CompareAndSwap(nil, &err)
		return s.unavailable()
	}
	return c.batch.Close()
}

func (c *commit) take(check metastore.Check, items []metastore.MoveItem) error {
	c.s.schema.Lock()
	defer c.s.schema.Unlock()
	if err := c.s.unavailable(); err != nil {
		return err
	}
	imported, err := engine.PrepareImport(check, items, c.s.buckets.Load().schema)
	if err != nil {
		return err
	}
	p := imported.Prepared()
	olds, err := c.check(p)
	if err == nil {
		err = c.unique(p, olds)
	}
	if err != nil {
		return err
	}
	for i, w := range p.Writes {
		b := of(w.Schema)
		key := recordKey(b.ID, w.Key)
		if r := imported.Records[i]; r == nil {
			err = c.batch.Delete(key, nil)
		} else {
			err = c.batch.Set(key, appendRecord(nil, r.Etag, r.Modified, r.Value), nil)
		}
		if err == nil {
			err = c.reindex(b, w.Key, olds[i].entries, w.Entries)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range imported.Counters {
		have, _, err := c.s.counter(of(d.Schema).ID, d.Key)
		if err == nil && have != d.Delta {
			err = c.batch.Merge(counterKey(of(d.Schema).ID, d.Key), addOperand(d.Delta-have), nil)
		}
		if err != nil {
			return err
		}
	}
	// An empty batch has to be synced, too: what it was checked against may not be durable yet.
	if err := c.batch.LogData([]byte("import"), nil); err != nil {
		return err
	}
	return c.send()
}
