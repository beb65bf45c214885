package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/storage"
)

// How many faults in a row make a node down: of one that cannot be reached, and of one that answers with faults of its own. Not the first, for a node
// that is merely busy turns single calls away.
const (
	toleratedUnreachable = 2
	tolerated            = 3
)

// Observe implements [durable.Nodes]. A node that could not be reached is asked at once whether it lives, and is down if it does not answer or the next call
// fails too; one that answers with faults of its own is down after a few in a row. What is down is probed until it answers, by Run.
func (f *Fleet) Observe(id string, fault error) {
	if fault == nil {
		// This is every successful call: do not take turns for nothing.
		f.mu.RLock()
		n := f.nodes[id]
		fine := n == nil || n.streak == 0 && n.down == ""
		f.mu.RUnlock()
		if fine {
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[id]
	if n == nil {
		return
	}
	now := time.Now()
	if fault == nil {
		n.streak = 0
		if n.down != "" {
			f.up(id, n) // placement remembers the failures for a while
		}
		return
	}
	n.streak++
	n.failures = n.recentFailures(now) + 1
	n.lastFault = now
	f.dirty = true
	n.fault = fault
	unreachable := errors.Is(fault, storage.ErrUnavailable) || errors.Is(fault, storage.ErrClosed)
	switch {
	case n.down != "":
	case n.streak >= tolerated || unreachable && n.streak >= toleratedUnreachable:
		f.goDown(id, n)
	case unreachable:
		f.probe(n)
	}
}

// goDown takes a node out of service. The caller holds the lock.
func (f *Fleet) goDown(id string, n *node) {
	n.down, n.since = n.fault.Error(), time.Now()
	f.stale = true
	f.log.Warn("storage node is down", "node", id, "err", n.fault)
	f.probe(n)
}

// up ends a node's being down. The caller holds the lock.
func (f *Fleet) up(id string, n *node) {
	f.log.Info("storage node is back", "node", id, "down_for", time.Since(n.since))
	n.down, n.streak = "", 0
	f.stale = true
}

// failureMemory is after how long a failure has half its weight.
const failureMemory = time.Minute

func (n *node) recentFailures(now time.Time) int {
	return n.failures >> min(uint(now.Sub(n.lastFault)/failureMemory), 31)
}

// probe asks Run to look after a node that is down or may be. The caller holds the lock. If Run is busy, the node's next fault or report will do it.
func (f *Fleet) probe(n *node) {
	if n.probing {
		select {
		case n.sign <- struct{}{}: // do not wait for the next turn
		default:
		}
		return
	}
	select {
	case f.probes <- n:
		n.probing = true
	default:
	}
}

// runProbes looks after those nodes until ctx ends.
func (f *Fleet) runProbes(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case n := <-f.probes:
			all.Go(func() { f.probeUntilUp(ctx, n) })
		case <-ctx.Done():
			return
		}
	}
}

// probeUntilUp asks a node again and again, ever more slowly, until it answers or has been taken from the fleet.
func (f *Fleet) probeUntilUp(ctx context.Context, n *node) {
	delay := backoff.NewExponentialBackOff(backoff.WithInitialInterval(f.cfg.ProbeMin), backoff.WithMaxInterval(f.cfg.ProbeMax),
		backoff.WithMaxElapsedTime(0))
	defer func() {
		f.mu.Lock()
		n.probing = false
		f.mu.Unlock()
	}()
	f.mu.RLock()
	id, suspect := n.report.Node, n.down == ""
	f.mu.RUnlock()
	for {
		if !suspect {
			timer := time.NewTimer(delay.NextBackOff())
			select {
			case <-timer.C:
			case <-n.sign:
				// A sign of life, perhaps from another address: ask now, and if that is in vain, begin with short delays again.
				timer.Stop()
				delay.Reset()
			case <-ctx.Done():
				timer.Stop()
				return
			}
		}
		answers := f.answers(ctx, id)
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		known := f.nodes[id] == n
		switch {
		case known && answers && n.down != "":
			f.up(id, n)
		case known && !answers && n.down == "" && suspect:
			f.goDown(id, n)
		}
		over := !known || n.down == ""
		f.mu.Unlock()
		if over {
			return
		}
		suspect = false
	}
}

// answers asks a node for its usage.
func (f *Fleet) answers(ctx context.Context, id string) bool {
	node, err := f.Node(id)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.ProbeTimeout)
	defer cancel()
	usage, err := node.Usage(ctx)
	if err != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[id]; n != nil {
		n.report.Usage = usage
		f.dirty = true
	}
	return true
}
