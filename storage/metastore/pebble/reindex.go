package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// reindexStep is how many records are done while commits wait.
const reindexStep = 500

// Reindex implements metastore.Store. It goes through the records in key order; commits meanwhile write the new indexes, too,
// so each record has to be visited once.
func (s *Store) Reindex(ctx context.Context, name string, n int) (left int, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	if n <= 0 {
		return 0, fmt.Errorf("%w: reindex of %d records", metastore.ErrInvalid, n)
	}
	total, err := s.countOnce(name)
	if err != nil {
		return 0, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		done := false
		step := min(n, reindexStep)
		if left, done, err = s.reindexSome(name, step, total); err != nil || done {
			return left, err
		}
		if n -= step; n == 0 {
			return left, nil
		}
	}
}

// countOnce counts the bucket's records when its reindexing begins.
func (s *Store) countOnce(name string) (int, error) {
	b, err := s.bucket(name)
	if err != nil || b.Begun || !b.building() {
		return 0, err
	}
	prefix := idKey(nil, kindRecord, b.ID)
	it, err := s.db.NewIter(&lsm.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return 0, err
	}
	total := 0
	for it.First(); it.Valid(); it.Next() {
		total++
	}
	return total, it.Close()
}

func (b *bucket) building() bool {
	return slices.ContainsFunc(b.Indexes, func(x indexMeta) bool { return x.Building })
}

func (s *Store) reindexSome(name string, n, total int) (left int, done bool, err error) {
	s.schema.Lock()
	defer s.schema.Unlock()
	all := s.buckets.Load()
	b, err := s.bucket(name)
	if err != nil {
		return 0, false, err
	}
	if !b.building() {
		return 0, true, nil
	}
	m := b.bucketMeta
	m.Indexes = slices.Clone(m.Indexes)
	prefix := idKey(nil, kindRecord, b.ID)
	lower := prefix
	if m.Begun {
		lower = append(recordKey(b.ID, m.After), 0)
	} else {
		m.Total = total
	}
	it, err := s.db.NewIter(&lsm.IterOptions{LowerBound: lower, UpperBound: keyEnd(prefix)})
	if err != nil {
		return 0, false, err
	}
	defer it.Close()
	batch := s.db.NewBatch()
	defer batch.Close()
	claimed := map[string][]byte{}
	seen := 0
	for it.First(); it.Valid() && seen < n; it.Next() {
		seen++
		if err := s.reindexRecord(batch, b, it.Key()[len(prefix):], it.Value(), claimed); err != nil {
			return 0, false, err
		}
		if m.After, err = takeKey(it.Key()[len(prefix):]); err != nil {
			return 0, false, err
		}
	}
	if err := it.Error(); err != nil {
		return 0, false, err
	}
	m.Begun = true
	m.Done += seen
	left = max(m.Total-m.Done, 1)
	if !it.Valid() {
		left, done = 0, true
		for i := range m.Indexes {
			m.Indexes[i].Building = false
		}
		m.After, m.Begun, m.Total, m.Done = metastore.Key{}, false, 0, 0
	}
	return left, done, s.storeBucket(batch, all, m, all.next)
}

// reindexRecord adds a record's entries in the indexes that are being built.
func (s *Store) reindexRecord(batch *lsm.Batch, b *bucket, key, stored []byte, claimed map[string][]byte) error {
	_, _, value, err := splitRecord(stored)
	if err != nil {
		return err
	}
	k, err := takeKey(key)
	if err != nil {
		return err
	}
	for _, e := range b.schema.FittingEntries(value) {
		if !b.Indexes[e.Index].Building {
			continue
		}
		x, id := b.schema.Indexes[e.Index], b.Indexes[e.Index].ID
		if x.Unique {
			if err := s.claim(batch, b, e, k, key, claimed); err != nil {
				return err
			}
		}
		if err := batch.Set(appendIndexKey(nil, id, x.PerPartition, e.Value, k), nil, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) claim(batch *lsm.Batch, b *bucket, e engine.Entry, k metastore.Key, key []byte, claimed map[string][]byte) error {
	u := uniqueKey(b.Indexes[e.Index].ID, e.Value)
	owner, ok := claimed[string(u)]
	if !ok {
		var err error
		owner, err = s.read(u)
		if err != nil && !errors.Is(err, lsm.ErrNotFound) {
			return err
		}
	}
	if owner != nil && !bytes.Equal(owner, key) {
		return &metastore.UniqueError{Op: -1, Bucket: b.Bucket.Name, Field: b.schema.Indexes[e.Index].Field, Key: k}
	}
	claimed[string(u)] = bytes.Clone(key)
	return batch.Set(u, claimed[string(u)], nil)
}
