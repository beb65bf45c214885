package durable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/mobulacloud/mobula/storage"
)

// RepairConfig describes a Repairer. Store is required, and so is Rewrite unless no node is ever lost.
type RepairConfig struct {
	Store *Store

	// Current returns where the object's record says that the copies are, or an error that is [storage.ErrNotFound] when no
	// record names the object any more. It keeps repair from bringing back what was deleted meanwhile, and lets a node's own scrub
	// report damage by id alone: of loc, only the ID need be set. nil takes every location as given.
	Current func(ctx context.Context, loc Location) (Location, error)

	// Rewrite replaces a location by another in every record of the object, provided that they still have the old one. After an error the new copies are
	// taken away again.
	Rewrite func(ctx context.Context, old, new Location) error

	Workers        int           // objects repaired at once; 0 means 2
	Capacity       int           // objects that may wait; 0 means 10,000. Beyond it, damage is dropped until it is found again
	BytesPerSecond int64         // that all workers together read; 0 means no limit
	MinDelay       time.Duration // before an object that could not be repaired is tried again; 0 means 5 s
	MaxDelay       time.Duration // to which the delay grows; 0 means 10 min
	MaxTries       int           // after which an object is given up until it is reported again; 0 means 10

	Logger *slog.Logger // nil discards
}

// RepairMetrics tell how repair goes. Counts are since the Repairer was made.
type RepairMetrics struct {
	Waiting int           // objects in the queue, delayed ones included
	Working int           // objects in work now
	Oldest  time.Duration // how long the object that waits longest has been waiting

	Added    uint64 // objects accepted into the queue
	Dropped  uint64 // objects refused or forgotten because the queue was full
	Whole    uint64 // objects that have all their copies after we looked
	Obsolete uint64 // objects that had been deleted when their turn came
	Retries  uint64 // attempts that failed and were or will be repeated
	GivenUp  uint64 // objects that failed MaxTries times
	Lost     uint64 // objects without any intact copy

	Swept uint64 // objects that sweeps have looked at
}

// A Repairer restores copies in the background: those that reads found damaged ([Repairer.Add] fits Config.Damaged) and, by
// sweeps over all records, those of nodes that are lost. Make one with [NewRepairer] and keep Run going.
type Repairer struct {
	cfg   RepairConfig
	log   *slog.Logger
	limit *limiter

	mu      sync.Mutex
	known   map[storage.ObjectID]*repairItem // waiting or in work
	ready   []*repairItem
	delayed []*repairItem // by due time
	working int
	met     RepairMetrics
	wake    chan struct{}
}

type repairItem struct {
	loc     Location
	since   time.Time
	due     time.Time
	tries   int
	backoff *backoff.ExponentialBackOff
	busy    bool
	again   bool // reported anew while in work
}

// NewRepairer checks the configuration and returns a Repairer that does nothing until Run.
func NewRepairer(cfg RepairConfig) (*Repairer, error) {
	if cfg.Store == nil || cfg.Workers < 0 || cfg.Capacity < 0 || cfg.BytesPerSecond < 0 || cfg.MinDelay < 0 || cfg.MaxDelay < 0 || cfg.MaxTries < 0 {
		return nil, fmt.Errorf("%w: durable: repair without a store or with a negative figure", storage.ErrInvalid)
	}
	cfg.Workers = cmp.Or(cfg.Workers, 2)
	cfg.Capacity = cmp.Or(cfg.Capacity, 10000)
	cfg.MinDelay = cmp.Or(cfg.MinDelay, 5*time.Second)
	cfg.MaxDelay = cmp.Or(cfg.MaxDelay, 10*time.Minute)
	cfg.MaxTries = cmp.Or(cfg.MaxTries, 10)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Repairer{cfg: cfg, log: cfg.Logger, limit: newLimiter(cfg.BytesPerSecond),
		known: map[storage.ObjectID]*repairItem{}, wake: make(chan struct{}, 1)}, nil
}

// Damaged queues a damaged object; it fits Config.Damaged.
func (q *Repairer) Damaged(d Damage) { q.Add(d.Location) }

