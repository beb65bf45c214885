package jobapi

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// patience is how long a client may have no more input to send. A job that gets none for as long is closed anyway.
const patience = time.Hour

// addInput stores the lines of the body as they come.
func (a *API) addInput(r *webapi.Request) error {
	j, err := a.Job(r)
	if err == nil {
		err = takesInput(j)
	}
	if err != nil {
		return err
	}
	r.BodyPatience(patience)
	if err := a.store(r, j.ID); err != nil {
		return refusal(r, err)
	}
	if r.Query.Get("end") != "" {
		ctx, cancel := afterwards(r)
		defer cancel()
		if err := a.records.EndInput(ctx, j.ID); err != nil {
			return refusal(r, err)
		}
	}
	r.Empty(http.StatusNoContent)
	return nil
}

func takesInput(j *jobs.Job) error {
	if err := Open(j); err != nil {
		return err
	}
	if j.InputDone() {
		refused := &jobs.StateError{ID: j.ID, State: "inputDone"}
		return manta.Errorf(http.StatusConflict, CodeInvalidJobState, "%s", refused.Error())
	}
	return nil
}

// store reads lines and stores them at the same time: what comes while a batch is on its way goes into the next one. So a client that pauses has
// everything stored, and one that hurries is not held up by small batches.
func (a *API) store(r *webapi.Request, id string) error {
	q := newQueue()
	stored := make(chan error)
	go func() {
		for paths := q.take(); paths != nil; paths = q.take() {
			// The client may be gone, but what it sent has arrived.
			ctx, cancel := afterwards(r)
			err := a.records.AddInputs(ctx, id, paths)
			cancel()
			if err != nil {
				q.fail(err)
			}
		}
		stored <- q.end()
	}()
	err := readLines(r.BodyReader(), q.add)
	q.end()
	// What came before a bad line, or before the client went away, is stored like the rest.
	if e := <-stored; e != nil {
		return e
	}
	return err
}

// readLines hands lines to take, those of each read together: without their ends, and empty ones left out. An error of take ends it.
func readLines(body io.Reader, take func(paths []string) error) error {
	buf := make([]byte, 64<<10)
	var rest []byte // of a line whose end has not come
	for {
		n, err := body.Read(buf)
		var paths []string
		var bad error
		for data := buf[:n]; ; {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				if rest = append(rest, data...); len(rest) > jobs.MaxInput+1 || err == io.EOF { // with room for a CR
					paths, bad = addLine(paths, rest)
				}
				break
			}
			rest = append(rest, data[:i]...)
			if paths, bad = addLine(paths, rest); bad != nil {
				break
			}
			rest, data = rest[:0], data[i+1:]
		}
		if len(paths) > 0 {
			if err := take(paths); err != nil {
				return err
			}
		}
		switch {
		case bad != nil:
			return bad
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read input: %w", err)
		}
	}
}

func addLine(paths []string, line []byte) ([]string, error) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > jobs.MaxInput {
		return paths, manta.Errorf(http.StatusBadRequest, manta.CodeInvalidArgument, "a line of input is longer than %d bytes", jobs.MaxInput)
	}
	if len(line) > 0 {
		paths = append(paths, string(line))
	}
	return paths, nil
}

// endInput says that no more input comes.
func (a *API) endInput(r *webapi.Request) error {
	return a.change(r, a.records.EndInput)
}
