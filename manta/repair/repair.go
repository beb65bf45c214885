package repair

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
)

// Config says what repair works on. Namespace and Storage are required.
type Config struct {
	Namespace *namespace.Namespace
	Storage   *durable.Store

	// BytesPerSecond bounds what repair reads; 0 means no bound.
	BytesPerSecond int64

	// Workers repair objects at the same time; 0 means 2.
	Workers int

	// Gather is how long reports of damage that name no entry are gathered before the namespace is searched for all of
	// them at once; 0 means 10 s.
	Gather time.Duration

	// Logger hears of what was repaired and of what could not be; nil discards.
	Logger *slog.Logger
}

// A Service repairs. Its methods may be called by any number of goroutines at once.
type Service struct {
	cfg   Config
	log   *slog.Logger
	queue *durable.Repairer

	mu       sync.Mutex
	keys     map[storage.ObjectID]manta.Key // of objects in repair whose entry was met
	nameless map[storage.ObjectID]bool      // damaged, entry not known
	wake     chan struct{}
}

// New checks the configuration and returns a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Namespace == nil || cfg.Storage == nil {
		return nil, errors.New("repair: Config.Namespace and Storage are required")
	}
	if cfg.Gather == 0 {
		cfg.Gather = 10 * time.Second
	}
	s := &Service{cfg: cfg, log: cfg.Logger, keys: map[storage.ObjectID]manta.Key{}, nameless: map[storage.ObjectID]bool{}, wake: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	s.queue, err = durable.NewRepairer(durable.RepairConfig{
		Store: cfg.Storage, Current: s.current, Rewrite: s.rewrite, Workers: cfg.Workers, BytesPerSecond: cfg.BytesPerSecond, Logger: s.log,
	})
	return s, err
}

// Damaged takes a report of storage/durable: a copy that a read found missing or damaged. The other copies are where the report says, so
// repair in place begins at once. It does not block.
func (s *Service) Damaged(d durable.Damage) { s.queue.Add(d.Location) }

// maxNameless bounds the reports that wait for a search. Beyond it they are dropped: the damage will be met again.
const maxNameless = 100_000

// NodeDamaged takes a storage node's own report, which knows the id and no more. It does not block.
func (s *Service) NodeDamaged(id storage.ObjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.nameless) < maxNameless {
		s.nameless[id] = true
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run repairs until ctx ends, and returns its error.
func (s *Service) Run(ctx context.Context) error {
	searching := make(chan struct{})
	go func() {
		defer close(searching)
		for {
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(s.cfg.Gather):
			case <-ctx.Done():
				return
			}
			if err := s.search(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("search for the entries of damaged objects failed", "err", err)
			}
		}
	}()
	err := s.queue.Run(ctx)
	<-searching
	return err
}

// search finds the entries of nameless damage, in one pass over the namespace.
func (s *Service) search(ctx context.Context) error {
	s.mu.Lock()
	wanted := s.nameless
	s.nameless = map[storage.ObjectID]bool{}
	s.mu.Unlock()
	if m := s.queue.Metrics(); m.Waiting == 0 && m.Working == 0 {
		s.mu.Lock()
		clear(s.keys) // of repairs that are done
		s.mu.Unlock()
	}
	if len(wanted) == 0 {
		return nil
	}
	for e, err := range s.cfg.Namespace.Objects(ctx) {
		if err != nil {
			s.mu.Lock()
			for id := range wanted {
				s.nameless[id] = true
			}
			s.mu.Unlock()
			return err
		}
		loc, err := location(e)
		if err != nil {
			s.log.Error("entry cannot be repaired", "entry", e.Key, "err", err)
			continue
		}
		if wanted[loc.ID] {
			delete(wanted, loc.ID)
			s.learn(loc.ID, e.Key)
			s.queue.Add(loc)
		}
	}
	// What no entry names was deleted, or never recorded: there is nothing to keep whole.
	return nil
}

// Progress tells how an evacuation goes.
type Progress struct {
	Seen  int // objects that the node had a copy of
	Bytes int64
}

// Evacuate re-creates elsewhere every copy that a lost node held and records the new places. progress, if not nil, is called
// now and then. When it returns without error no entry refers to the node any more; after an error it may be called again and goes
// on with what is left.
func (s *Service) Evacuate(ctx context.Context, node string, progress func(Progress)) error {
	defer func() { // what was learnt is used up; a repair that still waits finds its entry anew
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.keys)
	}()
	// A second look finds what was put while the first ran.
	for pass := 0; ; pass++ {
		var p Progress
		if err := s.queue.Evacuate(ctx, node, s.on(ctx, node, &p, progress)); err != nil {
			return fmt.Errorf("evacuate %s: %w", node, err)
		}
		if p.Seen == 0 {
			return nil
		}
		if pass == maxPasses {
			return fmt.Errorf("evacuate %s: %d objects still have a copy there", node, p.Seen)
		}
	}
}

