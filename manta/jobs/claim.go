package jobs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A Claim is a supervisor's hold on a job. What it writes is refused with ErrLost once another one has claimed the job.
//
// After any error but ErrTooLarge, a *StateError or one of Update's own function it is not known whether what was being written is in, and the claim
// writes no more: every later call is ErrLost. Claim the job again, and read what is there.
//
// Its methods may be called by several goroutines; commits are written one after another.
type Claim struct {
	r     *Records
	id    string
	fence metastore.Check

	mu   sync.Mutex // of what follows
	s    *state
	lost error // why nothing more is written

	writing sync.Mutex // one Commit at a time
	next    int64      // number of the next commit record

	updating sync.Mutex // one Update at a time
}

// Claim takes a job for a supervisor, from whoever had it. A job that was not done is running then; Stats.Assigns is one more. When somebody
// else takes it at the same time, one of the two gets ErrLost.
func (r *Records) Claim(ctx context.Context, id, instance string) (*Claim, error) {
	return r.claim(ctx, id, instance, -1)
}

// ClaimFrom is Claim of a job as the supervisor has seen it: if it was claimed since, the error is ErrLost.
func (r *Records) ClaimFrom(ctx context.Context, seen *Job, instance string) (*Claim, error) {
	return r.claim(ctx, seen.ID, instance, seen.Stats.Assigns)
}

func (r *Records) claim(ctx context.Context, id, instance string, assigns int64) (*Claim, error) {
	if instance == "" {
		return nil, errors.New("jobs: claim: a supervisor has a name")
	}
	for try := 0; ; try++ {
		c, err := r.tryClaim(ctx, id, instance, &assigns)
		if !errors.Is(err, metastore.ErrConflict) {
			return c, err
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
	}
}

// tryClaim is one attempt; a conflict with somebody who does not claim the job is worth another. assigns is what the number of claims
// has to be; -1 becomes what it is.
func (r *Records) tryClaim(ctx context.Context, id, instance string, assigns *int64) (*Claim, error) {
	s, err := r.read(ctx, id)
	if err != nil {
		return nil, err
	}
	if *assigns < 0 {
		*assigns = s.job.Stats.Assigns
	}
	if s.job.Stats.Assigns != *assigns {
		return nil, fmt.Errorf("claim job %s: %w", id, ErrLost)
	}
	s.job.Supervisor = instance
	s.job.Stats.Assigns++
	if s.job.State != Done {
		s.job.State, s.job.TimeAssigned = Running, now()
	}
	owner, err := put(ownerBucket, jobKey(id), &ownerRecord{Supervisor: instance, Assigned: s.job.Stats.Assigns}, metastore.Condition{})
	if err != nil {
		return nil, err
	}
	job, err := putJob(s.job, metastore.EtagIs(s.jobEtag))
	if err != nil {
		return nil, err
	}
	result, err := r.store.Commit(ctx, metastore.Batch{job, owner})
	if err != nil {
		return nil, fmt.Errorf("claim job %s: %w", id, err)
	}
	s.jobEtag = result.Etags[0]
	c := &Claim{r: r, id: id, s: s, fence: metastore.Check{Bucket: ownerBucket, Key: jobKey(id), If: metastore.EtagIs(result.Etags[1])}}
	// From here on nobody else adds commits.
	for rec, err := range r.store.Find(ctx, commitBucket, metastore.Query{Partition: metastore.In(id), Descending: true, Limit: 1}) {
		if err == nil {
			c.next, err = parseNumber(rec.Key)
		}
		if err != nil {
			return nil, fmt.Errorf("claim job %s: %w", id, err)
		}
		c.next++
	}
	return c, nil
}

// Job returns a copy of the job as it was last read or written through this claim.
func (c *Claim) Job() *Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := *c.s.job
	return &j
}

// write sends a fenced batch. A conflict that is not the fence's is returned as it is; any other error ends the claim.
func (c *Claim) write(ctx context.Context, batch metastore.Batch) (metastore.Result, error) {
	c.mu.Lock()
	lost := c.lost
	c.mu.Unlock()
	if lost != nil {
		return metastore.Result{}, lost
	}
	result, err := c.r.store.Commit(ctx, append(metastore.Batch{c.fence}, batch...))
	if err == nil {
		result.Etags = result.Etags[1:]
		return result, nil
	}
	refused, ok := errors.AsType[*metastore.ConditionError](err)
	switch {
	case ok && refused.Op > 0:
		return result, err
	case ok:
		err = fmt.Errorf("job %s: %w", c.id, ErrLost)
	default:
		err = fmt.Errorf("job %s: %w", c.id, err)
	}
	return result, c.lose(err)
}

// lose ends the claim.
func (c *Claim) lose(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost == nil {
		if c.lost = err; !errors.Is(err, ErrLost) {
			c.lost = fmt.Errorf("%w, or so it may be: %w", ErrLost, err)
		}
	}
	return err
}

// Update changes the job's record: f gets a copy to change, and may be called again with a newer one. It may change Stats and the times of the end and
// of the archive, and set State to Done, with which the job takes no more input; other changes are ignored. An error of f is returned as it is.
func (c *Claim) Update(ctx context.Context, f func(*Job) error) (*Job, error) {
	c.updating.Lock()
	defer c.updating.Unlock()
	c.mu.Lock()
	s := *c.s
	c.mu.Unlock()
	for try := 0; ; try++ {
		j, gate := *s.job, *s.gate
		if err := f(&j); err != nil {
			return nil, err
		}
		next := state{job: keep(s.job, &j), gate: &gate, jobEtag: s.jobEtag, gateEtag: s.gateEtag}
		done := j.State == Done && s.job.State != Done
		if done {
			gate.Closed = closedDone
		}
		batch, err := next.puts()
		if err != nil {
			return nil, err
		}
		if !done {
			batch = batch[:1] // adders of input are not in the way
		}
		result, err := c.write(ctx, batch)
		if err == nil {
			next.jobEtag = result.Etags[0]
			if done {
				next.gateEtag = result.Etags[1]
			}
			c.mu.Lock()
			c.s = &next
			c.mu.Unlock()
			return &j, nil
		}
		if !errors.Is(err, metastore.ErrConflict) {
			return nil, err
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
		fresh, err := c.r.read(ctx, c.id)
		if err != nil {
			return nil, err
		}
		s = *fresh
	}
}

// keep restores in a changed job what Update does not change.
func keep(old, j *Job) *Job {
	kept := *old
	kept.Stats = j.Stats
	kept.Stats.Assigns = old.Stats.Assigns
	if j.State == Done {
		kept.State = Done
	}
	kept.TimeDone, kept.TimeArchiveStarted, kept.TimeArchiveDone = j.TimeDone, j.TimeArchiveStarted, j.TimeArchiveDone
	*j = kept
	return j
}

// Commits yields all commits of the job in the order in which they were made, so as to know again what is done. A large one comes in
// several parts. An error is the last element.
func (c *Claim) Commits(ctx context.Context) iter.Seq2[*Commit, error] {
	return c.r.commits(ctx, c.id)
}
