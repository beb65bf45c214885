package task

import (
	"context"
	"errors"
	"time"
)

// Silence is how long either side of a stream waits without hearing of the other before it gives the stream up. Both send something at least
// three times as often.
const Silence = 15 * time.Second

// ErrClosed says that a stream or an agent has ended.
var ErrClosed = errors.New("task: closed")

// ErrUnavailable says that there is no agent where one was looked for, or that it takes no streams now. It may be different later.
var ErrUnavailable = errors.New("task: no agent")

// An Agent runs tasks on one server. Its methods may be called from several goroutines.
type Agent interface {
	// Connect begins a stream for a supervisor, named by its instance. An older stream of the same supervisor is ended, and its tasks are,
	// before Connect returns. When ctx ends before that, so does the attempt; afterwards it has no meaning for the stream.
	Connect(ctx context.Context, supervisor string) (Stream, error)
}

// A Stream is the supervisor's end of a conversation.
type Stream interface {
	// Hello is what the agent said of itself when the stream began.
	Hello() Hello

	// Send hands over orders, in order. It waits while the agent has more than it can take, and returns early when ctx or the stream
	// ends. After an error it is not known which orders arrived; only Close is of use then.
	Send(ctx context.Context, orders ...Order) error

	// Receive waits for reports and returns all that are there, at least one. The slice is the caller's. One goroutine at a time may call it.
	// After the stream's end it returns ErrClosed, or why it ended.
	Receive(ctx context.Context) ([]Report, error)

	// Close ends the stream. The agent ends all its tasks, which the caller need not wait for. It may be repeated.
	Close() error
}

// A Hello is what an agent says of itself.
type Hello struct {
	// Agent is its name, Generation another for each start of its process.
	Agent      string `json:"agent"`
	Generation string `json:"generation"`
	// Storage are the ids of the storage nodes whose objects it has at hand.
	Storage []string `json:"storage"`
	// Images are the versions of images that it has, for phases that ask for one.
	Images []string `json:"images"`
	// Zones is how many tasks it runs at a time.
	Zones int `json:"zones"`
}

// An Order is what a supervisor wants done; exactly one field is set. What it points to is not changed any more by either side.
type Order struct {
	// Open describes a job before anything else is said about it on this stream. Tasks of the same job that came from a
	// supervisor that had it earlier (Assigned is lower) are ended first.
	Open *Open `json:"open,omitempty"`
	// Start has a task run.
	Start *Start `json:"start,omitempty"`
	// Feed gives a reducer more of its input.
	Feed *Feed `json:"feed,omitempty"`
	// Cancel ends a task, without a report. One that is not there any more: nothing.
	Cancel string `json:"cancel,omitempty"`
	// Shut ends everything of a job that is with this stream and forgets it: it is the job's id. What a supervisor that has the job since then
	// ordered on another stream goes on.
	Shut string `json:"shut,omitempty"`
}

// A Report is what an agent tells; exactly one field is set.
type Report struct {
	// Emit is an output of a task that goes on. Outputs are reported before the task's Done, in the order in which they were made.
	Emit *Emit `json:"emit,omitempty"`
	// Done is a task's end. Nothing more is said of it.
	Done *Done `json:"done,omitempty"`
}
