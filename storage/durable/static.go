package durable

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/picker"
)

// Static is a fixed set of nodes: [Nodes] for programs that know theirs, and for tests. A cloud uses storage/fleet.
//
// A node that fails a call is not chosen again until it has answered one, or Refresh has reached it.
type Static struct {
	policy picker.Config
	nodes  map[string]storage.Node

	mu      sync.Mutex
	reports map[string]picker.Report
	view    *picker.View // nil when reports have changed
	rng     *rand.Rand
}

// OpenStatic asks the nodes for their usage. One that does not answer is down until a later Refresh; it fails only when the set itself makes no sense
// or ctx ends.
func OpenStatic(ctx context.Context, policy picker.Config, nodes map[storage.Shark]storage.Node) (*Static, error) {
	var seed [16]byte
	crand.Read(seed[:])
	f := &Static{policy: policy, nodes: map[string]storage.Node{}, reports: map[string]picker.Report{},
		rng: rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])))}
	for shark, node := range nodes {
		if shark.Node == "" || node == nil || f.nodes[shark.Node] != nil {
			return nil, fmt.Errorf("%w: durable: node %q is nameless, nil or given twice", storage.ErrInvalid, shark.Node)
		}
		f.nodes[shark.Node] = node
		f.reports[shark.Node] = picker.Report{Shark: shark, Down: "not yet heard of"}
	}
	if _, err := picker.NewView(policy, time.Now(), nil); err != nil {
		return nil, err
	}
	f.Refresh(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return f, nil
}

// Refresh asks every node for its usage, at once, and returns what those that did not answer said.
func (f *Static) Refresh(ctx context.Context) error {
	var calls sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for name, node := range f.nodes {
		calls.Go(func() {
			usage, err := node.Usage(ctx)
			f.update(name, func(r *picker.Report) {
				r.Time, r.Down, r.Failures = time.Now(), "", 0
				if err != nil {
					r.Down = err.Error()
					return
				}
				r.Available, r.PercentUsed, r.ReadOnly = usage.Available, usage.PercentUsed(), usage.ReadOnly
			})
			if err != nil {
				mu.Lock()
				errs = append(errs, &NodeError{Op: "usage", Node: name, Err: err})
				mu.Unlock()
			}
		})
	}
	calls.Wait()
	return errors.Join(errs...)
}

func (f *Static) update(name string, change func(*picker.Report)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.reports[name]; ok {
		change(&r)
		f.reports[name] = r
		f.view = nil
	}
}

// Choose implements [Nodes]. Reports do not age: they are as old as the last Refresh.
func (f *Static) Choose(req picker.Request) ([]picker.Tuple, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.view == nil {
		now := time.Now()
		var reports []picker.Report
		for _, r := range f.reports {
			r.Time = now
			reports = append(reports, r)
		}
		view, err := picker.NewView(f.policy, now, reports)
		if err != nil {
			return nil, err
		}
		f.view = view
	}
	return f.view.Choose(req, f.rng)
}

// Node implements [Nodes].
func (f *Static) Node(name string) (storage.Node, error) {
	if node := f.nodes[name]; node != nil {
		return node, nil
	}
	return nil, fmt.Errorf("%w: no node is called %.80q", storage.ErrUnavailable, name)
}

// Standing implements [Nodes].
func (f *Static) Standing(name string) Standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.reports[name]
	switch {
	case ok && r.Retired == lostWord:
		return Lost
	case !ok || r.Down != "":
		return Down
	}
	return Up
}

// Observe implements [Nodes].
func (f *Static) Observe(name string, fault error) {
	f.mu.Lock()
	r, ok := f.reports[name]
	f.mu.Unlock()
	if !ok || fault == nil && r.Down == "" {
		return
	}
	f.update(name, func(r *picker.Report) {
		r.Down = ""
		if fault != nil {
			r.Down = fault.Error()
		}
	})
}

const lostWord = "lost"

// SetLost gives a node up, or takes that back. An unknown name changes nothing.
func (f *Static) SetLost(name string, lost bool) {
	f.update(name, func(r *picker.Report) {
		r.Retired = ""
		if lost {
			r.Retired = lostWord
		}
	})
}
