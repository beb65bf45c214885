package ledger

import (
	"fmt"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// A result is an outcome that was not committed, with what comes of it.
type result struct {
	outcome jobs.Outcome
	failure *jobs.Failure
	emitted []task.Emit
	origin  string
	size    int    // of emitted, in a commit
	release string // path of an input of a reduce phase that was refused
}

// softCommit is about how many bytes a commit has at most, not counting its last outcome.
const softCommit = 16 << 20

// Commit returns what the next commit says, or nil if there is nothing to say. It is to be stored, and then confirmed by [Ledger.Committed], before the next is asked
// for. now is the time of the failures in it.
func (l *Ledger) Commit(now time.Time) *jobs.Commit {
	if len(l.waiting) == 0 || l.writing != nil {
		return nil
	}
	most := l.limits.Commit
	if l.cancelled {
		most *= 5 // nothing else waits
	}
	n := min(len(l.waiting), most)
	c := &jobs.Commit{Retries: l.retries, Outcomes: make([]jobs.Outcome, 0, n)}
	next := make([]int64, len(l.phases))
	k := 0
	for size := 0; k < n && size < softCommit; k++ {
		r := l.waiting[k]
		size += 200 + r.size
		c.Outcomes = append(c.Outcomes, r.outcome)
		if r.failure != nil {
			r.failure.Time = now
			c.Errors = append(c.Errors, *r.failure)
			continue
		}
		to := r.outcome.Phase + 1
		if to == len(l.phases) {
			for _, e := range r.emitted {
				c.Outputs = append(c.Outputs, e.Path)
			}
			continue
		}
		p := l.phases[to]
		for _, e := range r.emitted {
			out := jobs.Emitted{Phase: to, Number: p.next + next[to], Path: e.Path, Origin: r.origin, Reducer: -1}
			next[to]++
			if p.reduce != nil {
				count := len(p.reduce.reducers)
				if out.Reducer = e.Reducer; out.Reducer < 0 {
					out.Reducer = int(out.Number % int64(count))
				}
				if out.Reducer >= count {
					c.Outcomes = append(c.Outcomes, jobs.Outcome{Phase: to, Number: out.Number, Input: true})
					c.Errors = append(c.Errors, jobs.Failure{
						Phase: to, Code: jobs.CodeInvalidArgument, Input: e.Path, Origin: r.origin, Time: now,
						Message: fmt.Sprintf(`reducer "%d" specified, but only %d reducers exist`, e.Reducer, count),
					})
				}
			}
			c.Emitted = append(c.Emitted, out)
		}
	}
	l.writing, l.written = c, l.waiting[:k:k]
	l.waiting = l.waiting[k:]
	l.retries = 0
	return c
}

// Committed says that the last commit is stored.
func (l *Ledger) Committed() {
	c, written := l.writing, l.written
	l.writing, l.written = nil, nil
	l.Apply(c)
	for _, r := range written {
		if r.release != "" && r.outcome.Phase > 0 {
			l.release(r.release)
		}
	}
	for _, p := range l.phases {
		l.cleanTail(p)
	}
	if len(l.waiting) == 0 {
		l.waiting = nil
	}
}

// Waiting returns how many outcomes are not committed.
func (l *Ledger) Waiting() int { return len(l.waiting) + len(l.written) }
