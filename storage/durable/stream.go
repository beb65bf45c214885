package durable

import (
	"context"
	"crypto/md5"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/picker"
)

// stream is a body that goes to all copies while it comes. The caller fills a chunk; when it is full, every replica and the summing
// goroutine get it at once; when the last of them is through with it, it comes back to be filled again. A stream owns at least
// minChunks and takes more while half of the budget is free, so a fast client runs ahead of slow disks by a bounded distance.
type stream struct {
	s        *Store
	ctx      context.Context
	stop     context.CancelCauseFunc
	places   *places
	replicas []*replica

	cur     *chunk
	hashing chan *chunk
	hashed  chan struct{} // closed when sums is set
	sums    storage.Sums
	ended   bool          // no more chunks will be sent
	ready   chan struct{} // closed to let the replicas commit
	running sync.WaitGroup

	mu       sync.Mutex
	free     []*chunk
	owned    int           // chunks, free or not
	reserved int           // chunks paid for from the budget, at least owned
	over     bool          // returned chunks go back to the pool
	wake     chan struct{} // a chunk came back
}

// minChunks lets a replica keep the first chunk, to start again on another node, while the second is under way.
const minChunks = 2

func (s *Store) newStream(ctx context.Context, p *places, size int64) (*stream, error) {
	if !s.budget.take(minChunks * ChunkSize) {
		s.met.busy.Add(1)
		return nil, fmt.Errorf("%w: put %s", ErrBusy, p.id)
	}
	st := &stream{s: s, places: p, reserved: minChunks, wake: make(chan struct{}, 1),
		hashed: make(chan struct{}), ready: make(chan struct{})}
	st.ctx, st.stop = context.WithCancelCause(ctx)
	if err := st.connect(size); err != nil {
		st.stop(err)
		s.budget.give(minChunks * ChunkSize)
		return nil, err
	}
	// No send may ever block: the channels have room for all the chunks there can be.
	room := int(s.cfg.MaxPerUpload / ChunkSize)
	st.hashing = make(chan *chunk, room)
	s.task(st.hash)
	for _, r := range st.replicas {
		r.in = make(chan *chunk, room)
		st.running.Add(1)
		s.task(r.run)
	}
	return st, nil
}

// connect gets the agreement of as many nodes as there are copies: all of the first alternative, or else all of the second, and so
// on; when none is left, another choice is made without the nodes that failed.
func (st *stream) connect(size int64) error {
	p := st.places
	if p.fixed {
		if !st.tryAll(p.sharks, size) {
			return p.refusal(st.ctx, nil)
		}
		return nil
	}
	for {
		tuples, err := p.choose(st.ctx)
		if err != nil {
			return err
		}
		for _, t := range tuples {
			if slices.ContainsFunc(t, func(s storage.Shark) bool { return slices.Contains(p.failed, s.Node) }) {
				continue
			}
			if st.tryAll(t, size) {
				return nil
			}
			if st.ctx.Err() != nil {
				return context.Cause(st.ctx)
			}
		}
	}
}

// tryAll asks all nodes of a tuple at once. Unless all agree, those that did are released again.
func (st *stream) tryAll(tuple picker.Tuple, size int64) bool {
	replicas := make([]*replica, len(tuple))
	errs := make([]error, len(tuple))
	var asking sync.WaitGroup
	for i, shark := range tuple {
		replicas[i] = &replica{st: st, i: i, size: size}
		if i == len(tuple)-1 {
			errs[i] = replicas[i].open(shark)
			break
		}
		asking.Go(func() { errs[i] = replicas[i].open(shark) })
	}
	asking.Wait()
	ok := true
	for i, err := range errs {
		if err != nil {
			st.places.fail(tuple[i].Node, err)
			ok = false
		}
	}
	if !ok {
		for _, r := range replicas {
			r.drop()
		}
		return false
	}
	st.places.sharks = slices.Clone(tuple)
	st.replicas = replicas
	return true
}

