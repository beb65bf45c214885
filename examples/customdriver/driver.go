package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// audited is a driver of our own: it embeds another and writes down what was run where. Everything it does not mention is
// the embedded driver's, and Unwrap lets callers find that one's extras (console, in-place files, reset).
type audited struct {
	zones.Driver
	log io.Writer
}

func (a audited) Unwrap() zones.Driver { return a.Driver }

func (a audited) Start(ctx context.Context, m zones.Machine) (zones.Handle, error) {
	begin := time.Now()
	h, err := a.Driver.Start(ctx, m)
	fmt.Fprintf(a.log, "start %s with %d MiB: %v in %v\n", m.ID, m.Limits.Memory>>20, outcome(err), time.Since(begin).Round(time.Millisecond))
	return h, err
}

func (a audited) Exec(ctx context.Context, id string, req zones.ExecRequest) (zones.Process, error) {
	p, err := a.Driver.Exec(ctx, id, req)
	fmt.Fprintf(a.log, "exec %q in %s as %d: %v\n", req.Args, id, req.User.UID, outcome(err))
	return p, err
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "ok"
}
