package agent

import (
	"context"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// Limits of a stream. Beyond the first no further order is taken, beyond the second no further output.
const (
	maxAttempts = 10_000
	maxReports  = 50_000
)

func now() time.Time { return time.Now() }

// stream is a supervisor's. It is a task.Stream.
type stream struct {
	agent      *Agent
	supervisor string
	over       chan struct{} // closed when it has ended and nothing of its tasks happens any more
	sending    sync.Mutex

	// Under the agent's lock.
	live  int
	ended bool

	mu      sync.Mutex
	reports []task.Report
	err     error         // why it ended
	wake    chan struct{} // has one when there is something for Receive
	changed chan struct{} // closed, and made anew, when there is room for somebody
}

func newStream(a *Agent, supervisor string) *stream {
	return &stream{agent: a, supervisor: supervisor, over: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Hello implements task.Stream.
func (s *stream) Hello() task.Hello { return s.agent.hello() }

// Send implements task.Stream.
func (s *stream) Send(ctx context.Context, orders ...task.Order) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	for i := range orders {
		if orders[i].Start != nil {
			if err := s.room(ctx, func() bool { return s.live < maxAttempts }); err != nil {
				return err
			}
		} else if err := s.room(ctx, func() bool { return true }); err != nil {
			return err
		}
		s.do(&orders[i])
	}
	return nil
}

// room waits until free says so.
func (s *stream) room(ctx context.Context, free func() bool) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.mu.Lock()
		changed, err := s.changed, s.err
		s.mu.Unlock()
		if err != nil {
			return err
		}
		s.agent.mu.Lock()
		ok := free()
		s.agent.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (s *stream) do(o *task.Order) {
	a := s.agent
	switch {
	case o.Open != nil:
		if !a.open(s, o.Open) {
			a.log.Warn("job of a supervisor that has lost it", "job", o.Open.Job, "supervisor", s.supervisor)
		}
	case o.Start != nil:
		a.start(s, o.Start)
	case o.Feed != nil:
		a.mu.Lock()
		t := a.attempts[o.Feed.Task]
		a.mu.Unlock()
		if t != nil && t.job.stream == s && t.feed != nil {
			t.feed.add(o.Feed.Inputs, o.Feed.End)
		}
	case o.Cancel != "":
		a.mu.Lock()
		if t := a.attempts[o.Cancel]; t != nil && t.job.stream == s {
			a.end(t)
			a.plan()
		}
		a.mu.Unlock()
	case o.Shut != "":
		a.mu.Lock()
		j := a.jobs[o.Shut]
		a.mu.Unlock()
		if j != nil && j.stream == s {
			a.shut(j)
		}
	}
}

// report queues a report. It never waits.
func (s *stream) report(r task.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.reports = append(s.reports, r)
	s.poke()
}

// emit queues an output, and waits while too many are there.
func (s *stream) emit(ctx context.Context, e *task.Emit) {
	for {
		s.mu.Lock()
		if s.err != nil {
			s.mu.Unlock()
			return
		}
		if len(s.reports) < maxReports {
			s.reports = append(s.reports, task.Report{Emit: e})
			s.poke()
			s.mu.Unlock()
			return
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// poke wakes Receive. The lock is held.
func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// change wakes whoever waits for room.
func (s *stream) change() {
	s.mu.Lock()
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
}

// left says that a task is gone. The agent's lock is held.
func (s *stream) left() {
	if s.live--; s.live == maxAttempts-1 {
		s.change()
	}
}

// Receive implements task.Stream.
func (s *stream) Receive(ctx context.Context) ([]task.Report, error) {
	for {
		s.mu.Lock()
		got, err := s.reports, s.err
		s.reports = nil
		s.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case len(got) > 0:
			if len(got) >= maxReports {
				s.change()
			}
			return got, nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close implements task.Stream.
func (s *stream) Close() error {
	s.end(task.ErrClosed)
	return nil
}

// end ends the stream and all its tasks; over says when that is done.
func (s *stream) end(why error) {
	a := s.agent
	a.mu.Lock()
	if s.ended {
		a.mu.Unlock()
		return
	}
	s.ended = true
	var list []*job
	for _, j := range a.jobs {
		if j.stream == s {
			list = append(list, j)
		}
	}
	a.work.Add(1)
	a.mu.Unlock()
	s.mu.Lock()
	s.err = why
	s.reports = nil
	s.poke()
	s.mu.Unlock()
	s.change()
	go func() {
		defer a.work.Done()
		for _, j := range list {
			a.shut(j)
		}
		a.mu.Lock()
		if a.streams[s.supervisor] == s {
			delete(a.streams, s.supervisor)
		}
		a.mu.Unlock()
		close(s.over)
	}()
}
