package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/cell"
)

// init brings the phase's assets into the zone and runs its init program, once for all tasks that the zone will run. An *errInit is the user's doing.
func (w *worker) init(t *attempt) error {
	p := t.phase()
	for _, name := range p.Assets {
		if err := w.asset(t, name); err != nil {
			return err
		}
	}
	if p.Init == "" {
		return nil
	}
	w.agent.count.inits.Add(1)
	complaint, err := w.scratch()
	if err != nil {
		return err
	}
	defer w.reuse(complaint)
	st, err := w.zone.Exec(t.run, []string{"bash", "-c", p.Init}, append(w.initEnviron(), w.initBase(t)), nil, nil, complaint)
	if err != nil {
		return err
	}
	e := ending{status: st}
	if e.core, err = w.zone.TakeCore(); err != nil {
		return err
	}
	if e.core != nil {
		e.core.File.Close()
	}
	if f, _ := e.failure(); f != nil {
		f.Code = jobs.CodeTaskInit
		if size(complaint) > 0 {
			name := t.job.base(&t.Start) + "err." + t.Task
			if w.put(t, name, complaint) == nil {
				f.Stderr = name
			}
		}
		return &errInit{f}
	}
	return nil
}

// asset stores one asset in the zone.
func (w *worker) asset(t *attempt, name string) error {
	err := retry(t.ctx, func() error {
		body, err := w.get(t.ctx, name)
		if err != nil {
			return err
		}
		defer body.Close()
		return w.zone.Store(t.ctx, cell.AssetDir+strings.TrimRight(name, "/"), &guard{r: body})
	})
	if err == nil || t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	why := "cannot be written"
	if s, ok := errors.AsType[*statusError](err); ok {
		why = fmt.Sprintf("status code %d", s.status)
	}
	return &errInit{&jobs.Failure{Code: jobs.CodeTaskInit, Internal: err.Error(),
		Message: fmt.Sprintf("failed to dispatch task: first of 1 error: error retrieving asset %q (%s)", name, why)}}
}

// guard is a reader that is no *os.File and has no other methods.
type guard struct{ r io.Reader }

func (g *guard) Read(p []byte) (int, error) { return g.r.Read(p) }
