package shard

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// Find implements metastore.Store. A query that names a partition asks one shard, any other all of them, a page at a time.
func (s *Store) Find(ctx context.Context, bucket string, q metastore.Query) iter.Seq2[metastore.Record, error] {
	return func(yield func(metastore.Record, error) bool) {
		q := q // what is left of it
		err := s.open(ctx)
		if err == nil && reserved(bucket) {
			err = fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, bucket)
		}
		for err == nil {
			var k *known
			if k, err = s.current(ctx); err != nil {
				break
			}
			m := merge{s: s, ctx: ctx, k: k, bucket: bucket, q: q, yield: yield}
			err = m.run()
			if !errors.Is(err, errRingChanged) {
				break
			}
			// Go on behind the last record, with the new ring.
			q, err = m.q, nil
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(metastore.Record{}, err)
		}
	}
}

var (
	errRingChanged = errors.New("the ring has changed")
	errStopped     = errors.New("consumer has stopped")
)

// A merge answers a query as long as one ring is in force.
type merge struct {
	s      *Store
	ctx    context.Context
	k      *known
	bucket string
	q      metastore.Query
	yield  func(metastore.Record, error) bool
}

func (m *merge) run() error {
	if m.q.Partition != nil {
		return m.one(m.k.ring.owner(*m.q.Partition))
	}
	return m.all()
}

// inForce makes sure, before a record is used that was read by this ring, that no move has switched since.
func (m *merge) inForce() error {
	if time.Now().Before(m.k.until) {
		return nil
	}
	k, err := m.s.current(m.ctx)
	if err != nil {
		return err
	}
	if k.ring.etag != m.k.ring.etag {
		return errRingChanged
	}
	m.k = k
	return nil
}

// give yields a record and notes it as the place to go on behind.
func (m *merge) give(r metastore.Record) error {
	after := r
	m.q.After = &after
	if !m.yield(r, nil) {
		return errStopped
	}
	if m.q.Limit > 0 {
		if m.q.Limit--; m.q.Limit == 0 {
			return errStopped
		}
	}
	return nil
}

func (m *merge) one(owner int) error {
	for r, err := range m.k.ring.stores[owner].Find(m.ctx, m.bucket, m.q) {
		if e := m.inForce(); e != nil {
			return e
		}
		if err != nil {
			return err
		}
		if err := m.give(r); err != nil {
			return err
		}
	}
	return m.inForce()
}

// A head is the next record of a shard.
type head struct {
	next   func() (metastore.Record, error, bool)
	record metastore.Record
}

func (m *merge) all() error {
	plan, err := m.plan()
	if err != nil {
		return err
	}
	q := m.q
	q.Limit = 0 // what a shard does not own must not count
	var heads []*head
	for i, store := range m.k.ring.stores {
		if store == nil {
			continue
		}
		next, stop := iter.Pull2(m.owned(i, store.Find(m.ctx, m.bucket, q)))
		defer stop()
		h := &head{next: next}
		ok, err := h.advance()
		if err != nil {
			return err
		}
		if ok {
			heads = append(heads, h)
		}
	}
	for len(heads) > 0 {
		least := 0
		for i := range heads {
			if plan.Compare(heads[i].record, heads[least].record) < 0 {
				least = i
			}
		}
		if err := m.inForce(); err != nil {
			return err
		}
		if err := m.give(heads[least].record); err != nil {
			return err
		}
		ok, err := heads[least].advance()
		if err != nil {
			return err
		}
		if !ok {
			heads = append(heads[:least], heads[least+1:]...)
		}
	}
	return m.inForce()
}

func (h *head) advance() (ok bool, err error) {
	h.record, err, ok = h.next()
	return ok, err
}

// owned leaves out copies that are on their way in, or not yet cleaned away.
func (m *merge) owned(shard int, list iter.Seq2[metastore.Record, error]) iter.Seq2[metastore.Record, error] {
	return func(yield func(metastore.Record, error) bool) {
		for r, err := range list {
			if err == nil && m.k.ring.owner(r.Key.Partition) != shard {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// plan is for the order alone; whether the query can be answered the shards decide.
func (m *merge) plan() (*engine.Plan, error) {
	order := metastore.Query{OrderBy: m.q.OrderBy, Descending: m.q.Descending, Scan: true}
	for fresh := false; ; fresh = true {
		err := fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, m.bucket)
		if schema := (*m.s.schemas.Load())[m.bucket]; schema != nil {
			var p *engine.Plan
			if p, err = engine.NewPlan(schema, order); err == nil {
				return p, nil
			}
		}
		if fresh {
			return nil, err
		}
		// Another process may have defined it.
		if err := m.s.loadSchemas(m.ctx); err != nil {
			return nil, err
		}
	}
}
