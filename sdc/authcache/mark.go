package authcache

import (
	"context"
	"sync"
)

// marks wakes those who wait for the cache to have followed the directory up to a mark.
type marks struct {
	mu      sync.Mutex
	reached int64
	moved   chan struct{} // closed and replaced when reached grows
}

func (m *marks) reach(mark int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mark <= m.reached {
		return
	}
	m.reached = mark
	if m.moved != nil {
		close(m.moved)
		m.moved = nil
	}
}

func (m *marks) wait(mark int64) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reached >= mark {
		return nil
	}
	if m.moved == nil {
		m.moved = make(chan struct{})
	}
	return m.moved
}

// WaitMark waits until the cache answers by every change that was made before a mark of sdc/ufds's Directory.Mark. It lets whoever changes the directory
// say that a change is in force, here; other processes follow on their own.
func (c *Cache) WaitMark(ctx context.Context, mark int64) error {
	for {
		moved := c.marks.wait(mark)
		if moved == nil {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
