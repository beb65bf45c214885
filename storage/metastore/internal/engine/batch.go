package engine

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// NewEtag returns an etag that no record ever had: 96 random bits. Being random it needs no counter that a restored or moved store
// could wind back.
func NewEtag() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Now is the time for Record.Modified, in the resolution that every store keeps.
func Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// Many is the common part of UpdateMany and DeleteMany.
type Many struct {
	Op     int
	Schema *Schema
	Query  metastore.Query
	Plan   *Plan
	Set    map[string]any // nil deletes
}

// A Write is a Put or Delete, or one record of a [Many].
type Write struct {
	Op      int
	Schema  *Schema
	Key     metastore.Key
	If      metastore.Condition
	Value   json.RawMessage // nil deletes
	Entries []Entry         // of Value
}

// A Read is a Check.
type Read struct {
	Op     int
	Schema *Schema
	Key    metastore.Key
	If     metastore.Condition
}

// A Bound is a CheckCounter.
type Bound struct {
	Op       int
	Schema   *Schema
	Key      metastore.Key
	Min, Max int64
}

// A Delta is an Add.
type Delta struct {
	Op     int
	Schema *Schema
	Key    metastore.Key
	Delta  int64
}

// A Prepared is a checked batch, its operations by kind.
type Prepared struct {
	Writes []Write
	Reads  []Read
	Bounds []Bound
	Deltas []Delta
	Manys  []Many

	// Partitions are all that the batch names, each once; a [Many] may have more if its query names none.
	Partitions []string

	written map[bucketKey]struct{} // the keys of Writes; nil as long as they are few
}

// fewOps is how many operations are not worth a map.
const fewOps = 8

type bucketKey struct {
	bucket string
	key    metastore.Key
}

// Prepare checks a batch: buckets, keys, values, conditions' form, queries, and that no key is written twice.
func Prepare(b metastore.Batch, schema func(bucket string) *Schema) (*Prepared, error) {
	if len(b) > metastore.MaxBatchOps && len(b)-ownOps(b) > metastore.MaxBatchOps {
		return nil, fmt.Errorf("%w: batch of %d operations has more than %d", metastore.ErrInvalid, len(b), metastore.MaxBatchOps)
	}
	p := &Prepared{}
	p.Writes = make([]Write, 0, min(len(b), fewOps))
	if len(b) > fewOps {
		p.written = make(map[bucketKey]struct{}, len(b))
	}
	for i, op := range b {
		if err := p.add(i, op, schema); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
	}
	return p, nil
}

func (p *Prepared) add(i int, op metastore.Op, schemas func(string) *Schema) error {
	resolve := func(bucket string, key metastore.Key) (*Schema, error) {
		s := schemas(bucket)
		if s == nil {
			return nil, fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, bucket)
		}
		if err := CheckKey(key); err != nil {
			return nil, err
		}
		p.partition(key.Partition)
		return s, nil
	}
	switch op := op.(type) {
	case metastore.Put:
		s, err := resolve(op.Bucket, op.Key)
		if err != nil {
			return err
		}
		if err := CheckValue(op.Value); err != nil {
			return err
		}
		entries, err := s.Entries(op.Value)
		if err != nil {
			return err
		}
		return p.write(Write{i, s, op.Key, op.If, op.Value, entries})
	case metastore.Delete:
		s, err := resolve(op.Bucket, op.Key)
		if err != nil {
			return err
		}
		return p.write(Write{i, s, op.Key, op.If, nil, nil})
	case metastore.Check:
		s, err := resolve(op.Bucket, op.Key)
		if err != nil {
			return err
		}
		p.Reads = append(p.Reads, Read{i, s, op.Key, op.If})
	case metastore.Add:
		s, err := resolve(op.Bucket, op.Key)
		if err != nil {
			return err
		}
		p.Deltas = append(p.Deltas, Delta{i, s, op.Key, op.Delta})
	case metastore.CheckCounter:
		s, err := resolve(op.Bucket, op.Key)
		if err != nil {
			return err
		}
		p.Bounds = append(p.Bounds, Bound{i, s, op.Key, op.Min, op.Max})
	case metastore.UpdateMany:
		set := op.Set
		if set == nil {
			set = map[string]any{}
		}
		for field := range set {
			if err := checkField(field); err != nil {
				return err
			}
		}
		return p.many(i, op.Bucket, op.Query, set, schemas)
	case metastore.DeleteMany:
		return p.many(i, op.Bucket, op.Query, nil, schemas)
	default:
		return fmt.Errorf("%w: unknown operation %T", metastore.ErrInvalid, op)
	}
	return nil
}

