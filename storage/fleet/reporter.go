package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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

	mu      sync.Mutex
	damaged map[storage.ObjectID]bool // not yet reported
	wake    chan struct{}
}

// DefaultInterval is how often nodes report.
const DefaultInterval = 30 * time.Second

// maxWaiting bounds the damaged objects that wait to be reported. What is beyond it is found by a read or by the audit.
const maxWaiting = 100 * MaxDamaged

// Damaged takes note of a copy that the node found damaged by itself, for a report that Run sends at once. It does not block.
func (r *Reporter) Damaged(id storage.ObjectID) {
	r.mu.Lock()
	if r.damaged == nil {
		r.damaged = map[storage.ObjectID]bool{}
	}
	if len(r.damaged) < maxWaiting {
		r.damaged[id] = true
	}
	r.mu.Unlock()
	select {
	case r.woken() <- struct{}{}:
	default:
	}
}

func (r *Reporter) woken() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake == nil {
		r.wake = make(chan struct{}, 1)
	}
	return r.wake
}

// some returns damaged objects for one report, and whether there are more.
func (r *Reporter) some() (ids []storage.ObjectID, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.damaged {
		if len(ids) == MaxDamaged {
			return ids, true
		}
		ids = append(ids, id)
	}
	return ids, false
}

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
	for {
		ids, more := r.some()
		report.Damaged = nil
		for _, id := range ids {
			report.Damaged = append(report.Damaged, id.String())
		}
		if err := r.Registrar.Report(ctx, report); err != nil {
			return err
		}
		r.mu.Lock()
		for _, id := range ids {
			delete(r.damaged, id)
		}
		r.mu.Unlock()
		if !more {
			return nil
		}
	}
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
		wait, damage := interval, r.woken()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrRemoved), errors.Is(err, storage.ErrInvalid):
			return err
		case err != nil:
			log.WarnContext(ctx, "report failed", "node", r.Identity.Node, "err", err)
			wait, damage = retry.NextBackOff(), nil
		default:
			retry.Reset()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-damage:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
