package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/agent/door"
	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/sched"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/zones"
)

// tails is how many tasks of one zone may have their outputs stored while it runs the next.
const tails = 8

// worker is a zone at work for a group, the scheduler's stream.
type worker struct {
	agent *Agent
	id    uint64
	group sched.Key
	job   *job
	next  chan *attempt // closed at its end

	zone   zone
	door   *door.Door
	inited bool
	meter  zones.Usage // the zone's at the end of the task before

	tail  sync.WaitGroup // tasks whose outputs are being stored
	slots chan struct{}

	mu    sync.Mutex
	files []*os.File // scratch files to be used again
}

// run is the worker's life.
func (w *worker) run() {
	a := w.agent
	defer a.gone(w)
	z, err := a.zones.Get(a.ctx)
	if err != nil {
		if a.ctx.Err() == nil {
			a.log.Error("no zone for tasks", "job", w.group.Job, "phase", w.group.Phase, "err", err)
			if a.lacking.Add(1) >= lackingMax { // others may do better
				w.abort(&jobs.Failure{Code: jobs.CodeInternal, Message: "internal error", Internal: "no zone: " + err.Error()}, true)
			}
			select {
			case <-time.After(time.Second):
			case <-a.ctx.Done():
			}
		}
		return
	}
	a.lacking.Store(0)
	w.zone, w.slots = z, make(chan struct{}, tails)
	sound := true
	a.ready(w)
	for t := w.wait(); t != nil; t = w.wait() {
		if sound = w.do(t); !sound {
			break
		}
		a.ready(w)
	}
	w.tail.Wait()
	if w.door != nil {
		w.door.Close()
	}
	for _, f := range w.files {
		f.Close()
	}
	if sound {
		z.Return()
	} else {
		z.Discard()
	}
}

// wait waits for the next task; nil at the worker's end, or the agent's.
func (w *worker) wait() *attempt {
	select {
	case t := <-w.next:
		return t
	case <-w.agent.ctx.Done():
	}
	select { // nothing is sent any more, but something may be there
	case t := <-w.next:
		return t
	default:
		return nil
	}
}

// errInit says that the phase's init program failed.
type errInit struct{ failure *jobs.Failure }

func (e *errInit) Error() string { return e.failure.Message }

// do runs a task. It reports false when the zone is of no further use.
func (w *worker) do(t *attempt) (sound bool) {
	began := time.Now()
	if t.cancelled() {
		w.agent.finish(t, task.Done{})
		return true
	}
	if err := w.open(t); err != nil {
		w.agent.log.Error("zone not made ready", "zone", w.zone.ID(), "task", t.Task, "err", err)
		w.finish(t, began, internal(err), true)
		return false
	}
	w.door.Begin(door.Task{
		ID: t.Task,
		Emit: func(e door.Emitted) {
			t.job.stream.emit(t.ctx, &task.Emit{Task: t.Task, Path: e.Path, Reducer: e.Reducer})
		},
		Ended: func() { t.stop(errTold) },
	})
	if !w.inited {
		if err := w.init(t); err != nil {
			w.door.End()
			if e, ok := errors.AsType[*errInit](err); ok {
				w.abort(&jobs.Failure{Code: jobs.CodeTaskInit, Machine: w.zone.ID(),
					Message: "task aborted because a previous task failed to initialize (see other errors for details)"}, false)
				w.finish(t, began, e.failure, false)
				return true // the scheduler gives the next task of the group a zone that tries again
			}
			w.finish(t, began, internal(err), true)
			return false
		}
		w.inited = true
	}
	memory, _ := sizes(t.phase())
	e := &ending{read: began, usage: task.Usage{MemoryMB: int(memory >> 20)}}
	stop := w.checkpoints(t, e)
	w.exec(t, e)
	stop()
	e.result = w.door.End()
	sound = !w.zone.Broken() && (e.exec == nil || t.run.Err() != nil)
	w.measure(t, e)
	w.slots <- struct{}{}
	w.tail.Go(func() {
		w.store(t, e)
		<-w.slots
	})
	return sound
}

