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

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/cell"
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

// verify reads the object in the background to see whether it is whole.
func (w *worker) verify(t *attempt, store Store) func() error {
	ctx, cancel := context.WithCancel(t.ctx)
	var g errgroup.Group
	g.Go(func() error {
		_, err := store.Verify(ctx, t.Input.Object)
		return err
	})
	return func() error {
		defer cancel()
		err := g.Wait()
		if t.ctx.Err() != nil || errors.Is(err, storage.ErrNotFound) { // it was deleted meanwhile; what is open stays
			return nil
		}
		return err
	}
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

var _ zone = (*cell.Cell)(nil)
