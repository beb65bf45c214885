package metastoretest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// Memory is a metastore.Store in memory. It keeps plain maps under one lock and answers queries by looking at every record of a
// partition or bucket, so it is slow on large ones.
type Memory struct {
	mu      sync.Mutex
	buckets map[string]*memoryBucket
	closed  chan struct{}
	log     []metastore.Change // Position i+1 is after log[i]
	wake    chan struct{}      // closed when the log grows
}

var _ metastore.Store = (*Memory)(nil)

type memoryBucket struct {
	schema     *engine.Schema
	partitions map[string]map[string]metastore.Record // by name
	counters   map[metastore.Key]int64
	pending    int // records that Reindex has not seen
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{buckets: map[string]*memoryBucket{}, closed: make(chan struct{}), wake: make(chan struct{})}
}

// lock locks the store for a call, unless it is closed or ctx has ended.
func (m *Memory) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	select {
	case <-m.closed:
		m.mu.Unlock()
		return metastore.ErrClosed
	default:
		return nil
	}
}

func (m *Memory) bucket(name string) (*memoryBucket, error) {
	b := m.buckets[name]
	if b == nil {
		return nil, fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, name)
	}
	return b, nil
}

func (b *memoryBucket) get(k metastore.Key) (r metastore.Record, ok bool) {
	r, ok = b.partitions[k.Partition][k.Name]
	return r, ok
}

func (b *memoryBucket) records() int {
	n := 0
	for _, p := range b.partitions {
		n += len(p)
	}
	return n
}

// Define implements metastore.Store.
func (m *Memory) Define(ctx context.Context, want metastore.Bucket) error {
	schema, err := engine.Compile(want)
	if err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	b := m.buckets[want.Name]
	if b == nil {
		m.buckets[want.Name] = &memoryBucket{
			schema:     schema,
			partitions: map[string]map[string]metastore.Record{},
			counters:   map[metastore.Key]int64{},
		}
		return nil
	}
	if done, err := engine.Supersedes(schema, b.schema); done || err != nil {
		return err
	}
	records := b.records()
	for i, x := range schema.Indexes {
		j, ok := b.schema.Index(x.Field)
		schema.Usable[i] = records == 0 || ok && b.schema.Indexes[j] == x && b.schema.Usable[j]
		if !schema.Usable[i] {
			b.pending = records
		}
	}
	b.schema = schema
	return nil
}

