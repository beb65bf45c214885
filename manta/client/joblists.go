package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Inputs yields the job's inputs, in order: all of them once the job is archived, before that the newest (100 at present).
func (j *Job) Inputs(ctx context.Context) iter.Seq2[string, error] {
	return texts(j.list(ctx, "GetJobInputs", "in"))
}

// Outputs yields paths of the job's outputs, in order: all of them once the job is archived, before that the newest (100 at present). See also
// [Job.FollowOutputs].
func (j *Job) Outputs(ctx context.Context) iter.Seq2[string, error] {
	return texts(j.list(ctx, "GetJobOutputs", "out"))
}

// Failures yields the job's inputs that came to nothing: all of them once the job is archived, before that the newest (100 at present).
func (j *Job) Failures(ctx context.Context) iter.Seq2[string, error] {
	return texts(j.list(ctx, "GetJobFailures", "fail"))
}

// Errors yields the job's errors: all of them once the job is archived, before that the newest (100 at present).
func (j *Job) Errors(ctx context.Context) iter.Seq2[*JobError, error] {
	return func(yield func(*JobError, error) bool) {
		for line, err := range j.list(ctx, "GetJobErrors", "err") {
			e := new(JobError)
			if err == nil {
				err = json.Unmarshal(line, e)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// FollowOutputs yields each output of the job once, as soon as it is seen, and ends when the job is done and all have been yielded. Outputs that come faster than
// the server shows them are yielded at the end. While it runs it keeps all paths that it has yielded.
// The waits between looks are o's; the zero MinDelay is 25 ms, and 100 ms once there are outputs, the zero MaxDelay 1 s.
func (j *Job) FollowOutputs(ctx context.Context, o WaitOptions) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if o.MaxWait > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.MaxWait)
			defer cancel()
		}
		b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(cmp.Or(o.MinDelay, 25*time.Millisecond)), backoff.WithMaxInterval(cmp.Or(o.MaxDelay, time.Second)),
			backoff.WithMaxElapsedTime(0))
		f := &follower{yielded: map[string]int{}}
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			// The status comes first: what it says is done will be in the archive that is read after it.
			s, err := j.Status(ctx)
			if err != nil {
				yield("", err)
				return
			}
			if s.State == JobDone && !s.TimeArchiveDone.IsZero() {
				f.finish(j.Outputs(ctx), yield)
				return
			}
			some, err := f.look(j.recent(ctx), yield)
			if err != nil || f.stopped {
				return
			}
			if some {
				b.InitialInterval = cmp.Or(o.MinDelay, 100*time.Millisecond) // a short job has ended by now
				b.Reset()
			}
			timer.Reset(b.NextBackOff())
			select {
			case <-timer.C:
			case <-ctx.Done():
				yield("", fmt.Errorf("follow job %s: %w", j.ID, context.Cause(ctx)))
				return
			}
		}
	}
}

// A follower knows which outputs have been yielded.
type follower struct {
	yielded map[string]int // how often
	window  []string       // the newest at the last look
	stopped bool
}

// look yields what is new among the newest outputs.
func (f *follower) look(recent iter.Seq2[string, error], yield func(string, error) bool) (some bool, err error) {
	var window []string
	for path, err := range recent {
		if isCode(err, ErrNotFound) { // archived since
			return false, nil
		}
		if err != nil {
			yield("", err)
			return false, err
		}
		window = append(window, path)
	}
	for _, path := range window[overlap(f.window, window):] {
		f.yielded[path]++
		if !yield(path, nil) {
			f.stopped = true
			return true, nil
		}
		some = true
	}
	f.window = window
	return some, nil
}

// overlap returns how many of the first of b are the last of a: both are the newest of the same list, b later. The greatest number is the safe one: what is taken for
// old is yielded at the end, what is taken for new could be yielded twice.
func overlap(a, b []string) int {
	for s := range a {
		tail := a[s:]
		if len(tail) > len(b) {
			continue
		}
		same := true
		for i := range tail {
			if same = tail[i] == b[i]; !same {
				break
			}
		}
		if same {
			return len(tail)
		}
	}
	return 0
}

// finish yields the rest of all outputs.
func (f *follower) finish(all iter.Seq2[string, error], yield func(string, error) bool) {
	for path, err := range all {
		if err == nil && f.yielded[path] > 0 {
			f.yielded[path]--
			continue
		}
		if !yield(path, err) || err != nil {
			return
		}
	}
}

func (j *Job) recent(ctx context.Context) iter.Seq2[string, error] {
	return texts(j.c.lines(ctx, nil, &operation{name: "GetJobOutputs", method: http.MethodGet, path: j.live("out"), repeatable: true}))
}

// list yields the lines of one of the job's lists: the archive's, if it is there, or else the live one.
func (j *Job) list(ctx context.Context, name, what string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		archived := func() bool { // reports whether there was one
			obj, err := j.c.GetObject(ctx, &GetObjectInput{Path: j.Path() + "/" + what + ".txt"})
			if isCode(err, ErrNotFound) {
				return false
			}
			if err != nil {
				yield(nil, err)
				return true
			}
			defer obj.Body.Close()
			for line, err := range scan(obj.Body) {
				if !yield(line, err) {
					break
				}
			}
			return true
		}
		if archived() {
			return
		}
		for line, err := range j.c.lines(ctx, nil, &operation{name: name, method: http.MethodGet, path: j.live(what), repeatable: true}) {
			if isCode(err, ErrNotFound) && archived() { // between the two
				return
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// lines yields the lines of an operation's answer.
func (c *Client) lines(ctx context.Context, in any, op *operation) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		resp, err := c.invoke(ctx, in, op)
		if err != nil {
			yield(nil, err)
			return
		}
		defer resp.Body.Close()
		for line, err := range scan(resp.Body) {
			if err != nil {
				err = fmt.Errorf("%s: %w", op.name, err)
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// scan yields the lines of a text that are not empty. A line is good until the next.
func scan(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 0, 64<<10), maxLine)
		for s.Scan() {
			if len(bytes.TrimSpace(s.Bytes())) > 0 && !yield(s.Bytes(), nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(nil, err)
		}
	}
}

func texts(lines iter.Seq2[[]byte, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for line, err := range lines {
			if !yield(string(line), err) || err != nil {
				return
			}
		}
	}
}