func (p *Prepared) partition(name string) {
	for _, have := range p.Partitions {
		if have == name {
			return
		}
	}
	p.Partitions = append(p.Partitions, name)
}

func (p *Prepared) write(w Write) error {
	if p.Written(w.Schema.Name, w.Key) {
		return fmt.Errorf("%w: key written twice in a batch", metastore.ErrInvalid)
	}
	if p.written != nil {
		p.written[bucketKey{w.Schema.Name, w.Key}] = struct{}{}
	}
	p.Writes = append(p.Writes, w)
	return nil
}

// Written reports whether the batch writes the key already.
func (p *Prepared) Written(bucket string, key metastore.Key) bool {
	if p.written == nil {
		return slices.ContainsFunc(p.Writes, func(w Write) bool { return w.Key == key && w.Schema.Name == bucket })
	}
	_, ok := p.written[bucketKey{bucket, key}]
	return ok
}

func (p *Prepared) many(i int, bucket string, q metastore.Query, set map[string]any, schemas func(string) *Schema) error {
	s := schemas(bucket)
	if s == nil {
		return fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, bucket)
	}
	switch {
	case q.Limit == 0:
		q.Limit = 1000
	case q.Limit > metastore.MaxBatchOps:
		return fmt.Errorf("%w: limit %d is above %d", metastore.ErrInvalid, q.Limit, metastore.MaxBatchOps)
	}
	plan, err := NewPlan(s, q)
	if err != nil {
		return err
	}
	if q.Partition != nil {
		p.partition(*q.Partition)
	}
	if p.written == nil {
		p.written = map[bucketKey]struct{}{} // it may select many
		for _, w := range p.Writes {
			p.written[bucketKey{w.Schema.Name, w.Key}] = struct{}{}
		}
	}
	p.Manys = append(p.Manys, Many{i, s, q, plan, set})
	return nil
}

// Expand turns the record that a [Many] has selected into a write of the batch. It reports false for one to leave out,
// because the batch writes it otherwise.
func (p *Prepared) Expand(m Many, r metastore.Record) (bool, error) {
	if p.Written(m.Schema.Name, r.Key) {
		return false, nil
	}
	w := Write{Op: m.Op, Schema: m.Schema, Key: r.Key}
	if m.Set != nil {
		value, err := SetFields(r.Value, m.Set)
		if err == nil {
			err = CheckValue(value)
		}
		if err == nil {
			w.Entries, err = m.Schema.Entries(value)
		}
		if err != nil {
			return false, fmt.Errorf("operation %d: %w", m.Op, err)
		}
		w.Value = value
	}
	return true, p.write(w)
}

// Conflict is the error of a write or check whose condition does not hold.
func Conflict(op int, s *Schema, key metastore.Key, want metastore.Condition, got string) error {
	return &metastore.ConditionError{Op: op, Bucket: s.Name, Key: key, Want: want, Got: got}
}

// ReservedPrefix begins the names of the buckets that metastore/shard keeps for itself.
const ReservedPrefix = "shard_"

// ownOps counts the operations that metastore/shard has added to a batch; they are not the caller's to answer for.
func ownOps(b metastore.Batch) (n int) {
	for _, op := range b {
		switch op := op.(type) {
		case metastore.Put:
			if strings.HasPrefix(op.Bucket, ReservedPrefix) {
				n++
			}
		case metastore.Check:
			if strings.HasPrefix(op.Bucket, ReservedPrefix) {
				n++
			}
		}
	}
	return n
}
