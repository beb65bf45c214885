package durable

import (
	"context"
	"sync"
	"time"
)

// openFirst opens src; if that takes longer than Config.HedgeAfter it asks hedge (if there is one) as well, and takes whichever
// answers first. nil means that both, as far as they were asked, have been left.
func (r *reader) openFirst(src, hedge *source) *part {
	if hedge == nil || r.s.cfg.HedgeAfter < 0 {
		p, err := r.open(r.ctx, src.shark, r.pos)
		if err != nil {
			r.leave(src, "open", err)
			return nil
		}
		p.src = src
		return p
	}

	var (
		pos           = r.pos
		mu            sync.Mutex
		winner        *part
		hedgeErr      error
		hedged        = make(chan struct{})
		ctx, cancel   = context.WithCancel(r.ctx) // of src
		hctx, hcancel = context.WithCancel(r.ctx) // of hedge
		claim         = func(p *part) bool {
			mu.Lock()
			defer mu.Unlock()
			if winner != nil {
				return false
			}
			winner = p
			return true
		}
	)
	r.s.tasks.Add(1) // Close waits for a hedge, too
	timer := time.AfterFunc(r.s.cfg.HedgeAfter, func() {
		defer r.s.tasks.Done()
		defer close(hedged)
		r.s.met.hedges.Add(1)
		p, err := r.open(hctx, hedge.shark, pos)
		switch {
		case err != nil:
			hedgeErr = err
		case claim(p):
			r.s.met.hedgesWon.Add(1)
			cancel()
		default:
			p.close()
		}
	})
	p, err := r.open(ctx, src.shark, pos)
	if err == nil {
		p.src = src
	}
	if timer.Stop() {
		r.s.tasks.Done()
		hcancel()
		if err != nil {
			cancel()
			r.leave(src, "open", err)
			return nil
		}
		p.guard.onEnd = cancel
		return p
	}
	if err == nil && claim(p) {
		hcancel()
		p.guard.onEnd = cancel
		return p
	}
	// src failed, or came second.
	if p != nil {
		p.close()
	}
	cancel()
	<-hedged
	if winner != nil {
		winner.src, winner.guard.onEnd = hedge, hcancel
		if err != nil && ctx.Err() == nil {
			r.leave(src, "open", err)
		}
		return winner
	}
	hcancel()
	r.leave(src, "open", err)
	r.leave(hedge, "open", hedgeErr)
	return nil
}
