package door

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// A Task is what a Door has to know of one.
type Task struct {
	// ID of the attempt.
	ID string

	// About is what a program gets that asks for its task, encoded as JSON; nil means the task's id and the account's login.
	About any

	// Emit is told of each output, in order, one at a time, before the program has its answer. It may wait, and the program then does. It is not called
	// after End, which waits for it. nil ignores outputs.
	Emit func(Emitted)

	// Ended is called once, in a goroutine of its own, when a program of the task has said that the task is done (commit) or failed. The agent then ends the
	// task's programs and calls End, whose Result has the rest. nil ignores it, and the task goes on without its store.
	Ended func()
}

// An Emitted is an object that a task gave out.
type Emitted struct {
	// Path, decoded and normalised.
	Path string
	// Reducer is the index that it asked for, -1 for none.
	Reducer int
}

// A Failure is what a program said of its task.
type Failure struct {
	Code    string // jobs.CodeUserTask unless the program has another
	Message string
}

// A Result is what a Door knows of a task that has ended.
type Result struct {
	// ExplicitStdout says that a program stored an object as the task's stdout, or tried to, so that what the task wrote to its stdout is
	// not an output.
	ExplicitStdout bool
	// Emitted is how many outputs there were.
	Emitted int64
	// Stderr and Core are paths of objects that programs stored as such; "" if none.
	Stderr, Core string
	// Committed says that a program ended the task as done; Failed, as failed. Neither is the usual case.
	Committed bool
	Failed    *Failure
	// InBytes were received by the task's programs, OutBytes sent by them, heads of requests and answers included.
	InBytes, OutBytes uint64
}

// A session is the time of one task.
type session struct {
	Task
	ctx      context.Context // ends with the task
	cancel   context.CancelFunc
	requests sync.WaitGroup

	received, sent uint64 // the Door's counters at its beginning

	emitting sync.Mutex // held over Emit, which may wait

	mu     sync.Mutex
	over   bool // nothing of it counts any more
	result Result
}

// Begin says that a task begins. The one before must have ended.
func (d *Door) Begin(t Task) {
	s := &session{Task: t}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.task != nil {
		panic("door: Begin before the End of the task before") // would give one task's outputs to another
	}
	if d.closed {
		s.cancel()
		return
	}
	s.received, s.sent = d.received.Load(), d.sent.Load()
	d.task = s
	close(d.changed)
	d.changed = make(chan struct{})
}

// End says that the task is over, breaks off its requests, waits until they are gone, and returns what is known of it. Outside of a task it does nothing.
func (d *Door) End() Result {
	d.mu.Lock()
	s := d.task
	d.task = nil
	d.mu.Unlock()
	if s == nil {
		return Result{}
	}
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.cancel()
	s.requests.Wait()
	s.result.OutBytes, s.result.InBytes = d.received.Load()-s.received, d.sent.Load()-s.sent
	return s.result
}

// enter returns the task that a request belongs to, which then waits for the request's leave; nil outside of a task.
func (d *Door) enter() *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.task
	if s == nil || s.isOver() {
		return nil
	}
	s.requests.Add(1)
	return s
}

func (s *session) leave() { s.requests.Done() }

func (s *session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// bind returns a request whose context ends with the task, and then with its connection: nothing that a program does or fails to do can hold up the end of
// its task.
func (s *session) bind(w http.ResponseWriter, r *http.Request) (*http.Request, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.ctx, func() {
		cancel()
		past, ctl := time.Unix(1, 0), http.NewResponseController(w)
		ctl.SetReadDeadline(past)  // net/http's own writers have deadlines
		ctl.SetWriteDeadline(past) // likewise
	})
	return r.WithContext(ctx), func() { stop(); cancel() }
}

// emit records an object as a stream of the task. It reports false when the task is over: then it counts for nothing.
func (s *session) emit(stream string, e Emitted) bool {
	s.emitting.Lock()
	defer s.emitting.Unlock()
	if !s.record(stream, e) {
		return false
	}
	if stream != "stderr" && stream != "core" && s.Emit != nil {
		s.Emit(e)
	}
	return true
}

func (s *session) record(stream string, e Emitted) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return false
	case stream == "stderr":
		s.result.Stderr = e.Path
	case stream == "core":
		s.result.Core = e.Path
	default:
		s.result.Emitted++
	}
	return true
}

// explicit notes that the task gives out its stdout by itself.
func (s *session) explicit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.ExplicitStdout = true
}

// end is a program's word that the task is over; the first one counts.
func (s *session) end(f *Failure) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.over = true
	s.result.Committed, s.result.Failed = f == nil, f
	return true
}
