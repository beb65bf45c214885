package durable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/picker"
)

// places are the nodes of one upload: chosen by the picker and replaced one by one, or given by the caller and then fixed.
type places struct {
	s     *Store
	id    storage.ObjectID
	req   picker.Request // Beside and Exclude as the caller gave them
	fixed bool
	keep  bool // the id belongs on these nodes whatever becomes of the upload (repair)

	mu     sync.Mutex
	sharks []storage.Shark // the node of each copy
	failed []string        // nodes that are not asked again
	errs   []error         // what they said
}

// choose returns the alternatives for all copies, without the nodes that failed. An error is final and classed.
func (p *places) choose(ctx context.Context) ([]picker.Tuple, error) {
	req := p.req
	req.Exclude = slices.Concat(p.req.Exclude, p.failed)
	tuples, err := p.s.nodes.Choose(req)
	if err != nil {
		return nil, p.refusal(ctx, err)
	}
	return tuples, nil
}

// replace finds another node for copy i, whose node failed with err. An error is final and classed.
func (p *places) replace(ctx context.Context, i int, err error) (storage.Shark, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail(p.sharks[i].Node, err)
	if p.fixed {
		return storage.Shark{}, p.refusal(ctx, nil)
	}
	req := p.req
	req.Copies = 1
	req.Beside = slices.Concat(p.req.Beside, slices.Delete(slices.Clone(p.sharks), i, i+1))
	req.Exclude = slices.Concat(p.req.Exclude, p.failed)
	tuples, chooseErr := p.s.nodes.Choose(req)
	if chooseErr != nil || ctx.Err() != nil {
		return storage.Shark{}, p.refusal(ctx, chooseErr)
	}
	p.sharks[i] = tuples[0][0]
	p.s.met.replaced.Add(1)
	return p.sharks[i], nil
}

// abandon gives up on a copy that no other node can take over. The error is final and classed.
func (p *places) abandon(ctx context.Context, node string, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail(node, err)
	return p.refusal(ctx, nil)
}

// fail notes that a node failed. The caller holds the lock or is alone.
func (p *places) fail(node string, err error) {
	p.failed = append(p.failed, node)
	p.errs = append(p.errs, err)
}

// refusal classes what went wrong: the caller's own end, want of space, or want of nodes. As with fail, the caller holds the lock or is alone.
func (p *places) refusal(ctx context.Context, chooseErr error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	class := ErrNotEnoughSpace
	if refused, ok := errors.AsType[*picker.NotEnoughSpaceError](chooseErr); ok && refused.Unreachable {
		class = ErrUnavailable
	} else if chooseErr != nil && !errors.Is(chooseErr, storage.ErrNoSpace) {
		return fmt.Errorf("put %s: %w", p.id, chooseErr)
	}
	for _, err := range p.errs {
		if !isFull(err) {
			class = ErrUnavailable
		}
	}
	return fmt.Errorf("%w: put %s: %w", class, p.id, errors.Join(append(slices.Clone(p.errs), chooseErr)...))
}

// isFull reports whether a node refused for want of room, for good as far as this upload is concerned.
func isFull(err error) bool {
	return errors.Is(err, storage.ErrNoSpace) || errors.Is(err, storage.ErrReadOnly)
}

// current returns the nodes as they stand.
func (p *places) current() []storage.Shark {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sharks)
}

// discard deletes what a node may have kept of an upload that does not count on it. It tries once, at once: later the same id
// could have been brought to the node for good.
func (p *places) discard(ctx context.Context, shark storage.Shark) {
	if p.keep {
		return
	}
	p.s.met.discarded.Add(1)
	ctx = context.WithoutCancel(ctx)
	p.s.task(func() {
		node, err := p.s.nodes.Node(shark.Node)
		if err == nil {
			g := newGuard(ctx)
			defer g.end()
			g.start(p.s.cfg.StallTimeout)
			err = g.stop(node.Delete(g.ctx, p.id))
		}
		if err != nil {
			p.s.log.WarnContext(ctx, "copy of a failed upload may be left over", "object", p.id, "node", shark.Node, "err", err)
		}
	})
}