// hash sums the body beside the copies.
func (st *stream) hash() {
	sum := md5.New()
	for c := range st.hashing {
		if st.ctx.Err() == nil {
			sum.Write(c.data)
			st.sums.CRC32C = crc32.Update(st.sums.CRC32C, castagnoli, c.data)
			st.sums.Size += int64(len(c.data))
		}
		st.release(c)
	}
	sum.Sum(st.sums.MD5[:0])
	close(st.hashed)
}

func (st *stream) space() ([]byte, error) {
	if st.ctx.Err() != nil {
		return nil, context.Cause(st.ctx)
	}
	if st.cur != nil && len(st.cur.data) == cap(st.cur.data) {
		st.send()
	}
	for st.cur == nil {
		if st.cur = st.take(); st.cur != nil {
			break
		}
		select {
		case <-st.wake:
		case <-st.ctx.Done():
			return nil, context.Cause(st.ctx)
		}
	}
	return st.cur.data[len(st.cur.data):cap(st.cur.data)], nil
}

func (st *stream) filled(n int) { st.cur.data = st.cur.data[:len(st.cur.data)+n] }

// take returns a free chunk, a new one if there may be more, or nil.
func (st *stream) take() *chunk {
	st.mu.Lock()
	defer st.mu.Unlock()
	if n := len(st.free); n > 0 {
		c := st.free[n-1]
		st.free = st.free[:n-1]
		c.data = c.data[:0]
		return c
	}
	if st.owned == st.reserved {
		if int64(st.reserved+1)*ChunkSize > st.s.cfg.MaxPerUpload || !st.s.budget.takeExtra(ChunkSize) {
			return nil
		}
		st.reserved++
	}
	st.owned++
	return newChunk()
}

// send hands the current chunk to everyone.
func (st *stream) send() {
	c := st.cur
	st.cur = nil
	c.refs.Store(int32(len(st.replicas) + 1))
	st.hashing <- c
	for _, r := range st.replicas {
		r.in <- c
	}
}

// release says that one holder is through with the chunk.
func (st *stream) release(c *chunk) {
	if c.refs.Add(-1) > 0 {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over {
		st.dispose(c)
		return
	}
	st.free = append(st.free, c)
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// dispose returns a chunk to the pool and its bytes to the budget. The caller holds the lock.
func (st *stream) dispose(c *chunk) {
	chunks.Put(c)
	st.owned--
	st.reserved--
	st.s.budget.give(ChunkSize)
}

// end closes the way to the replicas.
func (st *stream) end() {
	if !st.ended {
		st.ended = true
		close(st.hashing)
		for _, r := range st.replicas {
			close(r.in)
		}
	}
}

func (st *stream) finish() (storage.Sums, error) {
	if st.cur != nil {
		st.send()
	}
	st.end()
	<-st.hashed
	if st.ctx.Err() != nil {
		return storage.Sums{}, context.Cause(st.ctx)
	}
	return st.sums, nil
}

func (st *stream) commit(ctx context.Context) ([]storage.Shark, error) {
	defer context.AfterFunc(ctx, func() { st.stop(context.Cause(ctx)) })()
	close(st.ready)
	st.running.Wait()
	var failed error
	for _, r := range st.replicas {
		if !r.committed {
			failed = context.Cause(st.ctx)
		}
	}
	good := st.places.current()
	for i, r := range st.replicas {
		for _, shark := range r.tried {
			if failed != nil || shark != good[i] {
				st.places.discard(st.ctx, shark)
			}
		}
	}
	return good, failed
}

func (st *stream) cancel() {
	st.stop(context.Canceled)
	st.end()
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.over {
		return
	}
	st.over = true
	if st.cur != nil {
		st.free = append(st.free, st.cur)
		st.cur = nil
	}
	for _, c := range st.free {
		st.dispose(c)
	}
	st.free = nil
	// What was reserved but never used; chunks still on their way pay for themselves.
	st.s.budget.give(int64(st.reserved-st.owned) * ChunkSize)
	st.reserved = st.owned
}
