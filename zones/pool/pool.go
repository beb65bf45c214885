package pool

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/zones"
)

// Config is what a pool needs.
type Config struct {
	// Factory makes the zones. Required.
	Factory Factory
	// Max is how many zones there may be at once, whatever they are doing. Required, above 0.
	Max int
	// Workers is how many zones are made, reset or removed at once; 2 when zero.
	Workers int
	// Idle is how long a zone beyond what Want asked for is kept for the next; a minute when zero.
	Idle time.Duration
	// Logger gets what fails in the background; nil discards.
	Logger *slog.Logger
}

// Pool is a set of warm zones. Its methods may be called from several goroutines.
type Pool struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex
	shelves map[Class]*shelf
	dirty   []*member // returned, to be reset or removed, in order
	total   int       // members in all, those being made included
	busy    int       // jobs running
	out     int
	closed  bool
	stats   Stats
}

// shelf is what the pool has of one class.
type shelf struct {
	want    int
	warm    []*member // last returned last
	making  int       // being made or reset
	waiters []*waiter
	retry   *backoff.ExponentialBackOff
	next    time.Time // when to try again after a failure
}

type member struct {
	zone   Zone
	idle   time.Time // since when it is warm
	remove bool      // not to be reset
	tries  int
	next   time.Time
}

type waiter struct {
	got chan result // one
}

type result struct {
	m   *member
	err error
}

// Stats are counts of one instant, and totals since the pool was made.
type Stats struct {
	Warm, Out, Dirty, Making, Waiting int

	// Hits were served at once, Misses had to wait.
	Hits, Misses uint64
	// Made, Resets, Discards and Failures count what the factory did.
	Made, Resets, Discards, Failures uint64
}

// New makes a pool. It does nothing until Run.
func New(cfg Config) (*Pool, error) {
	if cfg.Factory == nil || cfg.Max <= 0 {
		return nil, fmt.Errorf("%w: pool: needs a Factory and a Max above 0", zones.ErrInvalid)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 2
	}
	if cfg.Idle <= 0 {
		cfg.Idle = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Pool{cfg: cfg, wake: make(chan struct{}, 1), shelves: map[Class]*shelf{}}, nil
}

func (p *Pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Pool) shelf(c Class) *shelf {
	s := p.shelves[c]
	if s == nil {
		s = &shelf{retry: backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond),
			backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))}
		p.shelves[c] = s
	}
	return s
}

// Want says how many zones of the class stand ready, beside those that are out. 0 lets them go. The pool's Max goes before.
func (p *Pool) Want(c Class, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shelf(c).want = max(n, 0)
	p.poke()
}

// Get hands out a zone of the class that nobody has used. With one warm it returns at once; else it waits for one to be made
// or to come back, in turn. If ctx ends first its error is returned. A factory's failure is returned to one who waits. After Run
// has ended it is zones.ErrClosed.
func (p *Pool) Get(ctx context.Context, c Class) (*Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, fmt.Errorf("get zone: %w", zones.ErrClosed)
	}
	s := p.shelf(c)
	if n := len(s.warm); n > 0 && len(s.waiters) == 0 {
		m := s.warm[n-1]
		s.warm[n-1], s.warm = nil, s.warm[:n-1]
		p.out++
		p.stats.Hits++
		p.poke()
		p.mu.Unlock()
		return &Lease{pool: p, m: m}, nil
	}
	p.stats.Misses++
	w := &waiter{got: make(chan result, 1)}
	s.waiters = append(s.waiters, w)
	s.next = time.Time{} // somebody asks: try now
	p.poke()
	p.mu.Unlock()
	select {
	case r := <-w.got:
		return p.lease(r)
	case <-ctx.Done():
	}
	p.mu.Lock()
	for i, other := range s.waiters {
		if other == w {
			s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
			p.mu.Unlock()
			return nil, context.Cause(ctx)
		}
	}
	// It was served in the same moment. The zone is unused and goes to the next.
	if r := <-w.got; r.m != nil {
		p.out--
		p.shelve(r.m)
		p.poke()
	}
	p.mu.Unlock()
	return nil, context.Cause(ctx)
}

func (p *Pool) lease(r result) (*Lease, error) {
	if r.err != nil {
		return nil, fmt.Errorf("get zone: %w", r.err)
	}
	return &Lease{pool: p, m: r.m}, nil
}

// shelve gives a clean zone to whoever waits longest, or keeps it. The lock is held.
func (p *Pool) shelve(m *member) {
	s := p.shelf(m.zone.Class)
	if p.closed {
		m.remove = true
		p.dirty = append(p.dirty, m)
		return
	}
	if len(s.waiters) > 0 {
		w := s.waiters[0]
		s.waiters = s.waiters[1:]
		p.out++
		w.got <- result{m: m}
		return
	}
	m.idle = time.Now()
	s.warm = append(s.warm, m)
}

// Stats returns the pool's counts.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.stats
	st.Out, st.Dirty = p.out, len(p.dirty)
	for _, s := range p.shelves {
		st.Warm += len(s.warm)
		st.Making += s.making
		st.Waiting += len(s.waiters)
	}
	return st
}

// Lease is a zone in one tenant's hands.
type Lease struct {
	pool *Pool
	m    *member
	once sync.Once
}

// Zone is the zone. It is not to be used after Return or Discard.
func (l *Lease) Zone() Zone { return l.m.zone }

// Return gives the zone back, to be reset for the next. It does not wait. Only the first call of Return or Discard counts.
func (l *Lease) Return() { l.back(false) }

// Discard gives the zone back to be removed, as when it is not trusted even after a reset. Another is made if it is missed.
func (l *Lease) Discard() { l.back(true) }

func (l *Lease) back(remove bool) {
	l.once.Do(func() {
		p := l.pool
		p.mu.Lock()
		p.out--
		l.m.remove = remove
		closed := p.closed
		if !closed {
			p.dirty = append(p.dirty, l.m)
		}
		p.poke()
		p.mu.Unlock()
		if closed { // nobody works in the background any more
			ctx, cancel := context.WithTimeout(context.Background(), cleanUp)
			defer cancel()
			if err := p.cfg.Factory.Discard(ctx, l.m.zone); err != nil {
				p.cfg.Logger.Error("zone not removed", "zone", l.m.zone.ID, "err", err)
			}
			p.mu.Lock()
			p.total--
			p.mu.Unlock()
		}
	})
}

// cleanUp bounds removal after the pool's end.
const cleanUp = time.Minute
