package durable

import (
	"context"

	"github.com/mobulacloud/mobula/storage"
)

// replica writes one copy of a stream. Only its own goroutine touches it after connect.
type replica struct {
	st   *stream
	i    int   // which copy
	size int64 // as announced
	in   chan *chunk

	shark storage.Shark
	w     storage.Writer
	guard *guard

	// first is the body's first chunk, kept as long as the node has nothing that is not in it: until then another node can take
	// over.
	first     *chunk
	sent      bool            // a chunk has come
	tried     []storage.Shark // nodes that were asked to commit
	committed bool
}

// open asks a node to take the object.
func (r *replica) open(shark storage.Shark) error {
	s := r.st.s
	r.shark = shark
	r.guard = newGuard(r.st.ctx)
	node, err := s.nodes.Node(shark.Node)
	if err == nil {
		r.guard.start(s.cfg.CreateTimeout)
		r.w, err = node.Create(r.guard.ctx, r.st.places.id, storage.CreateOptions{Size: r.size})
		err = r.guard.stop(err)
	}
	s.observe(r.guard.ctx, shark.Node, err)
	if err != nil {
		r.w = nil
		r.guard.end()
		return &NodeError{Op: "create", Node: shark.Node, Err: err}
	}
	return nil
}

// drop cancels the copy on the present node.
func (r *replica) drop() {
	if r.w != nil {
		r.w.Cancel()
		r.w = nil
	}
	r.guard.end()
}

// run writes what comes and commits when told to.
func (r *replica) run() {
	defer r.st.running.Done()
	for c, n := (*chunk)(nil), 0; ; n++ {
		var more bool
		if c, more = <-r.in; !more {
			break
		}
		r.take(c, n)
	}
	if r.first != nil {
		defer func() { r.st.release(r.first) }()
	}
	defer r.drop()
	select {
	case <-r.st.ready:
	case <-r.st.ctx.Done():
		return
	}
	for r.st.ctx.Err() == nil {
		r.tried = append(r.tried, r.shark)
		err := r.step("commit", func(ctx context.Context) error {
			_, err := r.w.Commit(ctx, r.st.sums)
			return err
		})
		if err == nil {
			r.committed = true
			return
		}
		r.recover(err)
	}
}

// take writes the n-th chunk and lets go of it, but for the first, which waits for the second to be written.
func (r *replica) take(c *chunk, n int) {
	if r.st.ctx.Err() != nil {
		r.st.release(c)
		return
	}
	r.sent = true
	if n == 0 {
		r.first = c
		if err := r.write(c); err != nil {
			r.recover(err)
		}
		return
	}
	for r.st.ctx.Err() == nil {
		err := r.write(c)
		if err == nil {
			break
		}
		r.recover(err)
	}
	if r.first != nil {
		r.st.release(r.first)
		r.first = nil
	}
	r.st.release(c)
}

func (r *replica) write(c *chunk) error {
	return r.step("write", func(context.Context) error {
		_, err := r.w.Write(c.data)
		return err
	})
}

// recover brings the copy to another node, as far as the first chunk, or fails the upload. It returns with one or the other done.
func (r *replica) recover(err error) {
	st := r.st
	r.drop()
	for st.ctx.Err() == nil {
		if r.first == nil && r.sent {
			st.stop(st.places.abandon(st.ctx, r.shark.Node, err))
			return
		}
		shark, final := st.places.replace(st.ctx, r.i, err)
		if final != nil {
			st.stop(final)
			return
		}
		if err = r.open(shark); err != nil {
			continue
		}
		if r.first == nil {
			return
		}
		if err = r.write(r.first); err == nil {
			return
		}
		r.drop()
	}
}

// step is one guarded call on the writer.
func (r *replica) step(op string, call func(context.Context) error) error {
	r.guard.start(r.st.s.cfg.StallTimeout)
	err := r.guard.stop(call(r.guard.ctx))
	r.st.s.observe(r.guard.ctx, r.shark.Node, err)
	if err != nil {
		return &NodeError{Op: op, Node: r.shark.Node, Err: err}
	}
	return nil
}
