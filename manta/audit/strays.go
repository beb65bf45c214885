package audit

import (
	"context"
	"fmt"
	"slices"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage"
)

// strays are copies of objects whose entries name other nodes: a node was given up, its copies were made anew elsewhere, and then it came back; or a repair was
// cut short. A stray may be the last good copy, so it goes only when all of the entry's own are there.
type strays struct {
	found int
	byID  map[storage.ObjectID]*stray
}

type stray struct {
	copies []found
	entry  *manta.Entry // one that names the object
	keep   bool
}

func (x *strays) add(f found) {
	x.found++
	if x.byID == nil {
		x.byID = map[storage.ObjectID]*stray{}
	}
	s := x.byID[f.id]
	if s == nil {
		if len(x.byID) >= maxStrays {
			return
		}
		s = &stray{}
		x.byID[f.id] = s
	}
	s.copies = append(s.copies, f)
}

// resolveStrays is the second half of step 5: it looks for the strays' entries and deletes what is superfluous.
func (s *slice) resolveStrays(ctx context.Context) error {
	if len(s.strays.byID) == 0 {
		return nil
	}
	for e, err := range s.cfg.Namespace.Objects(ctx) {
		if err == nil {
			err = s.pace(ctx, 1)
		}
		if err != nil {
			return err
		}
		id, err := e.BytesID()
		if err != nil {
			return fmt.Errorf("entry %s names no object: %w", e.Key, err)
		}
		if x := s.strays.byID[id]; x != nil {
			x.entry = e
			x.keep = x.keep || names(e, x.copies) // repair has taken it in meanwhile
		}
	}
	for id, x := range s.strays.byID {
		if x.entry == nil || x.keep {
			continue
		}
		if err := s.pace(ctx, 1); err != nil {
			return err
		}
		if !s.whole(ctx, x.entry, id) {
			continue
		}
		for _, f := range x.copies {
			if s.nodes[f.node] && s.remove(ctx, f, "superfluous copy deleted") {
				if err := s.reconsider(ctx, x.entry, f); err != nil {
					return err
				}
			}
		}
	}
	return ctx.Err()
}

func names(e *manta.Entry, copies []found) bool {
	return slices.ContainsFunc(e.Sharks, func(shark storage.Shark) bool {
		return slices.ContainsFunc(copies, func(f found) bool { return f.node == shark.Node })
	})
}

// reconsider brings a copy back that an entry has come to name while it was being deleted: repair takes in what it finds where it wants to
// write.
func (s *slice) reconsider(ctx context.Context, e *manta.Entry, f found) error {
	st, err := s.cfg.Namespace.Look(ctx, e.Key, false)
	if err != nil {
		return err
	}
	if st.Entry == nil || st.Entry.ObjectID != e.ObjectID || !names(st.Entry, []found{f}) {
		return nil
	}
	node, err := s.node(f.node)
	if err == nil {
		err = node.Undelete(ctx, f.id)
	}
	if err != nil {
		s.log.Error("copy is missing", "entry", e.Key, "object", f.id.String(), "node", f.node, "err", err) // the next round repairs it
	}
	return nil
}
