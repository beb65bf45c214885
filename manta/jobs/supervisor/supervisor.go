package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// mostArchives is how many jobs send their archives to the front door at a time.
const mostArchives = 16

// A Supervisor moves jobs along. Use [New].
type Supervisor struct {
	cfg   Config
	log   *slog.Logger
	fleet *fleet
	met   counters
	slots chan struct{} // of lookups
	doors chan struct{} // of archives that are being stored

	mu      sync.Mutex
	jobs    map[string]*job
	full    bool // jobs were passed over because there were too many
	running sync.WaitGroup
	recheck chan struct{} // told that jobs may be free
}

// New returns a supervisor. It does nothing before [Supervisor.Run].
func New(cfg Config) (*Supervisor, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Supervisor{
		cfg: cfg, log: cfg.Logger.With("supervisor", cfg.Instance), jobs: map[string]*job{}, slots: make(chan struct{}, cfg.Lookups), recheck: make(chan struct{}, 1),
		doors: make(chan struct{}, mostArchives),
	}
	s.fleet = newFleet(cfg.Instance, s.log, &s.met, s.wakeAll)
	return s, nil
}

// Run moves jobs along until ctx ends, and then leaves them to others; it returns when nothing of it goes on any more. What is under way then
// is done again by whoever has the job next. Records must be defined. Run may be called once.
func (s *Supervisor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var loops sync.WaitGroup
	loops.Go(func() { s.fleet.run(ctx, s.cfg.Agents) })
	if err := s.beatFirst(ctx); err != nil {
		cancel()
		loops.Wait()
		return nil // ctx has ended
	}
	loops.Go(func() { s.beats(ctx) })
	loops.Go(func() { s.sweepRecords(ctx) })
	loops.Go(func() { s.follow(ctx) })
	loops.Wait()
	s.running.Wait()
	return s.leave(ctx)
}

// leave says that this supervisor has ended, so that others need not wait.
func (s *Supervisor) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.cfg.Records.Leave(ctx, s.cfg.Instance); err != nil && !errors.Is(err, metastore.ErrClosed) {
		s.log.WarnContext(ctx, "end not noted", "err", err)
	}
	return nil
}

// notify wakes a job of which something may be new, and reports whether it is held.
func (s *Supervisor) notify(id string) bool {
	s.mu.Lock()
	j := s.jobs[id]
	s.mu.Unlock()
	if j == nil {
		return false
	}
	j.note()
	return true
}

func (s *Supervisor) wakeAll() {
	s.mu.Lock()
	list := make([]*job, 0, len(s.jobs))
	for _, j := range s.jobs {
		list = append(list, j)
	}
	s.mu.Unlock()
	for _, j := range list {
		j.wake()
	}
}

// take has a job that was seen free run here, unless it does, or there are too many.
func (s *Supervisor) take(ctx context.Context, seen *jobs.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs[seen.ID] != nil || ctx.Err() != nil {
		return
	}
	if len(s.jobs) >= s.cfg.MaxJobs {
		s.full = true
		return
	}
	j := newJob(s, seen)
	s.jobs[seen.ID] = j
	s.running.Go(func() {
		s.hold(ctx, j, seen)
		s.mu.Lock()
		delete(s.jobs, j.id)
		free := s.full && len(s.jobs) <= s.cfg.MaxJobs*9/10 // listing them all is not for every single one
		s.full = s.full && !free
		s.mu.Unlock()
		if free {
			tell(s.recheck)
		}
	})
}

// hold claims a job and runs it; after a fault it does so again.
func (s *Supervisor) hold(ctx context.Context, j *job, seen *jobs.Job) {
	for try := 0; ; try++ {
		err := s.once(ctx, j, seen)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case errors.Is(err, jobs.ErrNotFound):
			return
		case errors.Is(err, jobs.ErrLost) && j.claim == nil:
			return // somebody was quicker
		}
		s.met.faults.Add(1)
		if j.progress {
			try = 0
		}
		s.log.WarnContext(ctx, "job falls back on its commits", "job", j.id, "err", err)
		timer := time.NewTimer(min(time.Minute, 50*time.Millisecond<<min(try, 12)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		fresh, err := s.cfg.Records.Get(ctx, j.id)
		switch {
		case errors.Is(err, jobs.ErrNotFound):
			return
		case err != nil:
			continue
		case fresh.Supervisor != s.cfg.Instance && fresh.Supervisor != "":
			s.log.WarnContext(ctx, "job has gone to another supervisor", "job", j.id, "to", fresh.Supervisor)
			return
		}
		seen = fresh
		next := newJob(s, seen)
		s.mu.Lock()
		s.jobs[j.id] = next
		s.mu.Unlock()
		j = next
	}
}

// once runs a job until it is archived, or something goes wrong.
func (s *Supervisor) once(ctx context.Context, j *job, seen *jobs.Job) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
			s.log.ErrorContext(ctx, "job panics", "job", j.id, "panic", v, "stack", string(debug.Stack()))
		}
		j.close(cancel)
	}()
	return j.run(ctx, cancel, seen)
}
