package jobs

import (
	"context"
	"iter"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// An Event says that something about a job may be new. It may come more often than there is anything new.
type Event struct {
	Job string // its id
	// Input says that input came, or that no more will; otherwise the job's record was written or removed.
	Input    bool
	Position metastore.Position // pass it to Watch to go on after this event
}

// Position returns where Watch begins so as to tell of everything from now on: take it, then List, then Watch.
func (r *Records) Position(ctx context.Context) (metastore.Position, error) {
	return r.store.Position(ctx)
}

// Watch yields what happens to jobs after a position, and waits for more until ctx ends; its error is then the last element. A reader that
// has fallen too far behind gets metastore.ErrPositionGone: it takes a new Position and lists again.
func (r *Records) Watch(ctx context.Context, from metastore.Position) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for c, err := range r.store.Watch(ctx, from, jobBucket, gateBucket) {
			if err != nil {
				yield(Event{}, wrap(err, "watch jobs"))
				return
			}
			if !yield(Event{Job: c.Key.Partition, Input: c.Bucket == gateBucket, Position: c.Position}, nil) {
				return
			}
		}
	}
}
