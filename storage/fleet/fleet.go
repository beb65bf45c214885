package fleet

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/picker"
)

// Config describes a Fleet. Store and Dial are required.
type Config struct {
	// Store holds the records; a Registry must have defined its buckets.
	Store metastore.Store

	// Dial returns the node of a report: one in this process, or a client for its address. It must not block; the Fleet
	// calls it once for each address of a node and closes what it returned, if that is an io.Closer, when the
	// address changes or the Fleet ends.
	Dial func(Report) (storage.Node, error)

	// Policy of placement.
	Policy picker.Config

	// ProbeMin and ProbeMax bound the delay between questions to a node that is down; 0 means 500 ms and 15 s.
	ProbeMin, ProbeMax time.Duration

	// ProbeTimeout is how long such a question may take; 0 means 2 s.
	ProbeTimeout time.Duration

	// Rand decides choices; nil means a fresh random source. The Fleet guards it.
	Rand *rand.Rand

	// Logger; nil discards.
	Logger *slog.Logger
}

// A Fleet is the storage nodes as one process sees them. It is the [durable.Nodes] of a cloud. Before Run has read the records it
// knows no node.
type Fleet struct {
	cfg    Config
	log    *slog.Logger
	ready  chan struct{}
	probes chan *node // nodes that went down

	mu      sync.RWMutex
	heard   chan struct{} // closed and replaced when a report or a state has been taken up
	nodes   map[string]*node
	members map[string]Member
	dirty   bool // records have changed since view was made
	stale   bool // view must not be used once more
	view    *picker.View
	viewed  time.Time

	randMu sync.Mutex
	rand   *rand.Rand
}

var _ durable.Nodes = (*Fleet)(nil)

// node is what the Fleet knows of one node beyond the record. The Fleet's mutex guards it.
type node struct {
	report   Report
	reported time.Time
	dialled  storage.Node
	address  string // to which dialled leads

	down      string // why it is down, "" when up
	since     time.Time
	probing   bool
	sign      chan struct{} // of life, while it is probed
	streak    int           // faults since the last success
	failures  int           // as of lastFault; see recentFailures
	lastFault time.Time
	fault     error // the last
}

// New checks the configuration and returns a Fleet that knows no nodes until Run.
func New(cfg Config) (*Fleet, error) {
	if cfg.Store == nil || cfg.Dial == nil || cfg.ProbeMin < 0 || cfg.ProbeMax < 0 || cfg.ProbeTimeout < 0 {
		return nil, fmt.Errorf("%w: fleet: want a store, a dialer and no negative durations", storage.ErrInvalid)
	}
	if _, err := picker.NewView(cfg.Policy, time.Time{}, nil); err != nil {
		return nil, err
	}
	cfg.ProbeMin = cmp.Or(cfg.ProbeMin, 500*time.Millisecond)
	cfg.ProbeMax = max(cmp.Or(cfg.ProbeMax, 15*time.Second), cfg.ProbeMin)
	cfg.ProbeTimeout = cmp.Or(cfg.ProbeTimeout, 2*time.Second)
	f := &Fleet{cfg: cfg, log: cfg.Logger, rand: cfg.Rand, ready: make(chan struct{}), heard: make(chan struct{}), probes: make(chan *node, 64),
		nodes: map[string]*node{}, members: map[string]Member{}}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.rand == nil {
		var seed [16]byte
		crand.Read(seed[:])
		f.rand = rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])))
	}
	return f, nil
}

// Ready is closed when Run has read all records for the first time.
func (f *Fleet) Ready() <-chan struct{} { return f.ready }

// WaitReport waits until the Fleet has taken up a report that the Registry received from the node at since or later, or until ctx ends. A process that
// has just registered its own nodes uses it to be sure that it can write to them.
func (f *Fleet) WaitReport(ctx context.Context, id string, since time.Time) error {
	since = since.Truncate(time.Millisecond) // as records keep it
	for {
		f.mu.RLock()
		n, heard := f.nodes[id], f.heard
		known := n != nil && !n.reported.Before(since)
		f.mu.RUnlock()
		if known {
			return nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return fmt.Errorf("wait for storage node %s: %w", id, context.Cause(ctx))
		}
	}
}

// WaitState waits until the Fleet goes by a state of a node that the Registry was given, or until ctx ends.
func (f *Fleet) WaitState(ctx context.Context, id string, state State) error {
	for {
		f.mu.RLock()
		m, there := f.members[id]
		heard := f.heard
		f.mu.RUnlock()
		if there && m.State == state {
			return nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return fmt.Errorf("wait for storage node %s to be %s: %w", id, state, context.Cause(ctx))
		}
	}
}

