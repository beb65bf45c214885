package limits

import (
	"sync"
	"sync/atomic"

	"github.com/opencontainers/cgroups"
)

// first is about the first Set of this process: the cgroups package finds out then, in variables of its own and without a lock, how this host names its files.
var first struct {
	mu   sync.Mutex
	done atomic.Bool
}

// Set is m.Set, which may be called by several goroutines at once.
func Set(m cgroups.Manager, r *cgroups.Resources) error {
	if first.done.Load() {
		return m.Set(r)
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	err := m.Set(r)
	if err == nil { // otherwise it may not have come that far
		first.done.Store(true)
	}
	return err
}
