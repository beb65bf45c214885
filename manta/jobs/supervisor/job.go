package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/supervisor/internal/ledger"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// A job is one that this supervisor has. All of it but the box belongs to the goroutine of run.
type job struct {
	s    *Supervisor
	id   string
	log  *slog.Logger
	open *task.Open // never changed once set
	stop context.CancelCauseFunc
	side sync.WaitGroup // what runs beside the loop

	mu     sync.Mutex // of the box
	box    []func()
	closed bool
	signal chan struct{}

	rec   *jobs.Job // as last read
	claim *jobs.Claim
	l     *ledger.Ledger
	ctx   context.Context

	dirty      bool // the record may be newer; set under mu
	refreshing bool

	reading  bool
	inputs   []jobs.Inputs // read and not handed to the ledger
	inputAt  int64         // number of the input after the last that was read
	version  int           // of what is known of the record: counts events
	dry      int           // version at which there was no more input; -1: there may be
	total    int64         // of all inputs, once known; -1
	ending   bool          // input is being ended, since none came
	locating int
	writing  bool
	progress bool // something was committed
	scanning bool // commits are being read for a replay
	cleaning bool // or for objects to delete
	deleting int
	saving   bool
	saved    jobs.Stats
	savedAt  time.Time

	queues   []map[string]*queue // by phase: map tasks that want an agent, by where copies are
	queued   int
	tasks    map[string]*placed // attempts that run
	at       map[*link]int      // how many of them are with each
	reducers map[[2]int]time.Time
	timer    *time.Timer
	due      time.Time // of timer
	began    time.Time
}

// placed is an attempt that was handed to an agent.
type placed struct {
	link    *link
	at      time.Time
	waiting bool // a reducer whose input has not ended
}

func newJob(s *Supervisor, seen *jobs.Job) *job {
	return &job{
		s: s, id: seen.ID, log: s.log.With("job", seen.ID, "owner", seen.Owner), signal: make(chan struct{}, 1), dry: -1, total: -1,
		queues: newQueues(len(seen.Phases)), tasks: map[string]*placed{}, at: map[*link]int{}, reducers: map[[2]int]time.Time{},
	}
}

// post has the job's goroutine call a function. It does not block, and may be called by anybody.
func (j *job) post(f func()) {
	j.mu.Lock()
	if !j.closed {
		j.box = append(j.box, f)
	}
	j.mu.Unlock()
	tell(j.signal)
}

// wake has the job look what there is to do.
func (j *job) wake() { tell(j.signal) }

// note says that the job's record or its inputs may be newer.
func (j *job) note() {
	j.mu.Lock()
	j.dirty = true
	j.mu.Unlock()
	tell(j.signal)
}

// close ends what runs beside the loop, and takes the job from the agents.
func (j *job) close(cancel context.CancelCauseFunc) {
	j.mu.Lock()
	j.closed, j.box = true, nil
	j.mu.Unlock()
	cancel(nil)
	if j.timer != nil {
		j.timer.Stop()
	}
	j.side.Wait()
	j.shut()
}

// shut ends all that agents have of the job.
func (j *job) shut() {
	j.s.fleet.mu.Lock()
	links := make([]*link, 0, len(j.s.fleet.links))
	for _, l := range j.s.fleet.links {
		links = append(links, l)
	}
	j.s.fleet.mu.Unlock()
	for _, l := range links {
		l.shut(j)
	}
	for _, p := range j.tasks {
		if p.waiting {
			p.link.waiting.Add(-1)
		}
	}
	clear(j.tasks)
	clear(j.at)
}

// beside runs f beside the loop. An error of it ends the run.
func (j *job) beside(f func(ctx context.Context) error) {
	j.side.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				j.log.ErrorContext(j.ctx, "job panics", "panic", v, "stack", string(debug.Stack()))
				j.stop(fmt.Errorf("panic: %v", v))
			}
		}()
		if err := f(j.ctx); err != nil {
			j.stop(err)
		}
	})
}

