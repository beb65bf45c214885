package pebble

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// bucketMeta is a bucket as it is stored.
type bucketMeta struct {
	ID      uint32           `json:"id"`
	Bucket  metastore.Bucket `json:"bucket"`
	Indexes []indexMeta      `json:"indexes"` // as Bucket.Indexes

	// How far Reindex has come, while any index is being built.
	After metastore.Key `json:"after,omitzero"`
	Begun bool          `json:"begun,omitempty"`
	Total int           `json:"total,omitempty"`
	Done  int           `json:"done,omitempty"`
}

type indexMeta struct {
	ID       uint32 `json:"id"`
	Building bool   `json:"building,omitempty"`
}

// A bucket is a schema with its ids. It is immutable once published.
type bucket struct {
	bucketMeta
	schema *engine.Schema
}

// buckets is one generation of schemas.
type buckets struct {
	byName map[string]*bucket
	byID   map[uint32]*bucket
	next   uint32 // id
}

func (b *buckets) schema(name string) *engine.Schema {
	if x := b.byName[name]; x != nil {
		return x.schema
	}
	return nil
}

func of(s *engine.Schema) *bucket { return s.Data.(*bucket) }

func newBucket(m bucketMeta) (*bucket, error) {
	schema, err := engine.Compile(m.Bucket)
	if err != nil {
		return nil, err
	}
	if len(m.Indexes) != len(schema.Indexes) {
		return nil, errCorrupt
	}
	b := &bucket{m, schema}
	b.Bucket = schema.Bucket
	schema.Data = b
	for i, x := range m.Indexes {
		schema.Usable[i] = !x.Building
	}
	return b, nil
}

func (s *Store) loadBuckets() error {
	all := &buckets{byName: map[string]*bucket{}, byID: map[uint32]*bucket{}, next: 1}
	prefix := metaKey("b/")
	it, err := s.db.NewIter(&lsm.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		var m bucketMeta
		if err := json.Unmarshal(it.Value(), &m); err != nil {
			return fmt.Errorf("bucket %q: %w", it.Key(), err)
		}
		b, err := newBucket(m)
		if err != nil {
			return fmt.Errorf("bucket %q: %w", it.Key(), err)
		}
		all.byName[b.Bucket.Name], all.byID[b.ID] = b, b
	}
	if err := it.Error(); err != nil {
		return err
	}
	next, err := s.read(metaKey("next"))
	if err == nil {
		err = json.Unmarshal(next, &all.next)
	}
	if err != nil && !errors.Is(err, lsm.ErrNotFound) {
		return err
	}
	s.buckets.Store(all)
	return nil
}

// restructure keeps everybody else from changing schemas, and from committing, until the function that it returns is called.
func (s *Store) restructure() (done func()) {
	s.schema.Lock()
	s.restructures.Add(1)
	return func() {
		s.restructures.Add(1)
		s.schema.Unlock()
	}
}

// stands reports whether what a request has just read is still there by the present schemas. An index that was dropped reads as if it ended.
func (s *Store) stands(r engine.Request) bool {
	if s.restructures.Load()%2 == 1 {
		s.schema.RLock() // what is gone may not be known yet
		defer s.schema.RUnlock()
	}
	b := of(r.Schema)
	now := s.buckets.Load().byName[b.Bucket.Name]
	if now == b {
		return true
	}
	return now != nil && now.ID == b.ID &&
		(r.Scan.Index < 0 || slices.ContainsFunc(now.Indexes, func(x indexMeta) bool { return x.ID == b.Indexes[r.Scan.Index].ID }))
}

// errStale says that a query's index or bucket is gone; plan it anew.
var errStale = errors.New("schemas have changed")

// with returns the next generation, in which b replaces its namesake; a nil schema removes it.
func (b *buckets) with(x *bucket, next uint32) *buckets {
	n := &buckets{maps.Clone(b.byName), maps.Clone(b.byID), next}
	if x.schema == nil {
		delete(n.byName, x.Bucket.Name)
		delete(n.byID, x.ID)
	} else {
		n.byName[x.Bucket.Name], n.byID[x.ID] = x, x
	}
	return n
}

