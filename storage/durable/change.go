package durable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mobulacloud/mobula/storage"
)

// Delete takes all copies away. Lost nodes are passed over. After an error some copies may be left, on nodes that could not
// be reached; it may be repeated.
func (s *Store) Delete(ctx context.Context, loc Location) error {
	return s.each(loc.Sharks, func(_ int, shark storage.Shark) error {
		if s.nodes.Standing(shark.Node) == Lost {
			return nil
		}
		return s.call(ctx, "delete", shark, func(ctx context.Context, node storage.Node) error {
			return node.Delete(ctx, loc.ID)
		})
	})
}

// Exists reports whether any copy is there, unverified. Config.Damaged is told of those that are missing beside one that is not. It is an error if none is
// found and a node could not be asked.
func (s *Store) Exists(ctx context.Context, loc Location) (bool, error) {
	errs := make([]error, len(loc.Sharks))
	err := s.each(loc.Sharks, func(i int, shark storage.Shark) error {
		errs[i] = s.call(ctx, "stat", shark, func(ctx context.Context, node storage.Node) error {
			_, err := node.Stat(ctx, loc.ID)
			return err
		})
		if errors.Is(errs[i], storage.ErrNotFound) {
			return nil
		}
		return errs[i]
	})
	if !slices.Contains(errs, nil) {
		return false, err
	}
	for i, err := range errs {
		if s.cfg.Damaged != nil && errors.Is(err, storage.ErrNotFound) {
			s.cfg.Damaged(Damage{Location: loc, Shark: loc.Sharks[i], Err: err})
		}
	}
	return true, nil
}

// Assemble makes target out of the concatenation of parts, which must lie on each of the nodes. size must be their sum. The
// parts stay. After an error it may be repeated, also when some nodes have made the target already.
func (s *Store) Assemble(ctx context.Context, target storage.ObjectID, parts []storage.ObjectID, sharks []storage.Shark, size int64) (Stored, error) {
	if len(sharks) == 0 {
		return Stored{}, fmt.Errorf("%w: durable: assemble %s on no nodes", storage.ErrInvalid, target)
	}
	infos := make([]storage.Info, len(sharks))
	err := s.each(sharks, func(i int, shark storage.Shark) error {
		node, err := s.nodes.Node(shark.Node)
		if err == nil {
			// No time limit of ours: a node may have terabytes to join. Its client notices a dead peer.
			infos[i], err = node.Assemble(ctx, target, parts, size)
			s.observe(ctx, shark.Node, err)
		}
		if err != nil {
			return &NodeError{Op: "assemble", Node: shark.Node, Err: err}
		}
		return nil
	})
	if err != nil {
		return Stored{}, fmt.Errorf("assemble %s: %w", target, err)
	}
	for i, info := range infos {
		if info.Size != size || info.MD5 != infos[0].MD5 || info.CRC32C != infos[0].CRC32C {
			return Stored{}, fmt.Errorf("%w: assemble %s: %s made %d bytes with MD5 %x, %s %d with %x", storage.ErrChecksum, target,
				sharks[i].Node, info.Size, info.MD5, sharks[0].Node, infos[0].Size, infos[0].MD5)
		}
	}
	return Stored{Size: size, MD5: infos[0].MD5, Sharks: slices.Clone(sharks)}, nil
}

// each calls f for all nodes at once and joins the errors; if one of them came from an unreachable node, the whole is [ErrUnavailable].
func (s *Store) each(sharks []storage.Shark, f func(int, storage.Shark) error) error {
	errs := make([]error, len(sharks))
	var calls sync.WaitGroup
	for i, shark := range sharks {
		if i == len(sharks)-1 {
			errs[i] = f(i, shark)
			break
		}
		calls.Go(func() { errs[i] = f(i, shark) })
	}
	calls.Wait()
	err := errors.Join(errs...)
	if errors.Is(err, storage.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// call is one guarded call to a node.
func (s *Store) call(ctx context.Context, op string, shark storage.Shark, f func(context.Context, storage.Node) error) error {
	g := newGuard(ctx)
	defer g.end()
	node, err := s.nodes.Node(shark.Node)
	if err == nil {
		g.start(s.cfg.StallTimeout)
		err = g.stop(f(g.ctx, node))
	}
	s.observe(g.ctx, shark.Node, err)
	if err != nil {
		return &NodeError{Op: op, Node: shark.Node, Err: err}
	}
	return nil
}
