package tasktest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// Config says what an [Agent] is.
type Config struct {
	// Name of the agent; "" means "agent".
	Name string

	// Storage ids that it serves, and Images that it has.
	Storage, Images []string

	// Zones is how many tasks it runs at a time; 0 means 8.
	Zones int

	// Run is what each task does. Its context ends when the task is to. nil means that a task went well; an error that is a [*Failed] says how it failed, any
	// other is the message of a UserTaskError. Required.
	Run func(ctx context.Context, t *Task) error
}

// Failed is how a task failed.
type Failed struct {
	Failure jobs.Failure
	System  bool
}

func (f *Failed) Error() string { return f.Failure.Code + ": " + f.Failure.Message }

// An Agent runs tasks in memory.
type Agent struct {
	cfg Config

	mu         sync.Mutex
	generation int
	refuse     bool
	streams    map[*stream]bool
	waiting    []*Task
	busy       int
	started    int64
	running    sync.WaitGroup
}

var _ task.Agent = (*Agent)(nil)

// New returns an agent. It panics without a Run function.
func New(cfg Config) *Agent {
	if cfg.Run == nil {
		panic("tasktest: no Run")
	}
	if cfg.Name == "" {
		cfg.Name = "agent"
	}
	if cfg.Zones == 0 {
		cfg.Zones = 8
	}
	return &Agent{cfg: cfg, streams: map[*stream]bool{}}
}

// Connect implements [task.Agent].
func (a *Agent) Connect(ctx context.Context, supervisor string) (task.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	if a.refuse {
		a.mu.Unlock()
		return nil, task.ErrUnavailable
	}
	var old []*stream
	for s := range a.streams {
		if s.supervisor == supervisor {
			old = append(old, s)
		}
	}
	s := &stream{agent: a, supervisor: supervisor, tasks: map[string]*Task{}, jobs: map[string]*task.Open{}, more: make(chan struct{}, 1), ended: make(chan struct{})}
	s.hello = task.Hello{Agent: a.cfg.Name, Generation: fmt.Sprint(a.generation), Storage: a.cfg.Storage, Images: a.cfg.Images, Zones: a.cfg.Zones}
	a.streams[s] = true
	a.mu.Unlock()
	for _, s := range old {
		s.end(errors.New("tasktest: a newer stream of the same supervisor"))
		s.running.Wait()
	}
	return s, nil
}

// Restart does as if the agent's process ended and another one began: streams and tasks end, the generation is another.
func (a *Agent) Restart() {
	a.mu.Lock()
	a.generation++
	a.mu.Unlock()
	a.Cut()
}

// Cut ends all streams, and with them their tasks.
func (a *Agent) Cut() {
	a.mu.Lock()
	var list []*stream
	for s := range a.streams {
		list = append(list, s)
	}
	a.mu.Unlock()
	for _, s := range list {
		s.end(errors.New("tasktest: cut"))
	}
}

// Refuse has the agent take no more streams, or take them again.
func (a *Agent) Refuse(yes bool) {
	a.mu.Lock()
	a.refuse = yes
	a.mu.Unlock()
}

// Started returns how many tasks were begun so far, and how many of them run.
func (a *Agent) Started() (all int64, now int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started, a.busy
}

// Close ends everything and waits for it.
func (a *Agent) Close() {
	a.Refuse(true)
	a.Cut()
	a.running.Wait()
}

// next starts tasks while there are zones; a.mu is held.
func (a *Agent) next() {
	for a.busy < a.cfg.Zones && len(a.waiting) > 0 {
		t := a.waiting[0]
		a.waiting = a.waiting[1:]
		if t.ctx.Err() != nil {
			continue
		}
		a.busy++
		a.started++
		a.running.Add(1)
		t.stream.running.Add(1)
		go a.run(t)
	}
}

func (a *Agent) run(t *Task) {
	defer a.running.Done()
	defer t.stream.running.Done()
	err := a.cfg.Run(t.ctx, t)
	a.mu.Lock()
	a.busy--
	a.next()
	a.mu.Unlock()
	d := &task.Done{Task: t.Start.Task}
	if err != nil {
		f, ok := errors.AsType[*Failed](err)
		if !ok {
			f = &Failed{Failure: jobs.Failure{Code: jobs.CodeUserTask, Message: err.Error()}}
		}
		failure := f.Failure
		failure.Server, failure.Machine = a.cfg.Name, "zone"
		d.Failure, d.System = &failure, f.System
	}
	t.stream.finish(t, d)
}

// A Task is one that runs.
type Task struct {
	Job   *task.Open
	Start *task.Start

	stream *stream
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	input []task.Input
	ended bool
	more  chan struct{}
}

// OutputBase returns what names of the task's objects begin with.
func (t *Task) OutputBase() string {
	origin := ""
	if t.Start.Input != nil {
		origin = t.Start.Input.Origin
	}
	return jobs.OutputBase(t.Job.Login, t.Job.Job, origin, t.Start.Phase)
}