// Define implements metastore.Store.
func (s *Store) Define(ctx context.Context, want metastore.Bucket) error {
	schema, err := engine.Compile(want)
	if err != nil {
		return err
	}
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	defer s.restructure()()
	all := s.buckets.Load()
	old := all.byName[want.Name]
	if old != nil {
		if done, err := engine.Supersedes(schema, old.schema); done || err != nil {
			return err
		}
	}
	m := bucketMeta{Bucket: schema.Bucket, Indexes: make([]indexMeta, len(schema.Indexes))}
	next := all.next
	batch := s.db.NewBatch()
	defer batch.Close()
	dropped := map[uint32]bool{}
	building := false
	if old == nil {
		m.ID = next
		next++
	} else {
		m.ID = old.ID
		for _, x := range old.Indexes {
			dropped[x.ID] = true
		}
		if building, err = s.hasRecords(m.ID); err != nil {
			return err
		}
	}
	for i, x := range schema.Indexes {
		if old != nil {
			if j, ok := old.schema.Index(x.Field); ok && old.schema.Indexes[j] == x {
				m.Indexes[i] = old.Indexes[j]
				delete(dropped, old.Indexes[j].ID)
				continue
			}
		}
		m.Indexes[i] = indexMeta{ID: next, Building: building}
		next++
	}
	for id := range dropped {
		if err := dropIndex(batch, id); err != nil {
			return err
		}
	}
	return s.storeBucket(batch, all, m, next)
}

// storeBucket writes a bucket with the batch and publishes it. A changed bucket begins its reindexing anew.
func (s *Store) storeBucket(batch *lsm.Batch, all *buckets, m bucketMeta, next uint32) error {
	b, err := newBucket(m)
	if err != nil {
		return err
	}
	text, err := json.Marshal(b.bucketMeta)
	if err != nil {
		return err
	}
	nextText, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := errors.Join(batch.Set(metaKey("b/"+m.Bucket.Name), text, nil), batch.Set(metaKey("next"), nextText, nil)); err != nil {
		return err
	}
	if err := s.apply(batch); err != nil {
		return err
	}
	s.buckets.Store(all.with(b, next))
	return nil
}

func dropIndex(batch *lsm.Batch, id uint32) error {
	for _, kind := range []byte{kindIndex, kindUnique} {
		prefix := idKey(nil, kind, id)
		if err := batch.DeleteRange(prefix, keyEnd(prefix), nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) hasRecords(id uint32) (bool, error) {
	prefix := idKey(nil, kindRecord, id)
	it, err := s.db.NewIter(&lsm.IterOptions{LowerBound: prefix, UpperBound: keyEnd(prefix)})
	if err != nil {
		return false, err
	}
	found := it.First()
	return found, it.Close()
}

// Buckets implements metastore.Store.
func (s *Store) Buckets(ctx context.Context) ([]metastore.Bucket, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var list []metastore.Bucket
	for _, b := range s.buckets.Load().byName {
		x := b.Bucket
		x.Indexes = slices.Clone(x.Indexes)
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b metastore.Bucket) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Drop implements metastore.Store. The space comes back as the engine compacts.
func (s *Store) Drop(ctx context.Context, name string) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	defer s.restructure()()
	all := s.buckets.Load()
	b := all.byName[name]
	if b == nil {
		return nil
	}
	batch := s.db.NewBatch()
	defer batch.Close()
	for _, kind := range []byte{kindRecord, kindCounter} {
		prefix := idKey(nil, kind, b.ID)
		if err := batch.DeleteRange(prefix, keyEnd(prefix), nil); err != nil {
			return err
		}
	}
	for _, x := range b.Indexes {
		if err := dropIndex(batch, x.ID); err != nil {
			return err
		}
	}
	if err := batch.Delete(metaKey("b/"+name), nil); err != nil {
		return err
	}
	if err := s.apply(batch); err != nil {
		return err
	}
	gone := &bucket{bucketMeta: b.bucketMeta}
	s.buckets.Store(all.with(gone, all.next))
	return nil
}
