package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Job is a compute job of the client's account. Its methods may be called by several goroutines.
type Job struct {
	// ID is the job's uuid.
	ID string

	c *Client
}

// OpenJob returns the job of an id. It makes no request.
func (c *Client) OpenJob(id string) *Job { return &Job{ID: id, c: c} }

// Path returns the path of the job's directory.
func (j *Job) Path() string { return "~~/jobs/" + j.ID }

func (j *Job) live(what string) string { return j.Path() + "/live/" + what }

// JobState is how far a job is.
type JobState string

// States of a job. One that was cancelled ends as done.
const (
	JobQueued  JobState = "queued"
	JobRunning JobState = "running"
	JobDone    JobState = "done"
)

// JobStatus is how a job is.
type JobStatus struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	State     JobState `json:"state"`
	Cancelled bool     `json:"cancelled"`
	InputDone bool     `json:"inputDone"`
	Transient bool     `json:"transient"`
	Stats     JobStats `json:"stats"`
	Phases    []Phase  `json:"phases"`

	TimeCreated        time.Time `json:"timeCreated"`
	TimeDone           time.Time `json:"timeDone,omitzero"`           // zero while it runs
	TimeArchiveStarted time.Time `json:"timeArchiveStarted,omitzero"` // likewise
	TimeArchiveDone    time.Time `json:"timeArchiveDone,omitzero"`    // zero until its lists are complete
}

// JobStats are a job's counters, final once it is done.
type JobStats struct {
	Errors    int64 `json:"errors"`
	Outputs   int64 `json:"outputs"`
	Retries   int64 `json:"retries"`
	Tasks     int64 `json:"tasks"`
	TasksDone int64 `json:"tasksDone"`
}

