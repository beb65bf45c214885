package shard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// retryMove is how often a commit looks whether a virtual node has come to rest.
const retryMove = 10 * time.Millisecond

// Commit implements metastore.Store.
func (s *Store) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	if err := s.open(ctx); err != nil {
		return metastore.Result{}, err
	}
	if len(b) > metastore.MaxBatchOps {
		return metastore.Result{}, fmt.Errorf("%w: batch of %d operations has more than %d", metastore.ErrInvalid, len(b), metastore.MaxBatchOps)
	}
	partitions, err := s.partitions(b)
	if err != nil {
		return metastore.Result{}, err
	}
	var deadline time.Time
	var stale *known
	for {
		k, err := s.current(ctx)
		if err == nil && k == stale {
			k, err = s.refresh(ctx, stale)
		}
		if err != nil {
			return metastore.Result{}, err
		}
		result, again, err := s.try(ctx, k, b, partitions)
		if !again {
			return result, err
		}
		// The fence has told of a change. Learn of it, and wait if the virtual node is at no shard just now.
		stale = k
		if deadline.IsZero() {
			deadline = time.Now().Add(s.config.MoveWait)
			continue
		}
		if time.Now().After(deadline) {
			return metastore.Result{}, err
		}
		select {
		case <-time.After(retryMove):
		case <-ctx.Done():
			return metastore.Result{}, ctx.Err()
		}
	}
}

// partitions returns the partitions that a batch touches, each once.
func (s *Store) partitions(b metastore.Batch) ([]string, error) {
	var list []string
	seen := map[string]bool{}
	for i, op := range b {
		var bucket string
		var partition *string
		switch op := op.(type) {
		case metastore.Put:
			bucket, partition = op.Bucket, &op.Key.Partition
		case metastore.Delete:
			bucket, partition = op.Bucket, &op.Key.Partition
		case metastore.Check:
			bucket, partition = op.Bucket, &op.Key.Partition
		case metastore.Add:
			bucket, partition = op.Bucket, &op.Key.Partition
		case metastore.CheckCounter:
			bucket, partition = op.Bucket, &op.Key.Partition
		case metastore.UpdateMany:
			bucket, partition = op.Bucket, op.Query.Partition
		case metastore.DeleteMany:
			bucket, partition = op.Bucket, op.Query.Partition
		default:
			return nil, fmt.Errorf("%w: operation %d: unknown %T", metastore.ErrInvalid, i, op)
		}
		switch {
		case reserved(bucket):
			return nil, fmt.Errorf("operation %d: %w: %.80q", i, metastore.ErrNoBucket, bucket)
		case partition == nil:
			if len(s.shards) > 1 {
				return nil, fmt.Errorf("%w: operation %d names no partition", metastore.ErrCrossShard, i)
			}
		case !seen[*partition]:
			seen[*partition] = true
			list = append(list, *partition)
		}
	}
	return list, nil
}

// try commits to the shard that owns the partitions by this ring. again says that the ring is out of date, or that
// a virtual node takes no writes; err is then what to report if it stays so.
func (s *Store) try(ctx context.Context, k *known, b metastore.Batch, partitions []string) (result metastore.Result, again bool, err error) {
	r := k.ring
	owner := 0
	var checks, notes metastore.Batch
	seen := map[int]bool{}
	for i, p := range partitions {
		v := r.vnode(p)
		if o := r.Owners[v]; i == 0 {
			owner = o
		} else if o != owner {
			return result, false, metastore.ErrCrossShard
		}
		if seen[v] {
			continue
		}
		seen[v] = true
		f := r.fences[owner][v]
		if !f.writable() {
			return result, true, metastore.ErrReadOnly
		}
		checks = append(checks, metastore.Check{Bucket: bucketFence, Key: fenceKey(v), If: metastore.EtagIs(f.etag)})
		if f.State == stateCopying {
			if notes, err = note(notes, b, func(p string) bool { return r.vnode(p) == v }); err != nil {
				return result, false, err
			}
		}
	}
	// The checks first: by them the store must refuse a batch for the wrong shard, before it looks at conditions there.
	batch := append(append(checks, b...), notes...)
	result, err = r.stores[owner].Commit(ctx, batch)
	if err != nil {
		return metastore.Result{}, s.fenced(err, len(checks)), shift(err, len(checks))
	}
	result.Etags = result.Etags[len(checks) : len(checks)+len(b)]
	result.Counts = result.Counts[len(checks) : len(checks)+len(b)]
	result.Position = k.position(owner, result.Position)
	return result, false, nil
}

// fenced reports whether it was a fence that refused the batch.
func (s *Store) fenced(err error, checks int) bool {
	c, ok := errors.AsType[*metastore.ConditionError](err)
	return ok && c.Op < checks
}

// shift gives the operations in an error their numbers in the caller's batch.
func shift(err error, checks int) error {
	if c, ok := errors.AsType[*metastore.ConditionError](err); ok {
		if c.Op < checks {
			return metastore.ErrReadOnly
		}
		c.Op -= checks
	}
	if u, ok := errors.AsType[*metastore.UniqueError](err); ok {
		u.Op -= checks
	}
	return err
}

// A dirty note says that a key, or all of a partition, has been written since it was copied.
type dirty struct {
	Bucket    string `json:"bucket"`
	Partition string `json:"partition"`
	Name      string `json:"name"`
	Counter   bool   `json:"counter,omitempty"`
	All       bool   `json:"all,omitempty"`
}

// note adds notes of what the batch writes to partitions of a virtual node that is being copied.
func note(notes, b metastore.Batch, in func(partition string) bool) (metastore.Batch, error) {
	seen := map[metastore.Key]bool{}
	for _, n := range notes {
		seen[n.(metastore.Put).Key] = true
	}
	for _, op := range b {
		var d dirty
		switch op := op.(type) {
		case metastore.Put:
			d = dirty{Bucket: op.Bucket, Partition: op.Key.Partition, Name: op.Key.Name}
		case metastore.Delete:
			d = dirty{Bucket: op.Bucket, Partition: op.Key.Partition, Name: op.Key.Name}
		case metastore.Add:
			d = dirty{Bucket: op.Bucket, Partition: op.Key.Partition, Name: op.Key.Name, Counter: true}
		case metastore.UpdateMany:
			d = dirty{Bucket: op.Bucket, Partition: *op.Query.Partition, All: true}
		case metastore.DeleteMany:
			d = dirty{Bucket: op.Bucket, Partition: *op.Query.Partition, All: true}
		default:
			continue
		}
		if !in(d.Partition) {
			continue
		}
		value, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(value)
		key := metastore.Key{Name: hex.EncodeToString(sum[:])}
		if !seen[key] {
			seen[key] = true
			notes = append(notes, metastore.Put{Bucket: bucketDirty, Key: key, Value: value})
		}
	}
	return notes, nil
}
