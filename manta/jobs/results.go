package jobs

import (
	"context"
	"fmt"
	"iter"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Outputs yields all outputs of a job, some at a time, in the order in which they were committed. An error is the last element.
func (r *Records) Outputs(ctx context.Context, id string) iter.Seq2[[]string, error] {
	return all(ctx, r, outputBucket, id, decodeOutputs)
}

// Errors yields all errors of a job as Outputs does its outputs.
func (r *Records) Errors(ctx context.Context, id string) iter.Seq2[[]Failure, error] {
	return all(ctx, r, errorBucket, id, decodeErrors)
}

// RecentOutputs returns the newest n outputs, oldest first.
func (r *Records) RecentOutputs(ctx context.Context, id string, n int) ([]string, error) {
	return recent(ctx, r, outputBucket, id, n, decodeOutputs)
}

// RecentErrors returns the newest n errors, oldest first.
func (r *Records) RecentErrors(ctx context.Context, id string, n int) ([]Failure, error) {
	return recent(ctx, r, errorBucket, id, n, decodeErrors)
}

func decodeOutputs(rec metastore.Record) ([]string, error) {
	var o outputRecord
	err := decode(rec, &o)
	return o.Outputs, err
}

func decodeErrors(rec metastore.Record) ([]Failure, error) {
	var e errorRecord
	err := decode(rec, &e)
	return e.Errors, err
}

// all yields the items of each of a job's records in a bucket.
func all[T any](ctx context.Context, r *Records, bucket, id string, items func(metastore.Record) ([]T, error)) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		for rec, err := range r.store.Find(ctx, bucket, metastore.Query{Partition: metastore.In(id)}) {
			var some []T
			if err == nil {
				some, err = items(rec)
			}
			if err != nil {
				yield(nil, fmt.Errorf("read %s of job %s: %w", bucket, id, err))
				return
			}
			if !yield(some, nil) {
				return
			}
		}
	}
}
