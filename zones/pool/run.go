package pool

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// job is something the factory is to do.
type job func(ctx context.Context)

// Run makes, resets and removes zones in the background until ctx ends. Then it removes all that are not out, and returns when that is done,
// with what could not be removed. Zones that are out are removed when they are returned. It may be called once.
func (p *Pool) Run(ctx context.Context) error {
	var jobs sync.WaitGroup
	for {
		next, wait := p.plan(time.Now())
		for _, j := range next {
			jobs.Go(func() {
				j(ctx)
				p.mu.Lock()
				p.busy--
				p.mu.Unlock()
				p.poke()
			})
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-p.wake:
		case <-timer:
		case <-ctx.Done():
			return p.close(ctx, &jobs)
		}
	}
}

func (p *Pool) close(ctx context.Context, jobs *sync.WaitGroup) error {
	p.mu.Lock()
	p.closed = true
	for _, s := range p.shelves {
		for _, w := range s.waiters {
			w.got <- result{err: zones.ErrClosed}
		}
		s.waiters = nil
		p.dirty = append(p.dirty, s.warm...)
		s.warm = nil
	}
	p.mu.Unlock()
	jobs.Wait()
	p.mu.Lock()
	left := p.dirty
	p.dirty = nil
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	var errs []error
	for _, m := range left {
		if err := p.cfg.Factory.Discard(ctx, m.zone); err != nil {
			errs = append(errs, err)
			continue
		}
		p.mu.Lock()
		p.total--
		p.stats.Discards++
		p.mu.Unlock()
	}
	return errors.Join(errs...)
}

// plan takes what is to be done now, as far as there are workers, and says when to look again if nothing else happens (0: never).
func (p *Pool) plan(now time.Time) (jobs []job, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	later := func(t time.Time) {
		if d := t.Sub(now); wait == 0 || d < wait {
			wait = max(d, time.Millisecond)
		}
	}
	add := func(j job) {
		p.busy++
		jobs = append(jobs, j)
	}
	free := func() bool { return p.busy < p.cfg.Workers }

	// What came back, in order; who waits for its class gets it soonest.
	kept := p.dirty[:0]
	for _, m := range p.dirty {
		switch s := p.shelf(m.zone.Class); {
		case !free():
			kept = append(kept, m)
		case m.next.After(now):
			later(m.next)
			kept = append(kept, m)
		case m.remove || !p.missed(s):
			add(p.discard(m))
		default:
			s.making++
			add(p.reset(m, s))
		}
	}
	clear(p.dirty[len(kept):])
	p.dirty = kept

	for c, s := range p.shelves {
		for free() && len(s.waiters) > s.making {
			if p.total >= p.cfg.Max {
				if m := p.spare(c); m != nil { // its place is free once it is removed, and plan runs again
					add(p.discard(m))
				}
				break
			}
			if s.next.After(now) {
				later(s.next)
				break
			}
			p.total++
			s.making++
			add(p.make(c, s))
		}
	}
	for c, s := range p.shelves {
		for free() && p.total < p.cfg.Max && len(s.warm)+s.making < s.want+len(s.waiters) {
			if s.next.After(now) {
				later(s.next)
				break
			}
			p.total++
			s.making++
			add(p.make(c, s))
		}
		for len(s.warm) > s.want {
			if end := s.warm[0].idle.Add(p.cfg.Idle); end.After(now) {
				later(end)
				break
			}
			if !free() {
				break
			}
			m := s.warm[0]
			s.warm = append(s.warm[:0], s.warm[1:]...)
			add(p.discard(m))
		}
		if s.want == 0 && s.making == 0 && len(s.warm) == 0 && len(s.waiters) == 0 && !s.next.After(now) {
			delete(p.shelves, c) // so that a pool that sees many classes does not grow; nothing else holds an empty shelf
		}
	}
	return jobs, wait
}

// missed reports whether a returned zone is worth a reset: somebody waits, or fewer stand ready than wanted, or there is room
// to keep it for a while.
func (p *Pool) missed(s *shelf) bool {
	if len(s.waiters) > s.making || len(s.warm)+s.making < s.want {
		return true
	}
	for _, other := range p.shelves {
		if other != s && len(other.waiters) > other.making && p.total >= p.cfg.Max {
			return false
		}
	}
	return true
}

// spare takes a warm zone of another class that nobody waits for: one beyond what is wanted if there is, else the longest idle.
func (p *Pool) spare(except Class) *member {
	var from *shelf
	beyond := false
	for c, s := range p.shelves {
		if c == except || len(s.warm) == 0 || len(s.waiters) > 0 {
			continue
		}
		b := len(s.warm) > s.want
		if from == nil || b && !beyond || b == beyond && s.warm[0].idle.Before(from.warm[0].idle) {
			from, beyond = s, b
		}
	}
	if from == nil {
		return nil
	}
	m := from.warm[0]
	from.warm = append(from.warm[:0], from.warm[1:]...)
	return m
}

func (p *Pool) make(c Class, s *shelf) job {
	return func(ctx context.Context) {
		z, err := p.cfg.Factory.Make(ctx, c)
		p.mu.Lock()
		defer p.mu.Unlock()
		s.making--
		if err != nil {
			p.total--
			p.failed(ctx, s, err)
			return
		}
		p.stats.Made++
		s.retry.Reset()
		p.shelve(&member{zone: z})
	}
}

func (p *Pool) reset(m *member, s *shelf) job {
	return func(ctx context.Context) {
		z, err := p.cfg.Factory.Reset(ctx, m.zone)
		p.mu.Lock()
		defer p.mu.Unlock()
		s.making--
		if err != nil { // one is missing now, and is made anew when this one is gone
			p.stats.Failures++
			if ctx.Err() == nil {
				p.cfg.Logger.Warn("zone not reset", "zone", m.zone.ID, "err", err)
			}
			m.remove = true
			p.dirty = append(p.dirty, m)
			return
		}
		p.stats.Resets++
		p.shelve(&member{zone: z})
	}
}

func (p *Pool) discard(m *member) job {
	return func(ctx context.Context) {
		err := p.cfg.Factory.Discard(context.WithoutCancel(ctx), m.zone)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			p.stats.Failures++
			p.cfg.Logger.Warn("zone not removed", "zone", m.zone.ID, "err", err)
			m.remove = true
			m.tries++
			m.next = time.Now().Add(min(time.Second<<min(m.tries, 6), time.Minute))
			p.dirty = append(p.dirty, m)
			return
		}
		p.total--
		p.stats.Discards++
	}
}

// failed tells the one who waits longest, and puts the next attempt off. The lock is held.
func (p *Pool) failed(ctx context.Context, s *shelf, err error) {
	if ctx.Err() != nil {
		return
	}
	p.stats.Failures++
	if len(s.waiters) > 0 {
		w := s.waiters[0]
		s.waiters = s.waiters[1:]
		w.got <- result{err: err}
	} else {
		p.cfg.Logger.Warn("zone not made", "err", err)
	}
	s.next = time.Now().Add(s.retry.NextBackOff())
}