// Emit gives out an object.
func (t *Task) Emit(path string, reducer int) {
	t.stream.report(t, task.Report{Emit: &task.Emit{Task: t.Start.Task, Path: path, Reducer: reducer}})
}

// Inputs waits for input of a reducer and returns what is there; none at the end.
func (t *Task) Inputs() ([]task.Input, error) {
	for {
		t.mu.Lock()
		list, ended := t.input, t.ended
		t.input = nil
		t.mu.Unlock()
		if len(list) > 0 || ended {
			return list, nil
		}
		select {
		case <-t.more:
		case <-t.ctx.Done():
			return nil, t.ctx.Err()
		}
	}
}

// stream is a supervisor's end.
type stream struct {
	agent      *Agent
	supervisor string
	hello      task.Hello
	running    sync.WaitGroup

	mu      sync.Mutex
	tasks   map[string]*Task
	jobs    map[string]*task.Open
	reports []task.Report
	more    chan struct{}
	ended   chan struct{}
	reason  error
}

func (s *stream) Hello() task.Hello { return s.hello }

func (s *stream) end(reason error) {
	s.mu.Lock()
	if s.reason != nil {
		s.mu.Unlock()
		return
	}
	s.reason = reason
	for _, t := range s.tasks {
		t.cancel()
	}
	s.tasks, s.reports = nil, nil
	close(s.ended)
	s.mu.Unlock()
	a := s.agent
	a.mu.Lock()
	delete(a.streams, s)
	a.mu.Unlock()
}

// Close implements [task.Stream].
func (s *stream) Close() error {
	s.end(task.ErrClosed)
	return nil
}

// Send implements [task.Stream].
func (s *stream) Send(ctx context.Context, orders ...task.Order) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for i := range orders {
		if err := s.order(&orders[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) order(o *task.Order) error {
	if o.Open != nil {
		s.agent.supersede(o.Open)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reason != nil:
		return s.reason
	case o.Open != nil:
		s.jobs[o.Open.Job] = o.Open
	case o.Start != nil:
		job := s.jobs[o.Start.Job]
		if job == nil {
			return fmt.Errorf("tasktest: task of job %s, which was not opened", o.Start.Job)
		}
		t := &Task{Job: job, Start: o.Start, stream: s, more: make(chan struct{}, 1)}
		t.ctx, t.cancel = context.WithCancel(context.Background())
		s.tasks[o.Start.Task] = t
		a := s.agent
		a.mu.Lock()
		a.waiting = append(a.waiting, t)
		a.next()
		a.mu.Unlock()
	case o.Feed != nil:
		if t := s.tasks[o.Feed.Task]; t != nil {
			t.mu.Lock()
			t.input = append(t.input, o.Feed.Inputs...)
			t.ended = t.ended || o.Feed.End
			t.mu.Unlock()
			tell(t.more)
		}
	case o.Cancel != "":
		s.drop(o.Cancel)
	case o.Shut != "":
		for id, t := range s.tasks {
			if t.Start.Job == o.Shut {
				s.drop(id)
			}
		}
		delete(s.jobs, o.Shut)
	}
	return nil
}

// drop ends a task without a report; s.mu is held.
func (s *stream) drop(id string) {
	if t := s.tasks[id]; t != nil {
		t.cancel()
		delete(s.tasks, id)
	}
}

// supersede ends tasks of a job that came from a supervisor which had it earlier.
func (a *Agent) supersede(o *task.Open) {
	a.mu.Lock()
	var list []*stream
	for s := range a.streams {
		list = append(list, s)
	}
	a.mu.Unlock()
	for _, s := range list {
		s.mu.Lock()
		if old := s.jobs[o.Job]; old != nil && old.Assigned < o.Assigned {
			for id, t := range s.tasks {
				if t.Start.Job == o.Job {
					s.drop(id)
				}
			}
			delete(s.jobs, o.Job)
		}
		s.mu.Unlock()
	}
}

func (s *stream) report(t *Task, r task.Report) {
	s.mu.Lock()
	if s.tasks[t.Start.Task] == t {
		s.reports = append(s.reports, r)
		tell(s.more)
	}
	s.mu.Unlock()
}

func (s *stream) finish(t *Task, d *task.Done) {
	t.cancel()
	s.report(t, task.Report{Done: d})
	s.mu.Lock()
	if s.tasks[d.Task] == t {
		delete(s.tasks, d.Task)
	}
	s.mu.Unlock()
}

// Receive implements [task.Stream].
func (s *stream) Receive(ctx context.Context) ([]task.Report, error) {
	for {
		s.mu.Lock()
		list, reason := s.reports, s.reason
		s.reports = nil
		s.mu.Unlock()
		if len(list) > 0 {
			return list, nil
		}
		if reason != nil {
			return nil, reason
		}
		select {
		case <-s.more:
		case <-s.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