// Changed returns a channel that is closed when the Fleet next takes up a report or a state.
func (f *Fleet) Changed() <-chan struct{} {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.heard
}

// Removed returns the nodes that were taken out for good.
func (f *Fleet) Removed() (ids []string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for id, m := range f.members {
		if m.State == Removed {
			ids = append(ids, id)
		}
	}
	return ids
}

// Choose implements [durable.Nodes].
func (f *Fleet) Choose(req picker.Request) ([]picker.Tuple, error) {
	view, err := f.current()
	if err != nil {
		return nil, err
	}
	f.randMu.Lock()
	defer f.randMu.Unlock()
	return view.Choose(req, f.rand)
}

// Explain says of each node whether it would be chosen, and why not.
func (f *Fleet) Explain(req picker.Request) ([]picker.Verdict, error) {
	view, err := f.current()
	if err != nil {
		return nil, err
	}
	return view.Explain(req), nil
}

// How long a view is used. Reports alone, of which a large fleet brings hundreds a second, are taken up with a delay; a node that went down or
// changed state is heeded at once.
const (
	viewDelay  = 250 * time.Millisecond
	viewMaxAge = 5 * time.Second
)

// current returns a view for choosing.
func (f *Fleet) current() (*picker.View, error) {
	now := time.Now()
	f.mu.RLock()
	view, ok := f.view, f.fresh(now)
	f.mu.RUnlock()
	if ok {
		return view, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fresh(now) {
		return f.view, nil
	}
	reports := make([]picker.Report, 0, len(f.nodes))
	for id, n := range f.nodes {
		u := n.report.Usage
		r := picker.Report{
			Shark:     storage.Shark{Datacenter: n.report.Datacenter, Node: id},
			Available: u.Available, PercentUsed: u.PercentUsed(), Time: n.reported, ReadOnly: u.ReadOnly,
			Down: n.down, Failures: n.recentFailures(now),
		}
		if m := f.members[id]; m.State != "" && m.State != Running {
			r.Retired = string(m.State)
		}
		reports = append(reports, r)
	}
	view, err := picker.NewView(f.cfg.Policy, now, reports)
	if err != nil {
		return nil, err
	}
	f.view, f.viewed, f.dirty, f.stale = view, now, false, false
	return view, nil
}

func (f *Fleet) fresh(now time.Time) bool {
	age := now.Sub(f.viewed)
	return f.view != nil && !f.stale && age < viewMaxAge && (!f.dirty || age < viewDelay)
}

// Node implements [durable.Nodes].
func (f *Fleet) Node(id string) (storage.Node, error) {
	f.mu.RLock()
	n := f.nodes[id]
	var dialled storage.Node
	if n != nil {
		dialled = n.dialled
	}
	removed := f.members[id].State == Removed
	f.mu.RUnlock()
	switch {
	case removed:
		return nil, fmt.Errorf("%w: %s has been removed", storage.ErrUnavailable, id)
	case n == nil:
		return nil, fmt.Errorf("%w: %.80s has not reported", storage.ErrUnavailable, id)
	case dialled != nil:
		return dialled, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.dialled == nil {
		d, err := f.cfg.Dial(n.report)
		if err != nil {
			return nil, fmt.Errorf("%w: dial %s: %w", storage.ErrUnavailable, id, err)
		}
		n.dialled, n.address = d, n.report.Address
	}
	return n.dialled, nil
}

// Standing implements [durable.Nodes]. A node that is not known is down, not lost: it may only not have been read yet.
func (f *Fleet) Standing(id string) durable.Standing {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if s := f.members[id].State; s == Lost || s == Removed {
		return durable.Lost
	}
	if n := f.nodes[id]; n == nil || n.down != "" {
		return durable.Down
	}
	return durable.Up
}

// A Status is one node as the Fleet sees it.
type Status struct {
	Node
	Down      string    // why it does not answer, "" when it does
	DownSince time.Time // zero when it answers
	Failures  int       // failed calls of late
}

// Nodes returns the status of all nodes that have reported and were not removed, by id.
func (f *Fleet) Nodes() []Status {
	now := time.Now()
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := make([]Status, 0, len(f.nodes))
	for id, n := range f.nodes {
		s := Status{Node: Node{Report: n.report, Reported: n.reported, Member: f.members[id]}, Down: n.down, Failures: n.recentFailures(now)}
		if n.down != "" {
			s.DownSince = n.since
		}
		if s.Member.State == "" {
			s.Member = Member{Node: id, State: Running}
		}
		if s.Member.State != Removed {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Report.Node, b.Report.Node) })
	return all
}

// closeNode ends a connection, if there is something to end.
func closeNode(n storage.Node) {
	if c, ok := n.(io.Closer); ok {
		c.Close()
	}
}
