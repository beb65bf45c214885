package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// Get implements metastore.Store.
func (s *Store) Get(ctx context.Context, name string, key metastore.Key) (metastore.Record, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return metastore.Record{}, err
	}
	defer leave()
	return source{s}.Get(ctx, name, key)
}

func (s *Store) bucket(name string) (*bucket, error) {
	b := s.buckets.Load().byName[name]
	if b == nil {
		return nil, fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, name)
	}
	return b, nil
}

func (s *Store) get(b *bucket, key metastore.Key) (metastore.Record, error) {
	var space [256]byte
	k, err := s.look(appendRecordKey(space[:0], b.ID, key), false)
	if err != nil {
		return metastore.Record{}, fmt.Errorf("read record of %s: %w", b.Bucket.Name, err)
	}
	if !k.found {
		return metastore.Record{}, metastore.ErrNotFound
	}
	value := k.value
	if k.key != "" { // it is remembered
		value = bytes.Clone(value)
	}
	return metastore.Record{Bucket: b.Bucket.Name, Key: key, Value: value, Etag: k.etag, Modified: k.modified}, nil
}

// Counter implements metastore.Store.
func (s *Store) Counter(ctx context.Context, name string, key metastore.Key) (int64, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	b, err := s.bucket(name)
	if err == nil {
		err = engine.CheckKey(key)
	}
	if err != nil {
		return 0, err
	}
	n, _, err := s.counter(b.ID, key)
	return n, err
}

func (s *Store) counter(id uint32, key metastore.Key) (n int64, found bool, err error) {
	v, closer, err := s.db.Get(counterKey(id, key))
	if errors.Is(err, lsm.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read counter: %w", err)
	}
	defer closer.Close()
	n, err = counterValue(v)
	return n, true, err
}

// Find implements metastore.Store. Each page is read at one point in time.
func (s *Store) Find(ctx context.Context, name string, q metastore.Query) iter.Seq2[metastore.Record, error] {
	return func(yield func(metastore.Record, error) bool) {
		q := q // what is left of it
		for {
			b, err := s.bucket(name)
			if err == nil {
				err = s.find(ctx, b, &q, yield)
			}
			switch {
			case err == nil:
				return
			case !errors.Is(err, errStale):
				yield(metastore.Record{}, err)
				return
			}
			// Go on behind the last record, by the new schema.
		}
	}
}

// find answers what is left of a query, and leaves in it what is left after an error.
func (s *Store) find(ctx context.Context, b *bucket, q *metastore.Query, yield func(metastore.Record, error) bool) error {
	n := 0
	var last metastore.Record
	for r, err := range engine.Find(ctx, guarded{source{s}}, b.schema, *q) {
		switch {
		case err != nil && n == 0:
			return err
		case err != nil:
			after := last
			q.After, q.Limit = &after, max(q.Limit-n, 0)
			return err
		case !yield(r, nil):
			return nil
		}
		if n++; n == q.Limit {
			return nil
		}
		last = r
	}
	return nil
}

// guarded is a source that keeps the engine open during each call.
type guarded struct{ source }

