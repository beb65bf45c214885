package jobapi

import "sync"

// maxWaiting is how many bytes of input wait to be stored before no more are read.
const maxWaiting = 256 << 10

// A queue holds input between the reader of a body and the writer of records.
type queue struct {
	mu      sync.Mutex
	changed *sync.Cond
	paths   []string
	size    int
	ended   bool
	err     error
}

func newQueue() *queue {
	q := &queue{}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// add puts input at the end, and waits while there is too much. It returns the error of fail.
func (q *queue) add(paths []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.size >= maxWaiting && q.err == nil {
		q.changed.Wait()
	}
	if q.err != nil {
		return q.err
	}
	q.paths = append(q.paths, paths...)
	for _, p := range paths {
		q.size += len(p) + 16 // for what holds it
	}
	q.changed.Broadcast()
	return nil
}

// take waits for input and returns all that there is; nil after the end, and after an error.
func (q *queue) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.paths) == 0 && !q.ended && q.err == nil {
		q.changed.Wait()
	}
	if q.err != nil {
		return nil
	}
	paths := q.paths
	q.paths, q.size = nil, 0
	q.changed.Broadcast()
	return paths
}

// fail ends the queue with an error; nothing more is taken.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	q.changed.Broadcast()
}

// end says that nothing more will be added, and returns the error of fail.
func (q *queue) end() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.changed.Broadcast()
	return q.err
}