// open brings the zone to the phase's size and opens its door.
func (w *worker) open(t *attempt) error {
	if w.door != nil {
		return nil
	}
	memory, disk := sizes(t.phase())
	if err := w.zone.Limit(w.agent.ctx, memory, disk); err != nil {
		return fmt.Errorf("set limits: %w", err)
	}
	d, err := door.New(door.Config{Front: w.agent.cfg.Front, FrontURL: w.agent.cfg.FrontURL, Login: w.job.Login, Token: w.job.Token, Logger: w.agent.log})
	if err != nil {
		return err
	}
	w.door = d
	go func() {
		if err := d.Serve(w.zone.Port()); err != nil && w.agent.ctx.Err() == nil {
			w.agent.log.Debug("door of a zone", "zone", w.zone.ID(), "err", err)
		}
	}()
	return nil
}

// finish reports a task of which nothing was stored.
func (w *worker) finish(t *attempt, began time.Time, f *jobs.Failure, system bool) {
	f.Machine = w.zone.ID()
	w.agent.finish(t, task.Done{Failure: f, System: system, Usage: task.Usage{WallNS: time.Since(began).Nanoseconds()}})
}

// lackingMax is how often no zone could be had before tasks are given back.
const lackingMax = 5

// abort fails what waits for a zone of this group.
func (w *worker) abort(f *jobs.Failure, system bool) {
	a := w.agent
	a.mu.Lock()
	var list []*attempt
	for _, id := range a.sched.Drop(w.group) {
		if t := a.attempts[id]; t != nil {
			list = append(list, t)
		}
	}
	a.mu.Unlock()
	for _, t := range list {
		own := *f
		a.finish(t, task.Done{Failure: &own, System: system})
	}
}

// scratch takes a file for a stream of a task.
func (w *worker) scratch() (*os.File, error) {
	w.mu.Lock()
	if n := len(w.files); n > 0 {
		f := w.files[n-1]
		w.files = w.files[:n-1]
		w.mu.Unlock()
		return f, nil
	}
	w.mu.Unlock()
	return w.zone.Scratch()
}

// reuse takes a scratch file back. Nobody else has it open any more: all programs of the task are gone.
func (w *worker) reuse(f *os.File) {
	if f == nil {
		return
	}
	if st, err := f.Stat(); err != nil || st.Size() > 0 && f.Truncate(0) != nil {
		f.Close()
		return
	}
	w.mu.Lock()
	w.files = append(w.files, f)
	w.mu.Unlock()
}

// exec runs the task's program.
func (w *worker) exec(t *attempt, e *ending) {
	defer func() { e.cause = context.Cause(t.run) }()
	var in *os.File
	if t.Input != nil {
		name, short := abbreviate(t.Input.Path)
		e.unusual = short
		var done func() error
		if in, done, e.exec = w.show(t, name); e.exec != nil {
			if isGone(e.exec) {
				e.exec, e.fetch = nil, e.exec
			}
			return
		}
		defer func() {
			in.Close()
			if err := w.zone.Hide(context.WithoutCancel(t.ctx)); err != nil && e.exec == nil {
				e.exec = err
			}
			if err := done(); err != nil && e.exec == nil {
				e.fetch = err
			}
		}()
	}
	if e.out, e.exec = w.scratch(); e.exec != nil {
		return
	}
	if e.err, e.exec = w.scratch(); e.exec != nil {
		return
	}
	args, env := []string{"bash", "-c", t.phase().Exec}, w.environ(t)
	if t.Input != nil {
		if words, ok := plain(t.phase().Exec); ok {
			// What bash would have added to the environment.
			e.status, e.exec = w.zone.Exec(t.run, words, append(env, "PWD=/", "SHLVL=0"), in, e.out, e.err)
			if _, never := errors.AsType[*zones.StartError](e.exec); !never {
				return
			}
			// No such program, or one that only a shell can run: bash knows what to do, or to say.
		}
		e.status, e.exec = w.zone.Exec(t.run, args, env, in, e.out, e.err)
		return
	}
	w.reduce(t, e, args, env)
}

// internal is a failure that is none of the task's doing.
func internal(err error) *jobs.Failure {
	return &jobs.Failure{Code: jobs.CodeInternal, Message: "internal error", Internal: err.Error()}
}