// Status returns how the job is. For a job that only its archive knows any more, that is asked.
func (j *Job) Status(ctx context.Context) (*JobStatus, error) {
	s := new(JobStatus)
	err := j.c.exchange(ctx, nil, &operation{name: "GetJob", method: http.MethodGet, path: j.live("status"), repeatable: true}, s)
	if !isCode(err, ErrNotFound) {
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	obj, again := j.c.GetObject(ctx, &GetObjectInput{Path: j.Path() + "/job.json"})
	if isCode(again, ErrNotFound) {
		return nil, err
	}
	if again != nil {
		return nil, again
	}
	defer obj.Body.Close()
	if err := json.NewDecoder(io.LimitReader(obj.Body, 1<<20)).Decode(s); err != nil {
		return nil, fmt.Errorf("GetJob %s: read its archive: %w", j.ID, err)
	}
	return s, nil
}

// AddInputs adds paths of objects to the job's input, while the job already works on the first of them. The sequence is run in a goroutine of its own, and not before
// the server has agreed to take input ([ErrJobState]). After another error it is not known how many were added; a sequence that waits for something then learns of
// it at its next yield, which may be after AddInputs has returned. That an object is there is not checked: one that is not becomes an error of the job.
func (j *Job) AddInputs(ctx context.Context, paths iter.Seq[string]) error {
	return j.addInputs(ctx, func(yield func(string) bool) error {
		paths(yield)
		return nil
	})
}

// AddInputsFrom is AddInputs for paths that are lines of a text.
func (j *Job) AddInputsFrom(ctx context.Context, r io.Reader) error {
	return j.addInputs(ctx, func(yield func(string) bool) error {
		for line, err := range scan(r) {
			if err != nil {
				return fmt.Errorf("read inputs of job %s: %w", j.ID, err)
			}
			if line := strings.TrimSuffix(string(line), "\r"); !yield(line) {
				break
			}
		}
		return nil
	})
}

func (j *Job) addInputs(ctx context.Context, paths func(yield func(string) bool) error) error {
	body := &inputs{c: j.c, ctx: ctx, paths: paths, lines: make(chan string, 256), over: make(chan struct{})}
	defer close(body.over)
	h := http.Header{"Content-Type": {"text/plain"}}
	_, err := j.c.call(ctx, nil, &operation{name: "AddJobInputs", method: http.MethodPost, path: j.live("in"), header: h, body: body, size: -1})
	if own := body.err.Load(); own != nil { // what the transport says about it is less clear
		return *own
	}
	return err
}

// EndInput says that no more input comes. It may be repeated.
func (j *Job) EndInput(ctx context.Context) error {
	_, err := j.c.call(ctx, nil, &operation{name: "EndJobInput", method: http.MethodPost, path: j.live("in/end"), repeatable: true})
	return err
}

// Cancel asks for the job to end as soon as possible. A job that is done is [ErrJobState].
func (j *Job) Cancel(ctx context.Context) error {
	_, err := j.c.call(ctx, nil, &operation{name: "CancelJob", method: http.MethodPost, path: j.live("cancel")})
	return err
}

// Wait returns the job's status as soon as it is done. The zero MinDelay is 25 ms here.
func (j *Job) Wait(ctx context.Context, o WaitOptions) (*JobStatus, error) {
	return j.wait(ctx, o, func(s *JobStatus) bool { return s.State == JobDone })
}

// WaitArchived is Wait, but until the lists of what came of the job are complete.
func (j *Job) WaitArchived(ctx context.Context, o WaitOptions) (*JobStatus, error) {
	return j.wait(ctx, o, func(s *JobStatus) bool { return s.State == JobDone && !s.TimeArchiveDone.IsZero() })
}

func (j *Job) wait(ctx context.Context, o WaitOptions, done func(*JobStatus) bool) (*JobStatus, error) {
	if o.MinDelay == 0 {
		o.MinDelay = 25 * time.Millisecond
	}
	var s *JobStatus
	err := wait(ctx, o, func() (bool, error) {
		var err error
		if s, err = j.Status(ctx); err != nil {
			return false, err
		}
		return done(s), nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for job %s: %w", j.ID, err)
	}
	return s, nil
}

// inputs are lines of input as a request's body.
type inputs struct {
	c     *Client
	ctx   context.Context // of AddInputs, of which this is a part: the transport does not end before a read of the body does
	paths func(yield func(string) bool) error
	start sync.Once
	lines chan string   // closed at the end of the sequence
	over  chan struct{} // closed when the request has ended
	err   atomic.Pointer[error]
	rest  []byte // of lines that did not fit; only Read has it
}

// inputPause is how long nothing is sent while a sequence pauses.
const inputPause = 15 * time.Second

// Read returns what there is: a sequence that pauses does not hold back what came before, and one that does not goes in large pieces.
func (b *inputs) Read(p []byte) (int, error) {
	b.start.Do(func() { go b.run() })
	if len(b.rest) == 0 {
		pause := time.NewTimer(inputPause)
		defer pause.Stop()
		select {
		case line, ok := <-b.lines:
			if !ok {
				return 0, b.end()
			}
			b.rest = append(append(b.rest[:0], line...), "\r\n"...)
		case <-pause.C: // an empty line means nothing, and finds out whether the connection still works
			b.rest = append(b.rest[:0], "\r\n"...)
		case <-b.ctx.Done():
			return 0, context.Cause(b.ctx)
		case <-b.over: // the transport still reads
			return 0, errAttemptOver
		}
		for more := true; more && len(b.rest) < len(p); {
			select {
			case line, ok := <-b.lines:
				if more = ok; ok {
					b.rest = append(append(b.rest, line...), "\r\n"...)
				}
			default:
				more = false
			}
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *inputs) end() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return io.EOF
}

func (b *inputs) run() {
	defer close(b.lines)
	var bad error
	err := b.paths(func(path string) bool {
		if path, bad = b.c.input(path); bad != nil {
			return false
		}
		select {
		case <-b.over: // goes before room for one more line
			return false
		default:
		}
		select {
		case b.lines <- path:
			return true
		case <-b.over:
			return false
		}
	})
	if err = errors.Join(bad, err); err != nil {
		b.err.Store(&err)
	}
}

// input returns a path as a line of input.
func (c *Client) input(path string) (string, error) {
	if strings.ContainsAny(path, "\r\n") || path == "" {
		return "", fmt.Errorf("%w: job input %q", ErrInput, path)
	}
	if path == "~~" || strings.HasPrefix(path, "~~/") {
		return c.resolve(path)
	}
	return path, nil // the server judges it, and says so in an error of the job
}

// JobError is why an input of a job came to nothing.
type JobError struct {
	Phase   int    // from 0
	What    string // for people: what failed
	Code    string // such as UserTaskError
	Message string
	Input   string // of the phase; "" for a reducer
	Origin  string // the job's input that it came of
	Stderr  string // path of an object with what the task wrote to its stderr; "" if none
	Core    string // likewise of a core dump
	Task    string // only the archive tells
	Server  string // likewise
	Machine string // likewise
}

// errorLine is a JobError as live/err has it, and with more of it, and another name for the phase, as the archive does.
type errorLine struct {
	Phase    json.RawMessage `json:"phase,omitempty"` // a number, or a string with one
	PhaseNum json.RawMessage `json:"phaseNum,omitempty"`
	What     string          `json:"what"`
	Code     string          `json:"code"`
	Message  string          `json:"message"`
	Input    string          `json:"input,omitempty"`
	Origin   string          `json:"p0input,omitempty"`
	Stderr   string          `json:"stderr,omitempty"`
	Core     string          `json:"core,omitempty"`
	Task     string          `json:"taskId,omitempty"`
	Server   string          `json:"server,omitempty"`
	Machine  string          `json:"machine,omitempty"`
}

// MarshalJSON writes an error as live/err has it.
func (e *JobError) MarshalJSON() ([]byte, error) {
	return json.Marshal(errorLine{json.RawMessage(strconv.Quote(strconv.Itoa(e.Phase))), nil, e.What, e.Code, e.Message, e.Input, e.Origin, e.Stderr, e.Core, e.Task, e.Server, e.Machine})
}

// UnmarshalJSON reads an error as live/err has it, or as the archive does.
func (e *JobError) UnmarshalJSON(b []byte) error {
	var l errorLine
	if err := json.Unmarshal(b, &l); err != nil {
		return err
	}
	phase := l.Phase
	if phase == nil {
		phase = l.PhaseNum
	}
	n, err := strconv.Atoi(strings.Trim(string(phase), `"`))
	if err != nil {
		return fmt.Errorf("phase of a job's error: %w", err)
	}
	*e = JobError{n, l.What, l.Code, l.Message, l.Input, l.Origin, l.Stderr, l.Core, l.Task, l.Server, l.Machine}
	return nil
}

// Error says it in one line, so that an error of a job can be an error of a program.
func (e *JobError) Error() string { return e.What + ": " + e.Code + ": " + e.Message }
