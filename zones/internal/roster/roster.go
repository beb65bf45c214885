// Package roster keeps, for a driver, the machines that this process has, and whose turn it is with each.
//
// A start, a recovery and an end take an id with [Roster.Claim] and give it back with [Roster.Settle]; meanwhile it is busy to everybody else.
// Other verbs find a machine with [Roster.Find] or [Roster.Running]. Errors are those that zones.Driver promises.
//
// Stability: internal.
package roster

import (
	"sync"

	"github.com/mobulacloud/mobula/zones"
)

// Member is a machine; a pointer, whose nil is nobody.
type Member interface {
	comparable
	// Ended is closed when the machine has ended.
	Ended() <-chan struct{}
	// Release lets go of what the process holds of the machine, which runs on.
	Release()
}

// Roster is a driver's machines. Its methods may be called from several goroutines.
type Roster[M Member] struct {
	mu      sync.Mutex
	members map[string]M // nil while somebody has claimed it
	closed  bool
}

// New makes an empty roster.
func New[M Member]() *Roster[M] { return &Roster[M]{members: map[string]M{}} }

// Find gets a machine that runs or has ended: zones.ErrBusy if it is claimed, zones.ErrNotExist if there is none.
func (r *Roster[M]) Find(op, id string) (M, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var nobody M
	m, known := r.members[id]
	switch {
	case r.closed:
		return nobody, zones.OpError(op, id, zones.ErrClosed)
	case m != nobody:
		return m, nil
	case known:
		return nobody, zones.OpError(op, id, zones.ErrBusy)
	}
	return nobody, zones.OpError(op, id, zones.ErrNotExist)
}

// Running is Find for a machine that runs: zones.ErrNotRunning if it has ended.
func (r *Roster[M]) Running(op, id string) (M, error) {
	m, err := r.Find(op, id)
	if err != nil {
		return m, err
	}
	select {
	case <-m.Ended():
		var nobody M
		return nobody, zones.OpError(op, id, zones.ErrNotRunning)
	default:
		return m, nil
	}
}

// Claim takes an id, so that nothing else is done with it until Settle, and gives the machine that has it, or nobody. One that is claimed is
// zones.ErrBusy; if it is to be fresh, one that is known is zones.ErrExist.
func (r *Roster[M]) Claim(op, id string, fresh bool) (M, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var nobody M
	m, known := r.members[id]
	switch {
	case r.closed:
		return nobody, zones.OpError(op, id, zones.ErrClosed)
	case known && m == nobody:
		return nobody, zones.OpError(op, id, zones.ErrBusy)
	case fresh && known:
		return nobody, zones.OpError(op, id, zones.ErrExist)
	}
	r.members[id] = nobody
	return m, nil
}

// Settle gives a claimed id to a machine, or to nobody. If the roster was closed meanwhile the machine is released.
func (r *Roster[M]) Settle(id string, m M) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var nobody M
	switch {
	case m == nobody:
		delete(r.members, id)
	case r.closed:
		delete(r.members, id)
		m.Release()
	default:
		r.members[id] = m
	}
}

// Close releases all machines. From then on everything is zones.ErrClosed.
func (r *Roster[M]) Close() {
	r.mu.Lock()
	r.closed = true
	members := r.members
	r.members = map[string]M{}
	r.mu.Unlock()
	var nobody M
	for _, m := range members {
		if m != nobody {
			m.Release()
		}
	}
}
