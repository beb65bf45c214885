package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Records keeps jobs in a metastore. All records of a job are in one partition, named by its id. Its methods may be called by any number of goroutines
// at once, in any number of processes over one store.
type Records struct {
	store metastore.Store
	turns turns
}

// NewRecords returns the jobs of a store. Call Define before anything else.
func NewRecords(store metastore.Store) (*Records, error) {
	if store == nil {
		return nil, errors.New("jobs: no store")
	}
	return &Records{store: store}, nil
}

// Define makes the buckets, or brings them up to date. Every program that uses jobs calls it when it starts.
func (r *Records) Define(ctx context.Context) error {
	for _, b := range buckets {
		if err := r.store.Define(ctx, b); err != nil {
			return fmt.Errorf("define bucket %s: %w", b.Name, err)
		}
	}
	return nil
}

// Create stores a new job. The caller gives it an id that was never used, its definition, owner and Auth; Create fills in that it is queued since
// now. An id that is taken is metastore.ErrConflict.
func (r *Records) Create(ctx context.Context, j *Job) error {
	if !validID(j.ID) || j.Owner == "" || len(j.Phases) == 0 {
		return errors.New("jobs: create: a job has an id, an owner and phases")
	}
	made := *j
	made.State, made.Supervisor, made.Stats, made.TimeCreated = Queued, "", Stats{}, now()
	job, err := putJob(&made, metastore.Absent())
	if err != nil {
		return fmt.Errorf("create job %s: %w", j.ID, err)
	}
	gate, err := putGate(j.ID, &gateRecord{}, metastore.Absent())
	if err != nil {
		return fmt.Errorf("create job %s: %w", j.ID, err)
	}
	if _, err := r.store.Commit(ctx, metastore.Batch{job, gate}); err != nil {
		return fmt.Errorf("create job %s: %w", j.ID, err)
	}
	*j = made
	return nil
}