// Buckets implements metastore.Store.
func (m *Memory) Buckets(ctx context.Context) ([]metastore.Bucket, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []metastore.Bucket
	for _, b := range m.buckets {
		x := b.schema.Bucket
		x.Indexes = slices.Clone(x.Indexes)
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b metastore.Bucket) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Drop implements metastore.Store.
func (m *Memory) Drop(ctx context.Context, name string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	delete(m.buckets, name)
	for i, c := range m.log {
		if c.Bucket == name {
			m.log[i].Bucket = "" // numbers stay, the notice goes
		}
	}
	return nil
}

// Reindex implements metastore.Store.
func (m *Memory) Reindex(ctx context.Context, name string, n int) (int, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	b, err := m.bucket(name)
	if err != nil {
		return 0, err
	}
	if n <= 0 {
		return 0, fmt.Errorf("%w: reindex of %d records", metastore.ErrInvalid, n)
	}
	if !slices.Contains(b.schema.Usable, false) {
		return 0, nil
	}
	if b.pending -= n; b.pending > 0 {
		return b.pending, nil
	}
	owners := map[string]metastore.Key{}
	for _, r := range b.sorted(nil) {
		for _, e := range b.schema.FittingEntries(r.Value) {
			if !b.schema.Indexes[e.Index].Unique || b.schema.Usable[e.Index] {
				continue
			}
			u := fmt.Sprint(e.Index, " ", string(e.Value))
			if owner, taken := owners[u]; taken && owner != r.Key {
				return 0, &metastore.UniqueError{Op: -1, Bucket: name, Field: b.schema.Indexes[e.Index].Field, Key: r.Key}
			}
			owners[u] = r.Key
		}
	}
	for i := range b.schema.Usable {
		b.schema.Usable[i] = true
	}
	return 0, nil
}

// Get implements metastore.Store.
func (m *Memory) Get(ctx context.Context, name string, key metastore.Key) (metastore.Record, error) {
	if err := m.lock(ctx); err != nil {
		return metastore.Record{}, err
	}
	defer m.mu.Unlock()
	b, err := m.bucket(name)
	if err == nil {
		err = engine.CheckKey(key)
	}
	if err != nil {
		return metastore.Record{}, err
	}
	r, ok := b.get(key)
	if !ok {
		return metastore.Record{}, metastore.ErrNotFound
	}
	return copyRecord(r), nil
}

func copyRecord(r metastore.Record) metastore.Record {
	r.Value = bytes.Clone(r.Value)
	return r
}

// Counter implements metastore.Store.
func (m *Memory) Counter(ctx context.Context, name string, key metastore.Key) (int64, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	b, err := m.bucket(name)
	if err == nil {
		err = engine.CheckKey(key)
	}
	if err != nil {
		return 0, err
	}
	return b.counters[key], nil
}

// Commit implements metastore.Store.
func (m *Memory) Commit(ctx context.Context, ops metastore.Batch) (metastore.Result, error) {
	if err := m.lock(ctx); err != nil {
		return metastore.Result{}, err
	}
	defer m.mu.Unlock()
	p, err := engine.Prepare(ops, func(name string) *engine.Schema {
		if b := m.buckets[name]; b != nil {
			return b.schema
		}
		return nil
	})
	if err != nil {
		return metastore.Result{}, err
	}
	if err := m.check(p); err != nil {
		return metastore.Result{}, err
	}
	named := len(p.Writes)
	result := metastore.Result{Etags: make([]string, len(ops)), Counts: make([]int, len(ops))}
	for _, many := range p.Manys {
		for _, r := range m.find(many.Plan) {
			taken, err := p.Expand(many, r)
			if err != nil {
				return metastore.Result{}, err
			}
			if taken {
				result.Counts[many.Op]++
			}
		}
	}
	if err := m.unique(p); err != nil {
		return metastore.Result{}, err
	}
	for i, w := range p.Writes {
		etag := m.write(w)
		if i < named {
			result.Etags[w.Op] = etag
		}
	}
	for _, d := range p.Deltas {
		b := m.buckets[d.Schema.Name]
		if b.counters[d.Key] += d.Delta; b.counters[d.Key] == 0 {
			delete(b.counters, d.Key)
		}
	}
	result.Position = position(len(m.log))
	return result, nil
}

// check finds the first condition, in the order of operations, that does not hold.
func (m *Memory) check(p *engine.Prepared) error {
	var first *metastore.ConditionError
	condition := func(op int, s *engine.Schema, key metastore.Key, want metastore.Condition, got string, ok bool) {
		if !ok && (first == nil || op < first.Op) {
			first = &metastore.ConditionError{Op: op, Bucket: s.Name, Key: key, Want: want, Got: got}
		}
	}
	for _, w := range p.Writes {
		r, _ := m.buckets[w.Schema.Name].get(w.Key)
		condition(w.Op, w.Schema, w.Key, w.If, r.Etag, w.If.Holds(r.Etag))
	}
	for _, c := range p.Reads {
		r, _ := m.buckets[c.Schema.Name].get(c.Key)
		condition(c.Op, c.Schema, c.Key, c.If, r.Etag, c.If.Holds(r.Etag))
	}
	for _, b := range p.Bounds {
		n := m.buckets[b.Schema.Name].counters[b.Key]
		condition(b.Op, b.Schema, b.Key, metastore.Condition{}, fmt.Sprint(n), b.Min <= n && n <= b.Max)
	}
	if first != nil {
		return first
	}
	return nil
}

// unique looks at the state that the batch would leave.
func (m *Memory) unique(p *engine.Prepared) error {
	for _, w := range p.Writes {
		for _, e := range w.Entries {
			x := w.Schema.Indexes[e.Index]
			if !x.Unique {
				continue
			}
			taken := &metastore.UniqueError{Op: w.Op, Bucket: w.Schema.Name, Field: x.Field, Key: w.Key}
			same := func(other engine.Entry) bool {
				return other.Index == e.Index && bytes.Equal(other.Value, e.Value)
			}
			for _, v := range p.Writes {
				if v.Schema == w.Schema && v.Key != w.Key && slices.ContainsFunc(v.Entries, same) {
					if v.Op > w.Op {
						taken.Op, taken.Key = v.Op, v.Key
					}
					return taken
				}
			}
			for _, r := range m.buckets[w.Schema.Name].sorted(nil) {
				if r.Key != w.Key && !p.Written(w.Schema.Name, r.Key) &&
					slices.ContainsFunc(w.Schema.FittingEntries(r.Value), same) {
					return taken
				}
			}
		}
	}
	return nil
}

func (m *Memory) write(w engine.Write) (etag string) {
	b := m.buckets[w.Schema.Name]
	if _, ok := b.get(w.Key); !ok && w.Value == nil {
		return ""
	}
	if w.Value == nil {
		delete(b.partitions[w.Key.Partition], w.Key.Name)
		if len(b.partitions[w.Key.Partition]) == 0 {
			delete(b.partitions, w.Key.Partition)
		}
	} else {
		etag = engine.NewEtag()
		if b.partitions[w.Key.Partition] == nil {
			b.partitions[w.Key.Partition] = map[string]metastore.Record{}
		}
		b.partitions[w.Key.Partition][w.Key.Name] = metastore.Record{
			Bucket: w.Schema.Name, Key: w.Key, Value: json.RawMessage(bytes.Clone(w.Value)), Etag: etag, Modified: engine.Now(),
		}
	}
	if w.Schema.Watched {
		m.append(metastore.Change{Bucket: w.Schema.Name, Key: w.Key})
	}
	return etag
}

// Colocated is always true.
func (m *Memory) Colocated(...string) bool { return true }

// Close ends every Watch; all calls after it fail.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
	default:
		close(m.closed)
	}
	return nil
}