// run claims the job and moves it along until it is archived.
func (j *job) run(ctx context.Context, stop context.CancelCauseFunc, seen *jobs.Job) error {
	j.ctx, j.stop = ctx, stop
	claim, err := j.s.cfg.Records.ClaimFrom(ctx, seen, j.s.cfg.Instance)
	if err != nil {
		return err
	}
	j.claim, j.rec, j.began = claim, claim.Job(), time.Now()
	j.s.met.claimed.Add(1)
	taken := j.rec.Stats.Assigns > 1
	if taken {
		j.s.met.takenOver.Add(1)
	}
	j.log.InfoContext(ctx, "job claimed", "assigned", j.rec.Stats.Assigns, "state", j.rec.State)
	j.open = &task.Open{
		Job: j.id, Assigned: j.rec.Stats.Assigns, Owner: j.rec.Owner, Login: j.rec.Login, Token: j.rec.Auth.Token, Phases: j.rec.Phases, Options: j.rec.Options,
	}
	if j.rec.State != jobs.Done {
		if taken {
			// Whatever an earlier supervisor still has running ends now.
			for _, l := range j.s.fleet.candidates(nil) {
				l.open(j)
			}
		}
		if err := j.rebuild(ctx); err != nil {
			return err
		}
		if err := j.loop(ctx); err != nil {
			return err
		}
		if err := j.finish(ctx); err != nil {
			return err
		}
	}
	j.shut()
	return j.archive(ctx)
}

// rebuild reads what is known of the job.
func (j *job) rebuild(ctx context.Context) error {
	j.l = ledger.New(j.rec, ledger.Limits{Window: j.s.cfg.Inputs, Retries: j.s.cfg.Retries})
	if j.rec.Stats.Assigns > 1 {
		for c, err := range j.claim.Commits(ctx) {
			if err != nil {
				return err
			}
			j.l.Apply(c)
		}
		if j.l.Recounting() {
			for c, err := range j.claim.Commits(ctx) {
				if err != nil {
					return err
				}
				j.l.Recount(c)
			}
		}
	}
	j.l.Begin()
	j.inputAt, _ = j.l.WantInputs()
	j.saved = j.l.Stats()
	return nil
}

// loop moves the job along until there is nothing left to do for it.
func (j *job) loop(ctx context.Context) error {
	for {
		j.step(ctx)
		if j.l.Finished() && j.idle() {
			return nil
		}
		select {
		case <-j.signal:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		j.mu.Lock()
		box := j.box
		j.box = nil
		j.mu.Unlock()
		for _, f := range box {
			f()
		}
	}
}

// idle reports whether nothing that writes runs beside the loop.
func (j *job) idle() bool {
	return !j.writing && !j.cleaning && !j.scanning && j.deleting == 0 && !j.saving
}

// finish notes that the job is done.
func (j *job) finish(ctx context.Context) error {
	if !j.l.Cancelled() && (!j.l.Swept() || j.rec.Stats.Assigns > 1) {
		if err := j.sweep(ctx); err != nil {
			return err
		}
	}
	now := now()
	rec, err := j.claim.Update(ctx, func(rec *jobs.Job) error {
		rec.State, rec.TimeDone, rec.TimeArchiveStarted = jobs.Done, now, now
		rec.Stats = j.l.Stats()
		return nil
	})
	if err != nil {
		return err
	}
	j.rec = rec
	j.s.met.done.Add(1)
	if j.l.Cancelled() {
		j.s.met.cancelled.Add(1)
	}
	j.s.met.jobTime.add(now.Sub(rec.TimeCreated))
	j.log.InfoContext(ctx, "job done", "cancelled", rec.Cancelled(), "inputs", rec.Stats.InputsRead, "tasks", rec.Stats.Tasks, "failed", rec.Stats.TasksFailed,
		"outputs", rec.Stats.Outputs, "errors", rec.Stats.Errors, "retries", rec.Stats.Retries, "took", time.Since(j.began))
	return nil
}

// at has the loop woken at a time, or before.
func (j *job) wakeAt(t time.Time) {
	if !j.due.IsZero() && !t.Before(j.due) && j.due.After(time.Now()) {
		return
	}
	j.due = t
	if j.timer == nil {
		j.timer = time.AfterFunc(time.Until(t), j.wake)
		return
	}
	j.timer.Reset(time.Until(t))
}

// now is the time by the granularity of the protocol.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