// Get returns a job, or ErrNotFound.
func (r *Records) Get(ctx context.Context, id string) (*Job, error) {
	s, err := r.read(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.job, nil
}

// state is a job as it is stored: the record that supervisors write, and the one that those write who add input.
type state struct {
	job               *Job
	gate              *gateRecord
	jobEtag, gateEtag string
}

func (r *Records) read(ctx context.Context, id string) (*state, error) {
	if !validID(id) {
		return nil, ErrNotFound
	}
	var s state
	rec, err := r.store.Get(ctx, jobBucket, jobKey(id))
	if err != nil {
		return nil, missing(err, id)
	}
	if s.job, err = decodeJob(rec); err != nil {
		return nil, err
	}
	s.jobEtag = rec.Etag
	if s.gate, s.gateEtag, err = r.gate(ctx, id); err != nil {
		return nil, err
	}
	s.job.TimeInput = s.gate.Time
	return &s, nil
}

// missing makes ErrNotFound of the store's.
func missing(err error, id string) error {
	if errors.Is(err, metastore.ErrNotFound) {
		return ErrNotFound
	}
	return fmt.Errorf("read job %s: %w", id, err)
}

// ListOptions select jobs; those that satisfy all of them are listed.
type ListOptions struct {
	Owner string // uuid of the account; "" means any
	Name  string // exactly; "" means any
	State State  // "" means any
	// Live selects jobs that are not done.
	Live bool
	// Unarchived selects jobs whose archive is not complete: all that a supervisor still has something to do for.
	Unarchived bool
	// ArchivedBefore selects jobs whose archive was complete before that time; zero means any. They come in that order.
	ArchivedBefore time.Time
	// Limit is the greatest number of jobs; 0 means all.
	Limit int
}

// List yields jobs. With Owner, Live or Unarchived they come in the order in which they were made. TimeInput is not filled in. An error is the last element.
func (r *Records) List(ctx context.Context, o ListOptions) iter.Seq2[*Job, error] {
	return func(yield func(*Job, error) bool) {
		n := 0
		for rec, err := range r.store.Find(ctx, jobBucket, o.query()) {
			var j *Job
			if err == nil {
				j, err = decodeJob(rec)
			}
			if err != nil {
				yield(nil, fmt.Errorf("list jobs: %w", err))
				return
			}
			if !o.selects(j) {
				continue
			}
			n++
			if !yield(j, nil) || n == o.Limit {
				return
			}
		}
	}
}

// query returns the narrowest run of an index that has all the jobs.
func (o *ListOptions) query() metastore.Query {
	live := o.Live || o.State == Queued || o.State == Running
	switch {
	case !o.ArchivedBefore.IsZero():
		return metastore.Query{OrderBy: "timeArchiveDone", Filter: metastore.Le{Field: "timeArchiveDone", Value: o.ArchivedBefore}}
	case o.Owner != "" && live:
		return metastore.Query{OrderBy: "liveOwner", Filter: metastore.Substr{Field: "liveOwner", Initial: o.Owner + " "}}
	case o.Owner != "":
		return metastore.Query{OrderBy: "byOwner", Filter: metastore.Substr{Field: "byOwner", Initial: o.Owner + " "}}
	case live:
		return metastore.Query{OrderBy: "live"}
	case o.Unarchived:
		return metastore.Query{OrderBy: "unarchived"}
	}
	return metastore.Query{Scan: true}
}

func (o *ListOptions) selects(j *Job) bool {
	return (o.Owner == "" || j.Owner == o.Owner) &&
		(o.Name == "" || j.Name == o.Name) &&
		(o.State == "" || j.State == o.State) &&
		(!o.Live || j.State != Done) &&
		(!o.Unarchived || j.TimeArchiveDone.IsZero()) &&
		(o.ArchivedBefore.IsZero() || !j.TimeArchiveDone.IsZero() && j.TimeArchiveDone.Before(o.ArchivedBefore))
}

// EndInput says that no more input comes. To say so again is nothing; a job that is cancelled or done is a *StateError.
func (r *Records) EndInput(ctx context.Context, id string) error {
	return r.change(ctx, id, func(j *Job, g *gateRecord) (bool, error) {
		switch g.Closed {
		case "":
			g.Closed, j.TimeInputDone = closedInputDone, now()
			return true, nil
		case closedInputDone:
			return false, nil
		}
		return false, &StateError{ID: id, State: g.Closed}
	})
}

// Cancel asks for the job to end: its supervisor ends all tasks, and the job. To ask again is nothing; a job that is done is a *StateError.
func (r *Records) Cancel(ctx context.Context, id string) error {
	return r.change(ctx, id, func(j *Job, g *gateRecord) (bool, error) {
		switch g.Closed {
		case closedDone:
			return false, &StateError{ID: id, State: g.Closed}
		case closedCancelled:
			return false, nil
		}
		g.Closed, j.TimeCancelled = closedCancelled, now()
		return true, nil
	})
}

// change rewrites both records of a job's state; f may be called several times.
func (r *Records) change(ctx context.Context, id string, f func(*Job, *gateRecord) (bool, error)) error {
	leave, err := r.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	for try := 0; ; try++ {
		s, err := r.read(ctx, id)
		if err != nil {
			return err
		}
		changed, err := f(s.job, s.gate)
		if err != nil || !changed {
			return err
		}
		batch, err := s.puts()
		if err != nil {
			return err
		}
		if _, err = r.store.Commit(ctx, batch); !errors.Is(err, metastore.ErrConflict) {
			return wrap(err, "change job "+id)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// puts returns the operations that write the state back as it was read.
func (s *state) puts() (metastore.Batch, error) {
	job, err := putJob(s.job, metastore.EtagIs(s.jobEtag))
	if err != nil {
		return nil, err
	}
	gate, err := putGate(s.job.ID, s.gate, metastore.EtagIs(s.gateEtag))
	return metastore.Batch{job, gate}, err
}

// Delete removes all records of a job that is done; of another it is a *StateError. A job that is not there is no error, and neither is what a
// deletion that broke off has left: it is repeated from List.
func (r *Records) Delete(ctx context.Context, id string) error {
	s, err := r.read(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case s.job.State != Done:
		return &StateError{ID: id, State: cmp.Or(s.gate.Closed, string(Running))}
	}
	// The job's own records go last, so that it is found until nothing else is left of it.
	for _, bucket := range []string{inputBucket, outputBucket, errorBucket, commitBucket} {
		if err := r.empty(ctx, bucket, id); err != nil {
			return fmt.Errorf("delete job %s: %w", id, err)
		}
	}
	_, err = r.store.Commit(ctx, metastore.Batch{
		metastore.Delete{Bucket: ownerBucket, Key: jobKey(id)},
		metastore.Delete{Bucket: gateBucket, Key: jobKey(id)},
		metastore.Delete{Bucket: jobBucket, Key: jobKey(id)},
	})
	return wrap(err, "delete job "+id)
}

// empty removes a job's records from a bucket, a few in a batch.
func (r *Records) empty(ctx context.Context, bucket, id string) error {
	const few = 200
	batch := make(metastore.Batch, 0, few)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := r.store.Commit(ctx, batch)
		batch = batch[:0]
		return err
	}
	for rec, err := range r.store.Find(ctx, bucket, metastore.Query{Partition: metastore.In(id)}) {
		if err != nil {
			return err
		}
		if batch = append(batch, metastore.Delete{Bucket: bucket, Key: rec.Key}); len(batch) == few {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// now is the time by the granularity of the protocol.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
