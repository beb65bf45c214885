package audit

import (
	"context"

	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
)

// maxOrphans and maxStrays bound what one slice removes. What is beyond is the next round's.
const (
	maxOrphans = 100_000
	maxStrays  = 20_000
)

// fewOrphans are deleted whatever their share: a cloud that was just emptied has nothing but.
const fewOrphans = 100

// A tally counts what a node has.
type tally struct {
	old     int // copies beyond the grace period
	orphans int
}

// judge is step 4.
func (s *slice) judge(ctx context.Context) error {
	old := s.cfg.Now().Add(-s.cfg.Grace)
	for name := range s.nodes {
		t := &tally{}
		s.tally[name] = t
		node, err := s.node(name)
		if err == nil {
			err = s.each(ctx, node, func(info storage.Info) {
				if info.Created.After(old) || !s.listed.has(s.listed.copy(info.ID, name, info.Size, info.MD5)) {
					return
				}
				t.old++
				f := found{info.ID, name, info.Size}
				switch {
				case s.named.has(s.named.place(info.ID, name)):
				case s.named.has(s.named.object(info.ID)):
					s.strays.add(f)
				default:
					t.orphans++
					if len(s.orphans) < maxOrphans {
						s.orphans = append(s.orphans, f)
					}
				}
			})
		}
		if e := s.claim.alive(ctx); e != nil {
			return e
		}
		if err != nil {
			s.log.Warn("audit leaves out a node that cannot be listed any more", "node", name, "err", err)
			delete(s.nodes, name) // what share its orphans have is not known
		}
	}
	s.count(func(m *Metrics) {
		for _, t := range s.tally {
			m.Orphans += uint64(t.orphans)
		}
		m.Strays += uint64(s.strays.found)
	})
	return nil
}

// heldBack reports whether a node has so many orphans that something else must be wrong.
func (s *slice) heldBack(name string) bool {
	t := s.tally[name]
	return t.orphans > fewOrphans && t.orphans*100 > t.old*s.cfg.MaxPercent
}

// removeOrphans is the first half of step 5.
func (s *slice) removeOrphans(ctx context.Context) error {
	held := 0
	for name, t := range s.tally {
		if s.nodes[name] && s.heldBack(name) {
			held += t.orphans
			s.log.Error("a node has more bytes without records than may be; none is deleted", "node", name, "orphans", t.orphans, "copies", t.old,
				"max_percent", s.cfg.MaxPercent)
		}
	}
	s.count(func(m *Metrics) { m.HeldBack = held })
	for _, f := range s.orphans {
		if !s.nodes[f.node] || s.heldBack(f.node) {
			continue
		}
		if err := s.pace(ctx, 1); err != nil {
			return err
		}
		// A snaplink may have carried the bytes from an entry not yet read to one read before. Its id is the object's.
		linked, err := s.cfg.Namespace.Referenced(ctx, &namespace.Deleted{ObjectID: f.id.Object.String(), LinkID: f.id.Object.String()})
		if err != nil {
			return err
		}
		if !linked {
			s.remove(ctx, f, "copy without a record deleted")
		}
	}
	return ctx.Err()
}

// remove deletes one copy.
func (s *slice) remove(ctx context.Context, f found, what string) bool {
	node, err := s.node(f.node)
	if err == nil {
		err = node.Delete(ctx, f.id)
	}
	if err != nil {
		s.count(func(m *Metrics) { m.RemovalFailed++ })
		s.log.Warn("copy could not be deleted now", "object", f.id.String(), "node", f.node, "err", err)
		return false
	}
	s.count(func(m *Metrics) {
		m.Removed++
		m.RemovedBytes += uint64(f.size)
	})
	s.log.Info(what, "object", f.id.String(), "node", f.node, "size", f.size)
	return true
}
