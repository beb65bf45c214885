package durable

import (
	"context"
	"crypto/md5"
	"fmt"
	"hash/crc32"

	"github.com/mobulacloud/mobula/storage"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// held is a body that waits in one buffer until it is complete. Only then do nodes hear of it, each in one go; any that
// fails is replaced.
type held struct {
	s         *Store
	ctx       context.Context
	cancelCtx context.CancelCauseFunc
	places    *places
	buf       *[]byte
	class     int
	size      int64 // what was reserved
	sums      storage.Sums
}

func (s *Store) newHeld(ctx context.Context, p *places, size int64) (*held, error) {
	if !p.fixed {
		tuples, err := p.choose(ctx)
		if err != nil {
			return nil, err
		}
		p.sharks = append([]storage.Shark(nil), tuples[0]...)
	}
	h := &held{s: s, places: p}
	h.buf, h.class = heldBuffer(size)
	h.size = heldClasses[h.class]
	if !s.budget.take(h.size) {
		freeHeld(h.buf, h.class)
		s.met.busy.Add(1)
		return nil, fmt.Errorf("%w: put %s", ErrBusy, p.id)
	}
	h.ctx, h.cancelCtx = context.WithCancelCause(ctx)
	return h, nil
}

func (h *held) space() ([]byte, error) {
	if h.ctx.Err() != nil {
		return nil, context.Cause(h.ctx)
	}
	b := *h.buf
	return b[len(b):cap(b)], nil
}

func (h *held) filled(n int) { *h.buf = (*h.buf)[:len(*h.buf)+n] }

func (h *held) finish() (storage.Sums, error) {
	b := *h.buf
	h.sums = storage.Sums{Size: int64(len(b)), MD5: md5.Sum(b), CRC32C: crc32.Checksum(b, castagnoli)}
	return h.sums, nil
}

func (h *held) commit(ctx context.Context) ([]storage.Shark, error) {
	defer context.AfterFunc(ctx, func() { h.cancelCtx(context.Cause(ctx)) })()
	n := len(h.places.sharks)
	tried := make([][]storage.Shark, n)
	done := make(chan error, n)
	copyTo := func(i int) {
		err := h.copy(i, &tried[i])
		if err != nil {
			h.cancelCtx(err) // the others need not go on
		}
		done <- err
	}
	for i := 1; i < n; i++ {
		go copyTo(i)
	}
	copyTo(0)
	var failed error
	for range n {
		if err := <-done; err != nil && failed == nil {
			failed = context.Cause(h.ctx)
		}
	}
	good := h.places.current()
	for i := range tried {
		for _, shark := range tried[i] {
			// A node whose answer was lost may have kept the object, and so may the others of an upload that failed.
			if failed != nil || shark != good[i] {
				h.places.discard(h.ctx, shark)
			}
		}
	}
	return good, failed
}

// copy puts the whole body on one node, and on others when that fails. It notes every node that was asked to commit.
func (h *held) copy(i int, tried *[]storage.Shark) error {
	h.places.mu.Lock()
	shark := h.places.sharks[i]
	h.places.mu.Unlock()
	for {
		asked, err := h.put(shark)
		if asked {
			*tried = append(*tried, shark)
		}
		if err == nil {
			return nil
		}
		if shark, err = h.places.replace(h.ctx, i, err); err != nil {
			return err
		}
	}
}

// put is one attempt on one node. asked says that the node may have kept the object.
func (h *held) put(shark storage.Shark) (asked bool, err error) {
	op := "create"
	g := newGuard(h.ctx)
	defer func() {
		h.s.observe(g.ctx, shark.Node, err)
		g.end()
		if err != nil {
			err = &NodeError{Op: op, Node: shark.Node, Err: err}
		}
	}()
	node, err := h.s.nodes.Node(shark.Node)
	if err != nil {
		return false, err
	}
	g.start(h.s.cfg.CreateTimeout)
	w, err := node.Create(g.ctx, h.places.id, storage.CreateOptions{Size: h.sums.Size})
	if err = g.stop(err); err != nil {
		return false, err
	}
	defer w.Cancel()
	op = "write"
	g.start(h.s.cfg.StallTimeout)
	_, err = w.Write(*h.buf)
	if err = g.stop(err); err != nil {
		return false, err
	}
	op = "commit"
	g.start(h.s.cfg.StallTimeout)
	_, err = w.Commit(g.ctx, h.sums)
	return true, g.stop(err)
}

func (h *held) cancel() {
	if h.buf == nil {
		return
	}
	h.cancelCtx(context.Canceled)
	freeHeld(h.buf, h.class)
	h.s.budget.give(h.size)
	h.buf = nil
}
