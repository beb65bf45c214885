package objfile

import (
	"sync"

	"github.com/mobulacloud/mobula/storage"
)

// door counts who is inside.
type door struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{}
}

func (d *door) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return storage.ErrClosed
	}
	d.inside++
	return nil
}

func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside--; d.inside == 0 && d.closed {
		close(d.empty)
	}
}

// close lets nobody in any more, and reports whether it was open.
func (d *door) close() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.closed, d.empty = true, make(chan struct{})
	if d.inside == 0 {
		close(d.empty)
	}
	return true
}

func (d *door) wait() { <-d.empty }
