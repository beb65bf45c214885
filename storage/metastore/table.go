package metastore

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
)

// A Table is a bucket seen as values of one Go type, which encoding/json must turn into an object and back. The zero value
// is of no use; see [NewTable].
type Table[T any] struct {
	store  Store
	bucket string
}

// An Item is a value with the key and etag of its record.
type Item[T any] struct {
	Key   Key
	Etag  string
	Value T
}

// NewTable returns the typed view of a bucket, which has to be defined before it is used.
func NewTable[T any](s Store, bucket string) Table[T] { return Table[T]{s, bucket} }

// Store returns the store below, for batches and watches.
func (t Table[T]) Store() Store { return t.store }

// Bucket returns the bucket's name.
func (t Table[T]) Bucket() string { return t.bucket }

// Get returns the value under a key, or [ErrNotFound].
func (t Table[T]) Get(ctx context.Context, key Key) (Item[T], error) {
	r, err := t.store.Get(ctx, t.bucket, key)
	if err != nil {
		return Item[T]{}, err
	}
	return t.Decode(r)
}

// Put stores a value and returns its etag. Pass [EtagIs] of the item that was read to lose no concurrent change.
func (t Table[T]) Put(ctx context.Context, key Key, value T, when Condition) (etag string, err error) {
	op, err := t.PutOp(key, value, when)
	if err != nil {
		return "", err
	}
	result, err := t.store.Commit(ctx, Batch{op})
	if err != nil {
		return "", err
	}
	return result.Etags[0], nil
}

// PutOp returns the operation that [Table.Put] commits, for a batch with others.
func (t Table[T]) PutOp(key Key, value T, when Condition) (Put, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return Put{}, fmt.Errorf("%w: encode record of %s: %w", ErrInvalid, t.bucket, err)
	}
	return Put{Bucket: t.bucket, Key: key, Value: raw, If: when}, nil
}

// Delete removes the value under a key.
func (t Table[T]) Delete(ctx context.Context, key Key, when Condition) error {
	_, err := t.store.Commit(ctx, Batch{Delete{Bucket: t.bucket, Key: key, If: when}})
	return err
}

// Find yields what a query selects, as [Store.Find] does.
func (t Table[T]) Find(ctx context.Context, q Query) iter.Seq2[Item[T], error] {
	return func(yield func(Item[T], error) bool) {
		for r, err := range t.store.Find(ctx, t.bucket, q) {
			var item Item[T]
			if err == nil {
				item, err = t.Decode(r)
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// Decode turns a record of the bucket, from a batch's result or a watch, into an item.
func (t Table[T]) Decode(r Record) (Item[T], error) {
	item := Item[T]{Key: r.Key, Etag: r.Etag}
	if err := json.Unmarshal(r.Value, &item.Value); err != nil {
		return item, fmt.Errorf("decode record %q/%q of %s: %w", r.Key.Partition, r.Key.Name, t.bucket, err)
	}
	return item, nil
}
