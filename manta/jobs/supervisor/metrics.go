package supervisor

import (
	"sync"
	"sync/atomic"
	"time"
)

// Metrics tells what a supervisor has done since it was made, and what it has now.
type Metrics struct {
	// Jobs and Agents are held and connected now; Tasks are with agents.
	Jobs, Agents, Tasks int

	// Claimed jobs, those of them that TakenOver had another supervisor or an earlier run of this one before; Done, of those Cancelled; Archived. Faults are
	// losses of a job to an error, after which it was claimed again.
	Claimed, TakenOver, Done, Cancelled, Archived, Faults uint64

	// Started attempts; tasks that ended; Retried attempts, of those Lost with an agent; Refused inputs.
	Started, TasksOK, TasksFailed, Retried, Lost, Refused uint64

	// Commits written, with so many Outcomes. Deleted intermediate objects, and Swept ones of attempts that came to nothing.
	Commits, Outcomes, Deleted, Swept uint64

	// Lookup is the time of a batch of inputs, Commit of writing one, Task from order to report, Job from creation to done, Archive from done to archived.
	Lookup, Commit, Task, Job, Archive Latency
}

// A Latency sums up how long something took.
type Latency struct {
	Count uint64
	Sum   time.Duration
	Max   time.Duration
}

type counters struct {
	claimed, takenOver, done, cancelled, archived, faults  atomic.Uint64
	started, tasksOK, tasksFailed, retried, lost, refused  atomic.Uint64
	commits, outcomes, deleted, swept                      atomic.Uint64
	lookupTime, commitTime, taskTime, jobTime, archiveTime latency
}

type latency struct {
	mu sync.Mutex
	l  Latency
}

func (l *latency) add(d time.Duration) {
	l.mu.Lock()
	l.l.Count++
	l.l.Sum += d
	l.l.Max = max(l.l.Max, d)
	l.mu.Unlock()
}

func (l *latency) get() Latency {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.l
}

// Metrics returns the figures of now.
func (s *Supervisor) Metrics() Metrics {
	c := &s.met
	m := Metrics{
		Claimed: c.claimed.Load(), TakenOver: c.takenOver.Load(), Done: c.done.Load(), Cancelled: c.cancelled.Load(), Archived: c.archived.Load(), Faults: c.faults.Load(),
		Started: c.started.Load(), TasksOK: c.tasksOK.Load(), TasksFailed: c.tasksFailed.Load(), Retried: c.retried.Load(), Lost: c.lost.Load(), Refused: c.refused.Load(),
		Commits: c.commits.Load(), Outcomes: c.outcomes.Load(), Deleted: c.deleted.Load(), Swept: c.swept.Load(),
		Lookup: c.lookupTime.get(), Commit: c.commitTime.get(), Task: c.taskTime.get(), Job: c.jobTime.get(), Archive: c.archiveTime.get(),
	}
	s.mu.Lock()
	m.Jobs = len(s.jobs)
	s.mu.Unlock()
	m.Agents, m.Tasks = s.fleet.count()
	return m
}