// maxPasses bounds the repetition of an evacuation that does not come to an end, because something still writes to the node.
const maxPasses = 5

// Restore looks at the copies of each entry of a sequence and repairs at once what is missing; what cannot be repaired now is tried again later. It returns after
// the last entry, or with the sequence's or ctx's error.
func (s *Service) Restore(ctx context.Context, entries iter.Seq2[*manta.Entry, error]) error {
	return s.queue.Sweep(ctx, func(yield func(durable.Location, error) bool) {
		for e, err := range entries {
			if err != nil {
				yield(durable.Location{}, err)
				return
			}
			loc, err := location(e)
			if err != nil {
				s.log.Error("entry cannot be repaired", "entry", e.Key, "err", err)
				continue
			}
			s.learn(loc.ID, e.Key)
			if !yield(loc, nil) {
				return
			}
		}
	})
}

// on yields the objects with a copy on a node.
func (s *Service) on(ctx context.Context, node string, p *Progress, progress func(Progress)) iter.Seq2[durable.Location, error] {
	return func(yield func(durable.Location, error) bool) {
		linked := map[string]bool{} // snaplinks seen: one repair serves all entries of the same bytes
		for e, err := range s.cfg.Namespace.Objects(ctx) {
			if err != nil {
				yield(durable.Location{}, err)
				return
			}
			if e.LinkID != "" {
				if linked[e.LinkID] {
					continue
				}
				linked[e.LinkID] = true
			}
			if !slices.ContainsFunc(e.Sharks, func(sh storage.Shark) bool { return sh.Node == node }) {
				continue
			}
			loc, err := location(e)
			if err == nil {
				s.learn(loc.ID, e.Key)
				p.Seen++
				p.Bytes += loc.Size
				if progress != nil {
					progress(*p)
				}
			}
			if !yield(loc, err) {
				return
			}
		}
	}
}

// current returns where an object's entry says that its copies are, so that nothing is brought back that was deleted meanwhile. Where the entry is
// not known, repair in place goes by what the report says.
func (s *Service) current(ctx context.Context, loc durable.Location) (durable.Location, error) {
	s.mu.Lock()
	key, ok := s.keys[loc.ID]
	s.mu.Unlock()
	if !ok {
		return loc, nil
	}
	st, err := s.cfg.Namespace.Look(ctx, key, false)
	if err != nil {
		return loc, err
	}
	e := st.Entry
	if e == nil || e.ObjectID != loc.ID.Object.String() {
		// The entry that was met is gone; a snaplink may have the bytes still.
		if e, err = s.cfg.Namespace.Linked(ctx, loc.ID.Object.String()); err != nil {
			return loc, err
		}
		if e == nil {
			s.forget(loc.ID)
			return loc, fmt.Errorf("%w: %s", storage.ErrNotFound, loc.ID)
		}
		s.learn(loc.ID, e.Key)
	}
	return location(e)
}

func (s *Service) learn(id storage.ObjectID, key manta.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) < maxNameless {
		s.keys[id] = key
	}
}

func (s *Service) forget(id storage.ObjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, id)
}

// rewrite records new places of an object's copies.
func (s *Service) rewrite(ctx context.Context, old, new durable.Location) error {
	s.mu.Lock()
	key, ok := s.keys[old.ID]
	s.mu.Unlock()
	if !ok {
		var err error
		if key, err = s.find(ctx, old.ID); err != nil {
			return err
		}
	}
	return s.cfg.Namespace.Relocate(ctx, key, old.ID.Object.String(), old.Sharks, new.Sharks)
}

// find searches the namespace for an entry of an object.
func (s *Service) find(ctx context.Context, id storage.ObjectID) (manta.Key, error) {
	for e, err := range s.cfg.Namespace.Objects(ctx) {
		if err != nil {
			return "", err
		}
		if e.ObjectID == id.Object.String() {
			return e.Key, nil
		}
	}
	return "", fmt.Errorf("%w: no entry refers to object %s", storage.ErrNotFound, id)
}

// location says where an entry's bytes are.
func location(e *manta.Entry) (durable.Location, error) {
	id, err1 := e.BytesID()
	sum, err2 := base64.StdEncoding.DecodeString(e.MD5)
	if err := errors.Join(err1, err2); err != nil || len(sum) != 16 {
		return durable.Location{}, fmt.Errorf("entry %s: %w: ids or sum are malformed", e.Key, errors.Join(storage.ErrInvalid, err))
	}
	return durable.Location{ID: id, Size: e.Size, MD5: [16]byte(sum), Sharks: e.Sharks}, nil
}

// Metrics tell how repair goes.
func (s *Service) Metrics() durable.RepairMetrics { return s.queue.Metrics() }