func (g guarded) Page(ctx context.Context, r engine.Request) ([]engine.Row, bool, error) {
	leave, err := g.s.enter(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	rows, done, err := g.source.Page(ctx, r)
	if err == nil && !g.s.stands(r) {
		return nil, false, errStale
	}
	return rows, done, err
}

func (g guarded) Get(ctx context.Context, bucket string, key metastore.Key) (metastore.Record, error) {
	return g.s.Get(ctx, bucket, key)
}

// source reads for a caller that keeps the engine open.
type source struct{ s *Store }

func (x source) Get(_ context.Context, name string, key metastore.Key) (metastore.Record, error) {
	b, err := x.s.bucket(name)
	if err == nil {
		err = engine.CheckKey(key)
	}
	if err != nil {
		return metastore.Record{}, err
	}
	return x.s.get(b, key)
}

// pageBytes bounds the values of a page.
const pageBytes = 1 << 20

// Page implements engine.Source.
func (x source) Page(ctx context.Context, r engine.Request) ([]engine.Row, bool, error) {
	if r.Scan.Index < 0 {
		return x.records(ctx, r)
	}
	return x.entries(ctx, r)
}

// records reads a run of records in key order.
func (x source) records(ctx context.Context, r engine.Request) ([]engine.Row, bool, error) {
	b := of(r.Schema)
	prefix := idKey(nil, kindRecord, b.ID)
	skip := len(prefix)
	if r.Partition != nil {
		prefix = appendPart(prefix, *r.Partition)
	}
	lower, upper := prefix, keyEnd(prefix)
	if r.Start != nil {
		lower, upper = beyond(lower, upper, recordKey(b.ID, r.Start.Key), r)
	}
	it, err := x.s.db.NewIter(&lsm.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, false, err
	}
	defer it.Close()
	p := page{bucket: b.Bucket.Name, rows: make([]engine.Row, 0, r.N)}
	for ok := first(it, r.Descending); ok; ok = next(it, r.Descending) {
		v, err := it.ValueAndErr()
		if err == nil {
			err = p.add(it.Key()[skip:], v, nil)
		}
		if err != nil {
			return nil, false, fmt.Errorf("read records of %s: %w", b.Bucket.Name, err)
		}
		if p.full(r.N) {
			return p.finish(), false, nil
		}
	}
	return p.finish(), true, it.Error()
}

// entries reads a run of an index, and the record of each entry, as of one point in time.
func (x source) entries(ctx context.Context, r engine.Request) ([]engine.Row, bool, error) {
	b := of(r.Schema)
	id, perPartition := b.Indexes[r.Scan.Index].ID, r.Schema.Indexes[r.Scan.Index].PerPartition
	prefix := idKey(nil, kindIndex, id)
	skip := len(prefix)
	if perPartition {
		prefix = appendPart(prefix, *r.Partition)
	}
	lower, upper := appendBound(bytes.Clone(prefix), r.Scan.Lo), keyEnd(prefix)
	if r.Scan.Hi != nil {
		upper = appendBound(bytes.Clone(prefix), r.Scan.Hi)
	}
	sieve := r.Partition != nil && !perPartition
	var partition []byte
	if sieve {
		partition = appendPart(nil, *r.Partition)
	}
	if sieve && r.Scan.Eq {
		lower = appendPart(appendValue(bytes.Clone(prefix), r.Scan.Lo), *r.Partition)
		upper, sieve = keyEnd(lower), false
	}
	if r.Start != nil {
		lower, upper = beyond(lower, upper, appendIndexKey(nil, id, perPartition, r.Start.Value, r.Start.Key), r)
	}
	if bytes.Compare(lower, upper) >= 0 {
		return nil, true, nil
	}
	snapshot := x.s.db.NewSnapshot()
	defer snapshot.Close()
	it, err := snapshot.NewIter(&lsm.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, false, err
	}
	defer it.Close()
	p := page{bucket: b.Bucket.Name, rows: make([]engine.Row, 0, r.N)}
	var full []byte
	seen := 0
	for ok := first(it, r.Descending); ok; ok = next(it, r.Descending) {
		if seen++; seen%1024 == 0 && ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		value, key, err := splitIndexKey(full[:0], b.ID, it.Key()[skip:], perPartition)
		if err != nil {
			return nil, false, fmt.Errorf("read index of %s: %w", b.Bucket.Name, err)
		}
		full = key
		if sieve && !bytes.HasPrefix(full[5:], partition) {
			continue
		}
		v, closer, err := snapshot.Get(full)
		if errors.Is(err, lsm.ErrNotFound) {
			return nil, false, fmt.Errorf("index of %s names a record that is not there: %w", b.Bucket.Name, errCorrupt)
		}
		if err == nil {
			err = errors.Join(p.add(full[5:], v, value), closer.Close())
		}
		if err != nil {
			return nil, false, fmt.Errorf("read records of %s: %w", b.Bucket.Name, err)
		}
		if p.full(r.N) {
			return p.finish(), false, nil
		}
	}
	return p.finish(), true, it.Error()
}

// beyond narrows a range to what comes after a cursor's key in the direction of the request. No key is the beginning of another.
func beyond(lower, upper, key []byte, r engine.Request) (lo, hi []byte) {
	if r.Descending {
		if r.Start.Inclusive {
			key = append(key, 0)
		}
		if upper == nil || bytes.Compare(key, upper) < 0 {
			upper = key
		}
		return lower, upper
	}
	if !r.Start.Inclusive {
		key = append(key, 0)
	}
	if bytes.Compare(key, lower) > 0 {
		lower = key
	}
	return lower, upper
}

func first(it *lsm.Iterator, descending bool) bool {
	if descending {
		return it.Last()
	}
	return it.First()
}

func next(it *lsm.Iterator, descending bool) bool {
	if descending {
		return it.Prev()
	}
	return it.Next()
}

// A page gathers rows with few allocations: their values share one array and their texts one string.
type page struct {
	bucket string
	rows   []engine.Row
	values []byte
	texts  []byte
	spans  []span
}

// A span says where a row's texts and value end.
type span struct{ partition, name, etag, value int }

// add takes a record, its key without bucket, and the value under which an index has it.
func (p *page) add(key, stored, indexed []byte) error {
	head, rest, key, err := splitPart(key)
	if err != nil {
		return err
	}
	etag, modified, value, err := splitRecord(stored)
	if err != nil {
		return err
	}
	if p.values == nil {
		// Records of a page are much alike: room for all of them by the measure of the first saves growing step by step.
		n := cap(p.rows) + cap(p.rows)/16
		p.texts = make([]byte, 0, n*(len(key)+len(head)+len(etag)))
		p.values = make([]byte, 0, min(n*(len(value)+8), pageBytes+len(value)))
		p.spans = make([]span, 0, cap(p.rows))
	}
	var s span
	p.texts = append(append(p.texts, head...), rest...)
	s.partition = len(p.texts)
	if head, rest, _, err = splitPart(key); err != nil {
		return err
	}
	p.texts = append(append(p.texts, head...), rest...)
	s.name = len(p.texts)
	p.texts = append(p.texts, etag...)
	s.etag = len(p.texts)
	p.values = append(p.values, value...)
	s.value = len(p.values)
	p.spans = append(p.spans, s)
	p.rows = append(p.rows, engine.Row{Value: bytes.Clone(indexed), Record: metastore.Record{Bucket: p.bucket, Modified: modified}})
	return nil
}

func (p *page) full(n int) bool { return len(p.rows) >= n || len(p.values) >= pageBytes }

func (p *page) finish() []engine.Row {
	texts := string(p.texts)
	text, value := 0, 0
	for i, s := range p.spans {
		r := &p.rows[i].Record
		r.Key.Partition, r.Key.Name, r.Etag = texts[text:s.partition], texts[s.partition:s.name], texts[s.name:s.etag]
		r.Value = p.values[value:s.value:s.value]
		text, value = s.etag, s.value
	}
	return p.rows
}
