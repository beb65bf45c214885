package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/storage"
)

// A Reporter tells a Registrar of one node, over and over. Node, Registrar and Identity are required.
type Reporter struct {
	Node      storage.Node
	Registrar Registrar

	// Identity is the report but for its usage.
	Identity Report

	// Interval between reports; 0 means 30 s, as in the original.
	Interval time.Duration

	// Logger; nil discards.
	Logger *slog.Logger
}

// DefaultInterval is how often nodes report.
const DefaultInterval = 30 * time.Second

// RunOnce asks the node for its usage and reports it. A node that cannot tell is reported as read-only with its error as the reason,
// so that it is seen to live but gets no new copies.
func (r *Reporter) RunOnce(ctx context.Context) error {
	report := r.Identity
	usage, err := r.Node.Usage(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		reason := fmt.Sprintf("usage: %v", err)
		usage = storage.Usage{ReadOnly: reason[:min(len(reason), maxText)]}
	}
	report.Usage = usage
	return r.Registrar.Report(ctx, report)
}

// Run reports at once and then at every interval until ctx ends, whose error it returns. While a report fails it is repeated sooner.
// [ErrRemoved] and [storage.ErrInvalid] end it.
func (r *Reporter) Run(ctx context.Context) error {
	interval, log := r.Interval, r.Logger
	if interval <= 0 {
		interval = DefaultInterval
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(min(time.Second, interval)),
		backoff.WithMaxInterval(interval), backoff.WithMaxElapsedTime(0))
	for {
		// One report that hangs must not stop the others.
		once, cancel := context.WithTimeout(ctx, interval)
		err := r.RunOnce(once)
		cancel()
		wait := interval
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrRemoved), errors.Is(err, storage.ErrInvalid):
			return err
		case err != nil:
			log.WarnContext(ctx, "report failed", "node", r.Identity.Node, "err", err)
			wait = retry.NextBackOff()
		default:
			retry.Reset()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
