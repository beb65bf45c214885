package jobs

import (
	"context"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// supervisors is the partition of their beats.
const supervisors = "supervisors"

// Beat says that a supervisor lives. Others take its jobs when they have seen no new beat for a while by their own clock.
func (r *Records) Beat(ctx context.Context, instance string) error {
	op, err := put(beatBucket, metastore.Key{Partition: supervisors, Name: instance}, &beatRecord{Time: now()}, metastore.Condition{})
	if err != nil {
		return err
	}
	_, err = r.store.Commit(ctx, metastore.Batch{op})
	return wrap(err, "beat of supervisor "+instance)
}

// Beats returns for each supervisor a value that changes with each beat and means nothing else. Jobs of a supervisor that is not among them are
// free for the taking.
func (r *Records) Beats(ctx context.Context) (map[string]string, error) {
	beats := map[string]string{}
	for rec, err := range r.store.Find(ctx, beatBucket, metastore.Query{Partition: metastore.In(supervisors)}) {
		if err != nil {
			return nil, wrap(err, "read beats of supervisors")
		}
		beats[rec.Key.Name] = rec.Etag
	}
	return beats, nil
}

// Leave takes a supervisor's beat away: it has ended, and others need not wait for it.
func (r *Records) Leave(ctx context.Context, instance string) error {
	_, err := r.store.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: beatBucket, Key: metastore.Key{Partition: supervisors, Name: instance}}})
	return wrap(err, "end of supervisor "+instance)
}
