package agent

import (
	"context"
	"errors"
	"path"
	"sync"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/sched"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// Causes of a task's early end.
var (
	errCancelled = errors.New("the supervisor ended it")
	errHog       = errors.New("it held more than its share for too long")
	errTold      = errors.New("one of its programs said that it is over")
)

// job is what a supervisor opened.
type job struct {
	task.Open
	stream *stream
	live   map[string]*attempt // the agent's lock

	dirs sync.Mutex
	made map[string]chan struct{} // directories that are there, or, while the channel is open, being made
}

func newJob(o task.Open, s *stream) *job {
	return &job{Open: o, stream: s, live: map[string]*attempt{}, made: map[string]chan struct{}{}}
}

// base is what names of a task's objects begin with.
func (j *job) base(t *task.Start) string {
	origin := ""
	if t.Input != nil {
		origin = t.Input.Origin
		if origin == "" && t.Phase == 0 {
			origin = t.Input.Path
		}
	}
	return jobs.OutputBase(j.Login, j.Job, origin, t.Phase)
}

// attempt is a task that this agent has.
type attempt struct {
	task.Start
	job    *job
	key    sched.Key
	ctx    context.Context // ends when nobody wants to hear of it any more
	cancel context.CancelCauseFunc
	run    context.Context // its program's, which also ends with errHog or errTold
	stop   context.CancelCauseFunc
	feed   *feed         // a reducer's
	over   chan struct{} // closed when nothing of it happens any more
}

func (t *attempt) phase() *jobs.Phase { return &t.job.Phases[t.Phase] }

// cancelled reports that nobody wants to hear of it any more.
func (t *attempt) cancelled() bool { return t.ctx.Err() != nil }

// open takes a job, after it has ended what an earlier supervisor had of it. It reports false if somebody later has it.
func (a *Agent) open(s *stream, o *task.Open) bool {
	a.mu.Lock()
	old := a.jobs[o.Job]
	a.mu.Unlock()
	if old != nil {
		if old.Assigned > o.Assigned {
			return false
		}
		if old.stream == s && old.Assigned == o.Assigned {
			return true
		}
		a.shut(old)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.ended || a.closed {
		return false
	}
	if now := a.jobs[o.Job]; now != nil { // another supervisor came meanwhile
		return now.Assigned <= o.Assigned && now.stream == s
	}
	a.jobs[o.Job] = newJob(*o, s)
	return true
}

// shut ends everything of a job and waits until that is done.
func (a *Agent) shut(j *job) {
	a.mu.Lock()
	var wait []*attempt
	for _, t := range j.live {
		wait = append(wait, t)
		a.end(t)
	}
	for i := range j.Phases {
		a.sched.Close(sched.Key{Job: j.Job, Phase: i})
	}
	a.plan()
	a.mu.Unlock()
	for _, t := range wait {
		<-t.over
	}
	a.mu.Lock()
	if a.jobs[j.Job] == j {
		delete(a.jobs, j.Job)
	}
	a.mu.Unlock()
}

// start takes a task.
func (a *Agent) start(s *stream, o *task.Start) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := a.jobs[o.Job]
	if s.ended || a.attempts[o.Task] != nil {
		return
	}
	if j == nil || j.stream != s || o.Phase < 0 || o.Phase >= len(j.Phases) || (o.Input == nil) != (j.Phases[o.Phase].Type == jobs.Reduce) {
		s.report(task.Report{Done: &task.Done{Task: o.Task, System: true, Failure: &jobs.Failure{Code: jobs.CodeInternal, Message: "internal error",
			Internal: "the job is not open here, or has no such phase", Task: o.Task}}})
		return
	}
	t := &attempt{Start: *o, job: j, key: sched.Key{Job: o.Job, Phase: o.Phase}, over: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancelCause(a.ctx)
	t.run, t.stop = context.WithCancelCause(t.ctx)
	p := t.phase()
	if o.Input == nil {
		t.feed = newFeed()
	}
	if !imageMatches(p.Image, a.cfg.Images) {
		a.refuse(t, jobs.CodeInvalidArgument, "failed to dispatch task: requested image is not available")
		return
	}
	spec := spec(j.Owner, p)
	if err := a.sched.Add(now(), t.key, spec, t.Task); err != nil {
		a.refuse(t, jobs.CodeTaskInit, "failed to dispatch task: "+err.Error())
		return
	}
	a.attempts[t.Task] = t
	j.live[t.Task] = t
	s.live++
	a.count.started.Add(1)
	a.plan()
}

func (a *Agent) refuse(t *attempt, code, message string) {
	t.cancel(errCancelled)
	a.count.failed.Add(1)
	t.job.stream.report(task.Report{Done: &task.Done{Task: t.Task, Failure: &jobs.Failure{Code: code, Message: message, Task: t.Task, Server: a.cfg.Name}}})
}

// end ends a task without a report. The lock is held.
func (a *Agent) end(t *attempt) {
	t.cancel(errCancelled)
	if a.sched.Remove(t.key, t.Task) {
		a.forget(t)
	}
}

// forget lets go of a task of which nothing happens any more. The lock is held.
func (a *Agent) forget(t *attempt) {
	if a.attempts[t.Task] != t {
		return
	}
	delete(a.attempts, t.Task)
	delete(t.job.live, t.Task)
	t.cancel(errCancelled)
	if errors.Is(context.Cause(t.ctx), errCancelled) {
		a.count.cancelled.Add(1)
	}
	t.job.stream.left()
	close(t.over)
}

// finish reports a task's end, unless nobody wants to hear of it, and forgets it.
func (a *Agent) finish(t *attempt, d task.Done) {
	d.Task = t.Task
	if d.Failure != nil {
		d.Failure.Task, d.Failure.Server = t.Task, a.server(t)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !t.cancelled() {
		switch {
		case d.Failure == nil:
			a.count.ok.Add(1)
		case d.System:
			a.count.retried.Add(1)
		default:
			a.count.failed.Add(1)
		}
		t.job.stream.report(task.Report{Done: &d})
		t.cancel(errFinished)
	}
	a.forget(t)
}

var errFinished = errors.New("it has ended")

// server is the storage id that a task's failure names: one that has its input.
func (a *Agent) server(t *attempt) string {
	if t.Input != nil {
		for _, id := range t.Input.Copies {
			if a.cfg.Stores[id] != nil {
				return id
			}
		}
	}
	return a.cfg.Name
}

// storDir is where a job's objects are.
func (j *job) storDir() string { return path.Clean(jobs.StorDir(j.Login, j.Job)) }