// Add queues an object unless it waits already, and reports whether it is queued. It does not block.
func (q *Repairer) Add(loc Location) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if item := q.known[loc.ID]; item != nil {
		item.again = item.busy
		return true
	}
	if len(q.known) >= q.cfg.Capacity {
		q.met.Dropped++
		return false
	}
	now := time.Now()
	item := &repairItem{loc: loc, since: now}
	q.known[loc.ID] = item
	q.ready = append(q.ready, item)
	q.met.Added++
	q.signal()
	return true
}

func (q *Repairer) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run repairs what is queued until ctx ends, and returns ctx's error when all its workers have stopped.
func (q *Repairer) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range q.cfg.Workers {
		workers.Go(func() {
			for {
				item, err := q.next(ctx)
				if err != nil {
					return
				}
				q.finish(item, q.one(ctx, item.loc))
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// next waits for an object whose time has come.
func (q *Repairer) next(ctx context.Context) (*repairItem, error) {
	for {
		q.mu.Lock()
		now := time.Now()
		for len(q.delayed) > 0 && !q.delayed[0].due.After(now) {
			q.ready = append(q.ready, q.delayed[0])
			q.delayed = q.delayed[1:]
		}
		if len(q.ready) > 0 && ctx.Err() == nil {
			item := q.ready[0]
			q.ready = q.ready[1:]
			item.busy = true
			q.working++
			if len(q.ready) > 0 || len(q.delayed) > 0 {
				q.signal() // for the next worker
			}
			q.mu.Unlock()
			return item, nil
		}
		wait := time.Hour
		if len(q.delayed) > 0 {
			wait = q.delayed[0].due.Sub(now)
		}
		q.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// finish notes the outcome and queues the object again if need be.
func (q *Repairer) finish(item *repairItem, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.working--
	item.busy = false
	item.tries++
	retry := q.note(item.loc, err)
	switch {
	case retry && item.tries >= q.cfg.MaxTries:
		q.met.GivenUp++
		q.log.Error("repair given up", "object", item.loc.ID, "tries", item.tries, "err", err)
		delete(q.known, item.loc.ID)
	case retry && len(q.known) > q.cfg.Capacity:
		q.met.Dropped++
		delete(q.known, item.loc.ID)
	case retry:
		q.met.Retries++
		if item.backoff == nil {
			item.backoff = backoff.NewExponentialBackOff(backoff.WithInitialInterval(q.cfg.MinDelay),
				backoff.WithMaxInterval(q.cfg.MaxDelay), backoff.WithMaxElapsedTime(0))
		}
		item.due = time.Now().Add(item.backoff.NextBackOff())
		at, _ := slices.BinarySearchFunc(q.delayed, item, func(a, b *repairItem) int { return a.due.Compare(b.due) })
		q.delayed = slices.Insert(q.delayed, at, item)
		q.signal()
	case item.again:
		item.again = false
		q.ready = append(q.ready, item)
		q.signal()
	default:
		delete(q.known, item.loc.ID)
	}
}

// note counts an outcome and says whether trying again later makes sense. The caller holds the lock.
func (q *Repairer) note(loc Location, err error) (retry bool) {
	switch {
	case err == nil:
		q.met.Whole++
	case errors.Is(err, errObsolete):
		q.met.Obsolete++
	case errors.Is(err, ErrLost) && !errors.Is(err, ErrUnavailable):
		q.met.Lost++
		q.log.Error("object has no intact copy", "object", loc.ID, "size", loc.Size, "err", err)
	default:
		return true
	}
	return false
}

var errObsolete = errors.New("durable: no record names the object")

// one repairs one object.
func (q *Repairer) one(ctx context.Context, loc Location) error {
	loc, err := q.current(ctx, loc)
	if err != nil {
		return err
	}
	s := q.cfg.Store
	repaired, made, err := s.repair(ctx, loc, q.limit)
	if !slices.Equal(repaired.Sharks, loc.Sharks) {
		rewriteErr := errors.New("durable: no Rewrite is configured")
		if q.cfg.Rewrite != nil {
			rewriteErr = q.cfg.Rewrite(ctx, loc, repaired)
		}
		if rewriteErr != nil {
			// The record went another way, so nobody will ever look for the new copies.
			extra := repaired
			extra.Sharks = slices.DeleteFunc(slices.Clone(repaired.Sharks), func(s storage.Shark) bool { return slices.Contains(loc.Sharks, s) })
			return errors.Join(err, fmt.Errorf("rewrite %s: %w", loc.ID, rewriteErr), s.cleanUp(ctx, extra))
		}
	}
	if _, gone := q.current(ctx, repaired); errors.Is(gone, errObsolete) {
		// Deleted while we worked: the deletion may have missed what we re-created. The other copies are its own business, in its own time.
		repaired.Sharks = made
		return errors.Join(gone, s.cleanUp(ctx, repaired))
	}
	return err
}

func (q *Repairer) current(ctx context.Context, loc Location) (Location, error) {
	if q.cfg.Current == nil {
		return loc, nil
	}
	now, err := q.cfg.Current(ctx, loc)
	if errors.Is(err, storage.ErrNotFound) {
		err = fmt.Errorf("%w: %s", errObsolete, loc.ID)
	}
	return now, err
}

// cleanUp deletes copies even if ctx has ended.
func (s *Store) cleanUp(ctx context.Context, loc Location) error {
	return s.Delete(context.WithoutCancel(ctx), loc)
}

// Sweep looks at every object of a sequence, usually all records, and repairs at once those that lack a copy; Workers objects are in
// work at a time. What fails but may succeed later is queued, or dropped when the queue is full, so a sweep after
// which RepairMetrics.Dropped has grown is to be repeated. It returns after the last object, or with the sequence's or ctx's error. To evacuate a lost node, sweep the locations that name it.
func (q *Repairer) Sweep(ctx context.Context, objects iter.Seq2[Location, error]) error {
	work := make(chan Location)
	var workers sync.WaitGroup
	for range q.cfg.Workers {
		workers.Go(func() {
			for loc := range work {
				q.sweepOne(ctx, loc)
			}
		})
	}
	var failed error
	for loc, err := range objects {
		if err == nil {
			select {
			case work <- loc:
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		if err != nil {
			failed = fmt.Errorf("sweep: %w", err)
			break
		}
	}
	close(work)
	workers.Wait()
	if failed == nil && ctx.Err() != nil {
		failed = fmt.Errorf("sweep: %w", context.Cause(ctx))
	}
	return failed
}

func (q *Repairer) sweepOne(ctx context.Context, loc Location) {
	q.mu.Lock()
	q.met.Swept++
	if q.known[loc.ID] != nil {
		q.mu.Unlock()
		return // its turn comes anyway
	}
	item := &repairItem{loc: loc, since: time.Now(), busy: true}
	q.known[loc.ID] = item // even beyond Capacity: as many as there are workers
	q.working++
	q.mu.Unlock()
	q.finish(item, q.one(ctx, loc))
}

// Evacuate sweeps those objects of a sequence that have a copy on the node, which the fleet must hold for lost.
func (q *Repairer) Evacuate(ctx context.Context, node string, objects iter.Seq2[Location, error]) error {
	if q.cfg.Store.nodes.Standing(node) != Lost {
		return fmt.Errorf("%w: durable: evacuate %q, which is not marked lost", storage.ErrInvalid, node)
	}
	return q.Sweep(ctx, func(yield func(Location, error) bool) {
		for loc, err := range objects {
			on := slices.ContainsFunc(loc.Sharks, func(s storage.Shark) bool { return s.Node == node })
			if (err != nil || on) && !yield(loc, err) {
				return
			}
		}
	})
}

// Metrics returns the figures as they stand.
func (q *Repairer) Metrics() RepairMetrics {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := q.met
	m.Working = q.working
	m.Waiting = len(q.known) - q.working
	for _, item := range q.known {
		m.Oldest = max(m.Oldest, time.Since(item.since))
	}
	return m
}
