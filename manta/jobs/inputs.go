package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// MaxInput is the greatest length of an input, in bytes.
const MaxInput = 8 << 10

// Inputs are some of a job's inputs, as its owner gave them.
type Inputs struct {
	First int64 // number of Paths[0]; the next one has the next number
	Paths []string
}

// AddInputs adds inputs in order, with the numbers that come next. They are not looked at, but one that is empty or longer than MaxInput is
// ErrTooLarge. All of them are there or none is; a few thousand at a time are best. A job that takes no more input is a *StateError.
func (r *Records) AddInputs(ctx context.Context, id string, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	size := 0
	for _, p := range paths {
		if p == "" || len(p) > MaxInput {
			return fmt.Errorf("%w: an input has 1 to %d bytes", ErrTooLarge, MaxInput)
		}
		size += len(p)
	}
	if size > maxCommit {
		return fmt.Errorf("%w: inputs of %d bytes at a time", ErrTooLarge, size)
	}
	leave, err := r.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	for try := 0; ; try++ {
		gate, etag, err := r.gate(ctx, id)
		if err != nil {
			return err
		}
		if gate.Closed != "" {
			return &StateError{ID: id, State: gate.Closed}
		}
		batch, err := addInputs(id, gate, etag, paths)
		if err != nil {
			return err
		}
		if _, err = r.store.Commit(ctx, batch); !errors.Is(err, metastore.ErrConflict) {
			return wrap(err, "add inputs to job "+id)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func (r *Records) gate(ctx context.Context, id string) (*gateRecord, string, error) {
	if !validID(id) {
		return nil, "", ErrNotFound
	}
	rec, err := r.store.Get(ctx, gateBucket, jobKey(id))
	if err != nil {
		return nil, "", missing(err, id)
	}
	var g gateRecord
	return &g, rec.Etag, decode(rec, &g)
}

// addInputs returns a batch of chunks, and of the gate moved on.
func addInputs(id string, gate *gateRecord, etag string, paths []string) (metastore.Batch, error) {
	batch := metastore.Batch{nil}
	for len(paths) > 0 {
		value := append([]byte(nil), `{"inputs":[`...)
		n := 0
		for ; n < len(paths) && len(value) < partSize; n++ {
			text, err := json.Marshal(paths[n])
			if err != nil {
				return nil, err
			}
			if n > 0 {
				value = append(value, ',')
			}
			value = append(value, text...)
		}
		value = append(value, "]}"...)
		batch = append(batch, metastore.Put{Bucket: inputBucket, Key: numberKey(id, gate.Next), Value: value, If: metastore.Absent()})
		gate.Next += int64(n)
		paths = paths[n:]
	}
	gate.Time = now()
	var err error
	batch[0], err = putGate(id, gate, metastore.EtagIs(etag))
	return batch, err
}

// Inputs yields a job's inputs in order, beginning with those among which the one with number from is, or would be. An error is the last element.
func (r *Records) Inputs(ctx context.Context, id string, from int64) iter.Seq2[Inputs, error] {
	return func(yield func(Inputs, error) bool) {
		q := metastore.Query{Partition: metastore.In(id)}
		if from > 0 {
			at := numberKey(id, from)
			for rec, err := range r.store.Find(ctx, inputBucket, metastore.Query{Partition: q.Partition, From: at.Name, Descending: true, Limit: 1}) {
				if err != nil {
					yield(Inputs{}, fmt.Errorf("read inputs of job %s: %w", id, err))
					return
				}
				at = rec.Key
			}
			q.From = at.Name
		}
		for rec, err := range r.store.Find(ctx, inputBucket, q) {
			var in Inputs
			if err == nil {
				in, err = decodeInputs(rec)
			}
			if err != nil {
				yield(Inputs{}, fmt.Errorf("read inputs of job %s: %w", id, err))
				return
			}
			if !yield(in, nil) {
				return
			}
		}
	}
}

func decodeInputs(rec metastore.Record) (in Inputs, err error) {
	var chunk inputRecord
	if err := decode(rec, &chunk); err != nil {
		return in, err
	}
	in.Paths = chunk.Inputs
	in.First, err = parseNumber(rec.Key)
	return in, err
}

// RecentInputs returns the newest n inputs, oldest first.
func (r *Records) RecentInputs(ctx context.Context, id string, n int) ([]string, error) {
	return recent(ctx, r, inputBucket, id, n, func(rec metastore.Record) ([]string, error) {
		in, err := decodeInputs(rec)
		return in.Paths, err
	})
}

// recent returns the last n items of a job's records in a bucket, in order.
func recent[T any](ctx context.Context, r *Records, bucket, id string, n int, items func(metastore.Record) ([]T, error)) ([]T, error) {
	var list []T
	if n <= 0 {
		return nil, nil
	}
	for rec, err := range r.store.Find(ctx, bucket, metastore.Query{Partition: metastore.In(id), Descending: true, Limit: n}) {
		var some []T
		if err == nil {
			some, err = items(rec)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of job %s: %w", bucket, id, err)
		}
		slices.Reverse(some)
		list = append(list, some[:min(len(some), n-len(list))]...)
		if len(list) == n {
			break
		}
	}
	slices.Reverse(list)
	return list, nil
}
