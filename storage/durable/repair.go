package durable

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/picker"
)

// copyState is what Repair finds of one copy.
type copyState int

const (
	intact  copyState = iota
	missing           // absent or quarantined: to be re-created in place
	wrong             // of other content: to be re-created in place
	gone              // its node is lost: to be re-created elsewhere
	unknown           // its node does not answer now
)

// Repair restores the copies of an object: one that is missing or damaged on a live node is re-created there, one on a lost node (or on one that has
// no room any more) on another. The source is read from the intact copies and compared with the MD5 of loc before anything becomes visible.
//
// It returns the location as it is now. If the nodes differ from loc's, the caller writes them into the object's record, under a condition that
// the record has not changed, whether or not there is an error too. An error that is [ErrUnavailable] or [ErrNotEnoughSpace]
// means that a later call may do the rest, [ErrLost] that no intact copy exists. Repair may be repeated at will.
//
// Repair asks each node whether it has the copy but does not read intact copies that it needs not; [Store.Verify] does.
func (s *Store) Repair(ctx context.Context, loc Location) (Location, error) {
	loc, _, err := s.repair(ctx, loc, nil)
	return loc, err
}

// repair also tells where it has made a copy.
func (s *Store) repair(ctx context.Context, loc Location, limit *limiter) (_ Location, made []storage.Shark, _ error) {
	loc.Sharks = slices.Clone(loc.Sharks)
	states, errs := s.inspect(ctx, loc)
	var sources []storage.Shark
	for i, state := range states {
		// A lost node may still answer; better that than nothing.
		if state == intact || state == gone {
			sources = append(sources, loc.Sharks[i])
		}
	}
	for i, state := range states {
		var err error
		switch state {
		case missing, wrong:
			err = s.recreate(ctx, loc, i, states[i] == wrong, sources, limit)
			if isFull(err) {
				err = s.relocate(ctx, &loc, i, states, sources, limit)
			}
		case gone:
			err = s.relocate(ctx, &loc, i, states, sources, limit)
		default:
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		states[i] = intact
		made = append(made, loc.Sharks[i])
		s.met.repaired.Add(1)
		s.log.InfoContext(ctx, "copy re-created", "object", loc.ID, "node", loc.Sharks[i].Node, "size", loc.Size)
	}
	if len(errs) == 0 {
		return loc, made, nil
	}
	err := errors.Join(errs...)
	if slices.Contains(states, unknown) && (errors.Is(err, ErrLost) || !errors.Is(err, ErrUnavailable)) {
		// What is lost among those who answer may be whole on those who do not.
		return loc, made, &pendingError{loc.ID, err}
	}
	return loc, made, fmt.Errorf("repair %s: %w", loc.ID, err)
}

// pendingError is ErrUnavailable and hides ErrLost: nodes are still to be heard.
type pendingError struct {
	id  storage.ObjectID
	err error
}

func (e *pendingError) Error() string {
	return "repair " + e.id.String() + ": not all nodes answer: " + e.err.Error()
}

func (e *pendingError) Is(target error) bool { return target == ErrUnavailable }

// inspect asks every node about its copy.
func (s *Store) inspect(ctx context.Context, loc Location) ([]copyState, []error) {
	states := make([]copyState, len(loc.Sharks))
	errs := make([]error, len(loc.Sharks))
	s.each(loc.Sharks, func(i int, shark storage.Shark) error {
		if s.nodes.Standing(shark.Node) == Lost {
			states[i] = gone
			return nil
		}
		errs[i] = s.call(ctx, "stat", shark, func(ctx context.Context, node storage.Node) error {
			info, err := node.Stat(ctx, loc.ID)
			if err == nil {
				err = matches(loc, info)
			}
			return err
		})
		switch err := errs[i]; {
		case err == nil:
		case errors.Is(err, storage.ErrNotFound):
			states[i], errs[i] = missing, nil
		case errors.Is(err, storage.ErrCorrupt):
			states[i], errs[i] = wrong, nil
		default:
			states[i] = unknown
		}
		return nil
	})
	return states, slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// recreate writes copy i anew where it belongs, in the place of what is there if that is wrong.
func (s *Store) recreate(ctx context.Context, loc Location, i int, wrong bool, sources []storage.Shark, limit *limiter) error {
	shark := loc.Sharks[i]
	if wrong {
		err := s.call(ctx, "delete", shark, func(ctx context.Context, node storage.Node) error { return node.Delete(ctx, loc.ID) })
		if err != nil {
			return err
		}
	}
	p := &places{s: s, id: loc.ID, fixed: true, keep: true, sharks: []storage.Shark{shark}}
	_, err := s.duplicate(ctx, loc, p, sources, limit)
	return err
}

// relocate writes copy i to a node that has none, and changes loc.
func (s *Store) relocate(ctx context.Context, loc *Location, i int, states []copyState, sources []storage.Shark, limit *limiter) error {
	p := &places{s: s, id: loc.ID, req: picker.Request{Size: loc.Size, Copies: 1}}
	for j, shark := range loc.Sharks {
		if j == i || states[j] == gone {
			p.req.Exclude = append(p.req.Exclude, shark.Node)
		} else {
			p.req.Beside = append(p.req.Beside, shark)
		}
	}
	sharks, err := s.duplicate(ctx, *loc, p, sources, limit)
	if err == nil {
		loc.Sharks[i] = sharks[0]
	}
	return err
}

// duplicate copies the object from its sources to new places.
func (s *Store) duplicate(ctx context.Context, loc Location, p *places, sources []storage.Shark, limit *limiter) ([]storage.Shark, error) {
	from := loc
	from.Sharks = sources
	r, err := s.Open(ctx, from, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	u, err := s.create(ctx, p, loc.Size, 0)
	if err != nil {
		return nil, err
	}
	defer u.Cancel()
	if _, err := u.ReadFrom(limit.reader(ctx, r)); err != nil {
		return nil, err
	}
	sum, err := u.MD5()
	if err != nil {
		return nil, err
	}
	if loc.MD5 != [md5.Size]byte{} && sum != loc.MD5 {
		return nil, fmt.Errorf("%w: copy %s: read MD5 %x, want %x", storage.ErrCorrupt, loc.ID, sum, loc.MD5)
	}
	stored, err := u.Commit(ctx)
	return stored.Sharks, err
}

// Verify has each node read and check its copy, and reports to Config.Damaged what is missing or damaged. It returns the joined errors; nil means that
// all copies are intact.
func (s *Store) Verify(ctx context.Context, loc Location) error {
	return s.each(loc.Sharks, func(_ int, shark storage.Shark) error {
		node, err := s.nodes.Node(shark.Node)
		if err == nil {
			var info storage.Info
			info, err = node.Verify(ctx, loc.ID) // takes as long as reading takes
			s.observe(ctx, shark.Node, err)
			if err == nil {
				err = matches(loc, info)
			}
		}
		if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrCorrupt) {
			s.met.damaged.Add(1)
			if s.cfg.Damaged != nil {
				s.cfg.Damaged(Damage{Location: loc, Shark: shark, Err: err})
			}
		}
		if err != nil {
			return &NodeError{Op: "verify", Node: shark.Node, Err: err}
		}
		return nil
	})
}

var _ io.WriterTo = (*reader)(nil)
