package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// store keeps what a task wrote, and reports its end.
func (w *worker) store(t *attempt, e *ending) {
	f, system := e.failure()
	base := t.job.base(&t.Start)
	stdout := !e.result.ExplicitStdout && !e.result.Committed && e.out != nil && (f == nil || !system && size(e.out) > 0)
	if stdout && !t.cancelled() {
		name := base + t.Task
		if err := w.put(t, name, e.out); err != nil {
			if f == nil {
				f, system = &jobs.Failure{Code: jobs.CodeInternal, Message: "internal error", Internal: "save stdout: " + err.Error()}, true
			}
		} else if f == nil {
			t.job.stream.emit(t.ctx, &task.Emit{Task: t.Task, Path: name, Reducer: -1})
		}
	}
	if f != nil {
		f.Machine, f.Stderr, f.Core = w.zone.ID(), e.result.Stderr, e.result.Core
		if !system && !t.cancelled() {
			w.keep(t, e, f, base)
		}
	}
	if e.core != nil {
		e.core.File.Close()
	}
	w.reuse(e.out)
	w.reuse(e.err)
	w.agent.finish(t, task.Done{Failure: f, System: system, Usage: e.usage})
}

// keep stores what tells why a task failed. That it cannot be stored is no further failure.
func (w *worker) keep(t *attempt, e *ending, f *jobs.Failure, base string) {
	if e.err != nil && size(e.err) > 0 {
		name := base + "err." + t.Task
		if err := w.put(t, name, e.err); err == nil {
			f.Stderr = name
		} else {
			w.agent.log.Warn("stderr of a task not stored", "task", t.Task, "err", err)
		}
	}
	if e.core != nil {
		name := fmt.Sprintf("%s/cores/%d/core.%s.%s", t.job.storDir(), t.Phase, e.core.Program, uuid.NewString())
		if err := w.put(t, name, e.core.File); err == nil {
			f.Core = name
		} else {
			w.agent.log.Warn("core dump of a task not stored", "task", t.Task, "err", err)
		}
	}
}

func size(f *os.File) int64 {
	st, err := f.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}

// put stores a file as an object, a few times if need be, and makes the directory that it is in.
func (w *worker) put(t *attempt, name string, file *os.File) error {
	a := w.agent
	select {
	case a.uploads <- struct{}{}:
		defer func() { <-a.uploads }()
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
	ctx := t.ctx
	n := size(file)
	err := retry(ctx, func() error {
		if err := w.makeDir(ctx, path.Dir(name)); err != nil {
			return err
		}
		err := w.send(ctx, name, "application/octet-stream", n, func() io.Reader { return io.NewSectionReader(file, 0, n) })
		if s, ok := errors.AsType[*statusError](err); ok && s.code == "DirectoryDoesNotExist" {
			t.job.forgetDir(path.Dir(name))
			return err // once more
		}
		return err
	})
	if err == nil {
		a.count.uploads.Add(1)
		a.count.uploadBytes.Add(n)
	}
	return err
}

// statusError is the front door's refusal.
type statusError struct {
	status int
	code   string
	what   string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: status %d %s", e.what, e.status, e.code)
}

// passing reports whether the same request may succeed later.
func (e *statusError) passing() bool {
	return e.status >= 500 || e.status == 408 || e.status == 429 || e.status == 409 || e.code == "DirectoryDoesNotExist"
}

// retry calls f until it succeeds, fails for good, or has failed five times in some 15 seconds.
func retry(ctx context.Context, f func() error) error {
	err := f()
	if err == nil {
		return nil
	}
	policy := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(8*time.Second), backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
	first := true
	return backoff.Retry(func() error {
		if !first {
			err = f()
		}
		first = false
		if s, ok := errors.AsType[*statusError](err); ok && !s.passing() || ctx.Err() != nil {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(backoff.WithMaxRetries(policy, 4), ctx))
}

// send makes one request with a body.
func (w *worker) send(ctx context.Context, name, contentType string, n int64, body func() io.Reader) error {
	u := url.URL{Scheme: "http", Host: "front", Path: name, RawPath: escape(name)} // the door fills in where to
	req := &http.Request{Method: http.MethodPut, URL: &u, Header: http.Header{"Content-Type": {contentType}}, ContentLength: n, Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if n > 0 {
		req.Body = io.NopCloser(body())
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body()), nil }
	}
	resp, err := w.door.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return answer(resp, "put "+name)
}

// answer reads what is left of an answer, and makes an error of a refusal.
func answer(resp *http.Response, what string) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode < 300 {
		return err
	}
	return &statusError{resp.StatusCode, codeOf(text), what}
}

// escape percent-encodes each component of a path.
func escape(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}

// makeDir makes a directory of the job's and those between it and the job's stor, unless they are there.
func (w *worker) makeDir(ctx context.Context, dir string) error {
	j := w.job
	stor := j.storDir()
	if dir == stor || !strings.HasPrefix(dir, stor+"/") {
		return nil
	}
	for {
		j.dirs.Lock()
		doing := j.made[dir]
		if doing == nil {
			doing = make(chan struct{})
			j.made[dir] = doing
			j.dirs.Unlock()
			err := w.makeDir(ctx, path.Dir(dir))
			if err == nil {
				err = w.send(ctx, dir, "application/json; type=directory", 0, nil)
			}
			if err != nil {
				j.forgetDir(dir)
				j.forgetDir(path.Dir(dir)) // it may be what is missing
			}
			close(doing)
			return err
		}
		j.dirs.Unlock()
		select {
		case <-doing:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		j.dirs.Lock()
		there := j.made[dir] == doing
		j.dirs.Unlock()
		if there {
			return nil
		}
	}
}

// forgetDir says that a directory is not there after all.
func (j *job) forgetDir(dir string) {
	j.dirs.Lock()
	defer j.dirs.Unlock()
	delete(j.made, dir)
}
