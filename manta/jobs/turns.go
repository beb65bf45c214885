package jobs

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// turns lets the goroutines of this process write to one job one after another. Those of other processes are told by conditions of the store; this only
// saves vain attempts. The zero value is ready for use.
type turns struct {
	mu   sync.Mutex
	jobs map[string]*turn
}

type turn struct {
	free  chan struct{} // holds a token while nobody has the turn
	users int
}

// take waits for a job's turn.
func (t *turns) take(ctx context.Context, id string) (leave func(), err error) {
	t.mu.Lock()
	if t.jobs == nil {
		t.jobs = map[string]*turn{}
	}
	x := t.jobs[id]
	if x == nil {
		x = &turn{free: make(chan struct{}, 1)}
		x.free <- struct{}{}
		t.jobs[id] = x
	}
	x.users++
	t.mu.Unlock()
	forget := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if x.users--; x.users == 0 {
			delete(t.jobs, id)
		}
	}
	select {
	case <-x.free:
		return func() { x.free <- struct{}{}; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// pause comes before another attempt after a conflict with another process: nothing at first, then longer, at random.
func pause(ctx context.Context, try int) error {
	if try < 2 {
		return ctx.Err()
	}
	timer := time.NewTimer(rand.N(time.Millisecond << min(try, 6)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
