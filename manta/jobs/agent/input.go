package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/storage"
)

// show shows a map task's input in the zone, and returns it open. done, called when the task's programs are gone, says whether what they read was right: a
// file of the store is checked while it is read.
func (w *worker) show(t *attempt, name string) (in *os.File, done func() error, err error) {
	a, o := w.agent, t.Input
	nothing := func() error { return nil }
	a.count.inputs.Add(1)
	a.count.inputBytes.Add(o.Size)
	if o.Size == 0 {
		in, err = w.zone.ShowCopy(name, nil)
		return in, nothing, err
	}
	for _, id := range o.Copies {
		store := a.cfg.Stores[id]
		if store == nil {
			continue
		}
		file, _, err := store.OpenFile(t.ctx, o.Object)
		if err == nil {
			defer file.Close()
			if in, err = w.zone.ShowFile(t.ctx, name, file); err != nil {
				return nil, nil, err
			}
			return in, w.verify(t, store), nil
		}
		if errors.Is(err, errors.ErrUnsupported) {
			r, _, err := store.Open(t.ctx, o.Object, 0, -1)
			if err == nil {
				in, err = w.zone.ShowCopy(name, r)
				r.Close()
				if err == nil {
					return in, nothing, nil
				}
			}
			a.log.Warn("input not read", "task", t.Task, "object", o.Object, "storage", id, "err", err)
		}
	}
	in, err = w.fetch(t, name)
	return in, nothing, err
}

// verify reads the object beside the program, to see whether it is whole. When the program has ended it gets as long again as that took: what was
// read faster than it can be checked, such as the first lines of something huge, is not.
func (w *worker) verify(t *attempt, store Store) func() error {
	a, id, began := w.agent, t.Input.Object, time.Now()
	if a.intact.has(id) {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(t.ctx)
	checked := make(chan error, 1)
	go func() {
		r, _, err := store.Open(ctx, id, 0, -1)
		if err == nil {
			_, err = io.CopyBuffer(onlyWriter{io.Discard}, r, make([]byte, 256<<10))
			r.Close()
		}
		if err == nil {
			a.intact.add(id)
		}
		checked <- err
	}()
	return func() error {
		defer cancel()
		late := time.NewTimer(time.Since(began) + 10*time.Millisecond)
		defer late.Stop()
		select {
		case err := <-checked:
			if t.ctx.Err() != nil || errors.Is(err, storage.ErrNotFound) { // it was deleted meanwhile; what is open stays
				return nil
			}
			return err
		case <-late.C:
			return nil
		}
	}
}

// intact are objects that were found whole a short while ago.
type intact struct {
	mu    sync.Mutex
	until map[storage.ObjectID]time.Time
}

// intactFor is how long a check of an object serves the tasks that follow; intactMax is how many objects are remembered.
const (
	intactFor = 10 * time.Minute
	intactMax = 10_000
)

func (i *intact) has(id storage.ObjectID) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Now().Before(i.until[id])
}

func (i *intact) add(id storage.ObjectID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.until == nil || len(i.until) >= intactMax {
		i.until = map[storage.ObjectID]time.Time{}
	}
	i.until[id] = time.Now().Add(intactFor)
}

// fetch gets an input from the front door, into a file without a name.
func (w *worker) fetch(t *attempt, name string) (*os.File, error) {
	w.agent.count.remote.Add(1)
	body, err := w.get(t.ctx, t.Input.Path)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if t.Input.Size <= 1<<20 {
		return w.zone.ShowCopy(name, body)
	}
	spool, err := w.zone.Scratch()
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	if _, err := io.Copy(spool, body); err != nil {
		return nil, err
	}
	return w.zone.ShowFile(t.ctx, name, spool)
}

// get reads an object through the front door, in the job's name.
func (w *worker) get(ctx context.Context, name string) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "front", Path: name, RawPath: escape(name)}
	req := &http.Request{Method: http.MethodGet, URL: &u, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	resp, err := w.door.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, answer(resp, "get "+name)
	}
	if resp.Header.Get("Content-Type") == "application/x-json-stream; type=directory" {
		resp.Body.Close()
		return nil, &statusError{http.StatusBadRequest, "InvalidArgument", "get " + name + ": a directory"}
	}
	return resp.Body, nil
}

// codeOf finds the code in a refusal's body.
func codeOf(text []byte) string {
	var e struct{ Code string }
	_ = json.Unmarshal(text, &e)
	return e.Code
}

// isGone reports that an input is not there or not for this job, so that another attempt would fail as well.
func isGone(err error) bool {
	s, ok := errors.AsType[*statusError](err)
	return ok && !s.passing()
}

// inputError is what users are told of an input that could not be read.
func inputError(err error) string {
	if s, ok := errors.AsType[*statusError](err); ok {
		return fmt.Sprintf("first of 1 error: error retrieving %s (status code %d)", s.what, s.status)
	}
	return "first of 1 error: input could not be read"
}

// open opens an input of a reducer: at hand, or through the front door.
func (w *worker) openInput(ctx context.Context, in *task.Input) (io.ReadCloser, error) {
	a := w.agent
	if in.Size == 0 {
		return http.NoBody, nil
	}
	for _, id := range in.Copies {
		if store := a.cfg.Stores[id]; store != nil {
			if r, _, err := store.Open(ctx, in.Object, 0, -1); err == nil {
				return r, nil
			}
		}
	}
	a.count.remote.Add(1)
	return w.get(ctx, in.Path)
}
