package supervisor

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// beatFirst says that this supervisor lives before it claims anything, so that nobody takes its jobs for those of one that is gone.
func (s *Supervisor) beatFirst(ctx context.Context) error {
	return s.insist(ctx, "beat", func() error { return s.cfg.Records.Beat(ctx, s.cfg.Instance) })
}

// insist repeats a call until it succeeds or ctx ends.
func (s *Supervisor) insist(ctx context.Context, what string, f func() error) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	return backoff.RetryNotify(func() error {
		if err := ctx.Err(); err != nil {
			return backoff.Permanent(err)
		}
		return f()
	}, backoff.WithContext(wait, ctx), func(err error, after time.Duration) {
		s.log.WarnContext(ctx, "will be tried again", "what", what, "after", after, "err", err)
	})
}

// A pulse is what was last heard of another supervisor, by this one's clock.
type pulse struct {
	beat string
	at   time.Time
}

// beats says that this supervisor lives, and looks whether the others do.
func (s *Supervisor) beats(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.BeatInterval)
	defer ticker.Stop()
	known := map[string]pulse{}
	for {
		s.listen(ctx, known)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := s.cfg.Records.Beat(ctx, s.cfg.Instance); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "no beat", "err", err)
		}
	}
}

// listen reads the beats of all. One that has gone, or was silent for too long, has its jobs looked for; its beat is removed, which it puts back should it live.
func (s *Supervisor) listen(ctx context.Context, known map[string]pulse) {
	now, err := s.cfg.Records.Beats(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "beats not read", "err", err)
		}
		return
	}
	for name := range known {
		if _, ok := now[name]; !ok {
			delete(known, name)
			tell(s.recheck)
		}
	}
	for name, beat := range now {
		if name == s.cfg.Instance {
			continue
		}
		if p, ok := known[name]; !ok || p.beat != beat {
			known[name] = pulse{beat, time.Now()}
			continue
		} else if time.Since(p.at) < s.cfg.DeadAfter {
			continue
		}
		s.log.WarnContext(ctx, "supervisor is dead", "which", name)
		if err := s.cfg.Records.Leave(ctx, name); err != nil {
			s.log.WarnContext(ctx, "beat of the dead not removed", "which", name, "err", err)
			continue
		}
		delete(known, name)
		tell(s.recheck)
	}
}

// follow takes jobs as they come, and those that nobody has.
func (s *Supervisor) follow(ctx context.Context) {
	for ctx.Err() == nil {
		var from metastore.Position
		err := s.insist(ctx, "list jobs", func() (err error) {
			if from, err = s.cfg.Records.Position(ctx); err != nil {
				return err
			}
			return s.list(ctx)
		})
		if err != nil {
			return
		}
		err = s.watch(ctx, from)
		if ctx.Err() != nil {
			return
		}
		s.log.WarnContext(ctx, "jobs are listed again", "reason", err)
		s.wakeAllFresh()
		pause(ctx, 50*time.Millisecond)
	}
}

// wakeAllFresh has all jobs read their records again.
func (s *Supervisor) wakeAllFresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		j.note()
	}
}

var errRecheck = errors.New("jobs may be free")

// watch follows events; it returns when jobs have to be listed again.
func (s *Supervisor) watch(ctx context.Context, from metastore.Position) error {
	for {
		err := s.watchOnce(ctx, &from)
		if !errors.Is(err, errRecheck) {
			return err
		}
		// Events go on from where they were; what was missed meanwhile comes.
		if err := s.list(ctx); err != nil {
			return err
		}
	}
}

func (s *Supervisor) watchOnce(life context.Context, from *metastore.Position) error {
	ctx, cancel := context.WithCancelCause(life)
	defer cancel(nil)
	go func() {
		select {
		case <-s.recheck:
			cancel(errRecheck)
		case <-ctx.Done():
		}
	}()
	for e, err := range s.cfg.Records.Watch(ctx, *from) {
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		*from = e.Position
		if s.notify(e.Job) || e.Input {
			continue
		}
		j, err := s.cfg.Records.Get(ctx, e.Job)
		if errors.Is(err, jobs.ErrNotFound) {
			continue
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		if j.TimeArchiveDone.IsZero() && (j.Supervisor == "" || j.Supervisor == s.cfg.Instance) {
			s.take(life, j) // which outlives this watch
		}
	}
	return context.Cause(ctx)
}

// list takes all jobs that nobody has who lives. Beats are read after jobs: whoever has one beat before it claimed it.
func (s *Supervisor) list(ctx context.Context) error {
	var others []*jobs.Job
	for j, err := range s.cfg.Records.List(ctx, jobs.ListOptions{Unarchived: true}) {
		if err != nil {
			return err
		}
		if j.Supervisor == "" || j.Supervisor == s.cfg.Instance {
			s.take(ctx, j)
			continue
		}
		// What it takes to claim it; definitions may be long.
		others = append(others, &jobs.Job{ID: j.ID, Owner: j.Owner, Phases: make([]jobs.Phase, len(j.Phases)), Supervisor: j.Supervisor, Stats: j.Stats})
	}
	alive, err := s.cfg.Records.Beats(ctx)
	if err != nil {
		return err
	}
	for _, j := range others {
		if _, ok := alive[j.Supervisor]; !ok {
			s.take(ctx, j)
		}
	}
	return nil
}

// sweepRecords deletes the records of jobs that were archived long enough ago. All supervisors do so; a deletion may be repeated.
func (s *Supervisor) sweepRecords(ctx context.Context) {
	every := max(min(s.cfg.Linger/10, time.Minute), time.Millisecond)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := s.deleteOld(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "old records not deleted", "err", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Supervisor) deleteOld(ctx context.Context) error {
	var ids []string
	for j, err := range s.cfg.Records.List(ctx, jobs.ListOptions{ArchivedBefore: time.Now().Add(-s.cfg.Linger), Limit: 1000}) {
		if err != nil {
			return err
		}
		ids = append(ids, j.ID)
	}
	for _, id := range ids {
		if err := s.cfg.Records.Delete(ctx, id); err != nil {
			return err
		}
		s.log.InfoContext(ctx, "records deleted", "job", id)
	}
	return nil
}

// pause waits a moment, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
