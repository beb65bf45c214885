package supervisor

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// A link is the way to one agent: a stream while there is one.
type link struct {
	fleet *fleet
	name  string
	agent task.Agent // of the goroutine of run

	load    atomic.Int64 // tasks that are with the agent
	waiting atomic.Int64 // of them reducers whose input has not ended
	zones   atomic.Int64 // that the agent has, or had

	mu     sync.Mutex
	up     bool
	hello  task.Hello
	out    []task.Order
	more   chan struct{} // told that there is something in out
	opened map[string]bool
	tasks  map[string]*job // by attempt: of this stream
	lost   map[string]*job // of a stream that ended
	timer  *time.Timer     // releases lost
	parked map[*job]bool   // to be woken when out is short again
}

// maxOut is how many orders may wait for the agent to take them before jobs hold theirs back.
const maxOut = 2048

func newLink(f *fleet, name string) *link {
	l := &link{fleet: f, name: name, more: make(chan struct{}, 1), opened: map[string]bool{}, tasks: map[string]*job{}, lost: map[string]*job{}, parked: map[*job]bool{}}
	l.zones.Store(1)
	return l
}

// run connects, and connects again, until ctx ends.
func (l *link) run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(3*time.Second), backoff.WithMaxElapsedTime(0))
	log := l.fleet.log.With("agent", l.name)
	refused := false
	for ctx.Err() == nil {
		stream, err := l.agent.Connect(ctx, l.fleet.instance)
		if err == nil {
			refused = false
			wait.Reset()
			log.InfoContext(ctx, "agent is there", "generation", stream.Hello().Generation)
			err = l.converse(ctx, stream)
			if ctx.Err() == nil {
				log.WarnContext(ctx, "agent is lost", "err", err)
			}
		} else if !refused && ctx.Err() == nil {
			refused = true
			log.WarnContext(ctx, "agent cannot be reached", "err", err)
		}
		timer := time.NewTimer(wait.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// converse uses a stream until it ends.
func (l *link) converse(ctx context.Context, stream task.Stream) error {
	l.begin(stream.Hello())
	// Nothing of the older stream goes on now.
	l.release()
	l.fleet.refresh()
	life, cancel := context.WithCancelCause(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { cancel(l.send(life, stream)) })
	loops.Go(func() { cancel(l.receive(life, stream)) })
	<-life.Done()
	stream.Close()
	loops.Wait()
	l.end()
	l.fleet.refresh()
	return context.Cause(life)
}

func (l *link) begin(hello task.Hello) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.hello = true, hello
	l.zones.Store(int64(max(hello.Zones, 1)))
	l.out = nil
	clear(l.opened)
}

// end takes the stream's tasks for lost. They are released when a new one has begun, or nobody can act for them any more.
func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up, l.out = false, nil
	l.unpark()
	for id, j := range l.tasks {
		l.lost[id] = j
	}
	clear(l.tasks)
	if len(l.lost) > 0 && l.timer == nil {
		l.timer = time.AfterFunc(2*task.Silence, l.release)
	}
}

// release has jobs do again what was lost.
func (l *link) release() {
	l.mu.Lock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	byJob := map[*job][]string{}
	for id, j := range l.lost {
		byJob[j] = append(byJob[j], id)
	}
	l.load.Add(-int64(len(l.lost)))
	clear(l.lost)
	l.mu.Unlock()
	for j, ids := range byJob {
		j.post(func() { j.lost(ids) })
	}
}

func (l *link) state() (task.Hello, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hello, l.up
}

// start orders a task. It reports false if the agent is not there.
func (l *link) start(j *job, s *task.Start) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up {
		return false
	}
	l.openLocked(j)
	l.tasks[s.Task] = j
	l.load.Add(1)
	l.order(task.Order{Start: s})
	return true
}

// open tells the agent of a job, so that it ends what an earlier supervisor had it do.
func (l *link) open(j *job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up {
		l.openLocked(j)
	}
}

func (l *link) openLocked(j *job) {
	if !l.opened[j.id] {
		l.opened[j.id] = true
		l.order(task.Order{Open: j.open})
	}
}

// feed orders input for a reducer that runs on this stream; for another it is nothing.
func (l *link) feed(f *task.Feed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tasks[f.Task] != nil {
		l.order(task.Order{Feed: f})
	}
}

// shut ends all of a job.
func (l *link) shut(j *job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.parked, j)
	for _, tasks := range []map[string]*job{l.tasks, l.lost} {
		for id := range j.tasks {
			if tasks[id] == j {
				delete(tasks, id)
				l.load.Add(-1)
			}
		}
	}
	if l.up && l.opened[j.id] {
		delete(l.opened, j.id)
		l.order(task.Order{Shut: j.id})
	}
}

// order is called with l.mu held.
func (l *link) order(o task.Order) {
	l.out = append(l.out, o)
	tell(l.more)
}

// room reports whether the agent keeps up with its orders; if not, the job is woken when it does.
func (l *link) room(j *job) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.out) < maxOut {
		return true
	}
	l.parked[j] = true
	return false
}

func (l *link) unpark() {
	for j := range l.parked {
		j.wake()
	}
	clear(l.parked)
}

func (l *link) send(ctx context.Context, stream task.Stream) error {
	for {
		l.mu.Lock()
		list := l.out
		l.out = nil
		l.unpark()
		l.mu.Unlock()
		if len(list) > 0 {
			if err := stream.Send(ctx, list...); err != nil {
				return err
			}
			continue
		}
		select {
		case <-l.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *link) receive(ctx context.Context, stream task.Stream) error {
	for {
		list, err := stream.Receive(ctx)
		if err != nil {
			return err
		}
		var last *job
		var part []task.Report
		flush := func() {
			if last != nil {
				j, some := last, part
				j.post(func() { j.reports(some) })
			}
			part = nil
		}
		l.mu.Lock()
		for _, r := range list {
			var j *job
			switch {
			case r.Emit != nil:
				j = l.tasks[r.Emit.Task]
			case r.Done != nil:
				if j = l.tasks[r.Done.Task]; j != nil {
					delete(l.tasks, r.Done.Task)
					l.load.Add(-1)
				}
			default:
				l.mu.Unlock()
				return errors.New("supervisor: an empty report")
			}
			if j == nil {
				continue // of a task that was ended
			}
			if j != last {
				flush()
				last = j
			}
			part = append(part, r)
		}
		flush()
		l.mu.Unlock()
	}
}

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
