package audit

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
)

// A slice is the part of a round that is under way.
type slice struct {
	*Auditor
	claim *claim
	n, of int
	begun time.Time
	paced time.Time // when what was granted so far is used up

	listed *filter         // copies on nodes
	nodes  map[string]bool // whose listing is whole
	named  *filter         // places and objects that records name
	read   bool            // all of the records

	orphans []found
	tally   map[string]*tally // by node
	strays  strays
}

// A found is a copy that may have to go.
type found struct {
	id   storage.ObjectID
	node string
	size int64
}

func (a *Auditor) slice(ctx context.Context, c *claim, n, of int) error {
	copies, err := a.copies(ctx)
	if err != nil {
		return err
	}
	copies = copies/int64(of) + copies/int64(8*of) + 1000 // slices differ, and objects come meanwhile
	s := &slice{
		Auditor: a, claim: c, n: n, of: of, begun: a.cfg.Now(), paced: time.Now(),
		listed: newFilter(copies), nodes: map[string]bool{}, named: newFilter(2 * copies), tally: map[string]*tally{},
	}
	if err := s.list(ctx); err != nil {
		return err
	}
	if err := c.pause(ctx, a.cfg.Settle); err != nil {
		return err
	}
	if err := s.readRecords(ctx); err != nil {
		return err
	}
	if err := s.judge(ctx); err != nil {
		return err
	}
	if err := s.removeOrphans(ctx); err != nil {
		return err
	}
	return s.resolveStrays(ctx)
}

// mine reports whether an object is in this slice. Object ids are random, so their own bits divide them evenly.
func (s *slice) mine(id storage.ObjectID) bool {
	return s.of == 1 || binary.BigEndian.Uint32(id.Object[12:])%uint32(s.of) == uint32(s.n)
}

// pace grants n things to look at.
func (s *slice) pace(ctx context.Context, n int) error {
	if err := s.claim.alive(ctx); err != nil || s.cfg.Rate < 0 {
		return err
	}
	now := time.Now()
	if s.paced.Before(now) {
		s.paced = now
	}
	s.paced = s.paced.Add(time.Duration(n) * time.Second / time.Duration(s.cfg.Rate))
	if ahead := s.paced.Sub(now); ahead > 100*time.Millisecond {
		return pause(ctx, ahead)
	}
	return nil
}

// each yields all copies of a node that are in this slice. It takes them by pages, so that no listing stays open while it is being paced.
func (s *slice) each(ctx context.Context, node storage.Node, do func(storage.Info)) error {
	const size = 8192
	page := make([]storage.Info, 0, size)
	var after storage.ObjectID
	for {
		page = page[:0]
		for info, err := range node.List(ctx, after) {
			if err != nil {
				return err
			}
			if page = append(page, info); len(page) == size {
				break
			}
		}
		for _, info := range page {
			if s.mine(info.ID) {
				do(info)
			}
		}
		s.count(func(m *Metrics) { m.Copies += uint64(len(page)) })
		if len(page) < size {
			return nil
		}
		after = page[size-1].ID
		if err := s.pace(ctx, size); err != nil {
			return err
		}
	}
}

// list is step 1.
func (s *slice) list(ctx context.Context) error {
	unchecked := 0
	for _, name := range s.cfg.Names() {
		node, err := s.node(name)
		if err == nil {
			err = s.each(ctx, node, func(info storage.Info) { s.listed.add(s.listed.copy(info.ID, name, info.Size, info.MD5)) })
		}
		if e := s.claim.alive(ctx); e != nil {
			return e
		}
		if err != nil {
			unchecked++
			s.log.Warn("audit leaves out a node that cannot be listed", "node", name, "err", err)
			continue
		}
		s.nodes[name] = true
	}
	s.count(func(m *Metrics) { m.UncheckedNodes = unchecked })
	return nil
}

// readRecords is step 3. The order matters: see the package documentation.
func (s *slice) readRecords(ctx context.Context) error {
	for _, claims := range append([]claims{s.cfg.Namespace.Announced}, s.cfg.Claims...) {
		for id, err := range claims(ctx) {
			if err != nil {
				return fmt.Errorf("read claims: %w", err)
			}
			s.name(id)
			if err := s.pace(ctx, 1); err != nil {
				return err
			}
		}
	}
	if err := s.cfg.Repair.Restore(ctx, s.suspects(ctx)); err != nil {
		return err
	}
	if !s.read {
		return errors.New("audit: repair has not read all entries")
	}
	for d, err := range s.cfg.Namespace.Deletions(ctx, s.cfg.Now().AddDate(1, 0, 0)) {
		if err != nil {
			return err
		}
		if id, err := storage.ParseObjectID(d.Owner + "/" + d.ObjectID); err == nil {
			s.name(id)
		}
		if err := s.pace(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

// name notes an object that is not to be touched on any node.
func (s *slice) name(id storage.ObjectID) {
	if !s.mine(id) {
		return
	}
	s.named.add(s.named.object(id))
	for node := range s.nodes {
		s.named.add(s.named.place(id, node))
	}
}

// suspects reads all entries, notes what they name, and yields those that lack a copy.
func (s *slice) suspects(ctx context.Context) iter.Seq2[*manta.Entry, error] {
	return func(yield func(*manta.Entry, error) bool) {
		for e, err := range s.cfg.Namespace.Objects(ctx) {
			if err == nil {
				err = s.pace(ctx, 1)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			lacks, err := s.look(ctx, e)
			if err != nil {
				yield(nil, err)
				return
			}
			if lacks && !yield(e, nil) {
				return
			}
		}
		s.read = true
	}
}

// look notes what an entry names and reports whether one of its copies has to be repaired.
func (s *slice) look(ctx context.Context, e *manta.Entry) (lacks bool, err error) {
	s.count(func(m *Metrics) { m.Entries++ })
	id, err := e.BytesID()
	if err != nil {
		// Its bytes cannot be known by it, so they would seem to be orphans.
		return false, fmt.Errorf("entry %s names no object: %w", e.Key, err)
	}
	if !s.mine(id) {
		return false, nil
	}
	s.named.add(s.named.object(id))
	for _, shark := range e.Sharks {
		s.named.add(s.named.place(id, shark.Node))
	}
	b, err := base64.StdEncoding.DecodeString(e.MD5)
	if err != nil || len(b) != 16 {
		s.log.Error("entry has a malformed sum", "entry", e.Key)
		return false, nil
	}
	if e.Mtime.After(s.begun.Add(-time.Minute)) {
		return false, nil // newer than the listing; its turn comes
	}
	for _, shark := range e.Sharks {
		if !s.present(ctx, id, e, [16]byte(b), shark.Node) {
			lacks = true
		}
	}
	return lacks, ctx.Err()
}

// present reports whether a copy is as its entry says, or cannot be asked for now.
func (s *slice) present(ctx context.Context, id storage.ObjectID, e *manta.Entry, sum [16]byte, name string) bool {
	if s.cfg.Nodes.Standing(name) == durable.Lost {
		s.count(func(m *Metrics) { m.Missing++ })
		return false // whole nodes are given up by an operator, who knows it
	}
	if !s.nodes[name] || s.listed.has(s.listed.copy(id, name, e.Size, sum)) {
		return true
	}
	node, err := s.node(name)
	if err != nil {
		return true
	}
	info, err := node.Stat(ctx, id)
	switch {
	case err == nil && info.Size == e.Size && info.MD5 == sum:
		return true // it came after the listing
	case err == nil, errors.Is(err, storage.ErrCorrupt):
		s.count(func(m *Metrics) { m.Wrong++ })
		s.log.Error("copy is not what its entry says", "entry", e.Key, "object", id.String(), "node", name, "size", info.Size, "want", e.Size, "err", err)
		return false
	case errors.Is(err, storage.ErrNotFound):
		s.count(func(m *Metrics) { m.Missing++ })
		s.log.Error("copy is missing", "entry", e.Key, "object", id.String(), "node", name)
		return false
	}
	return true
}

// whole reports whether every copy that an entry names is as it says.
func (s *slice) whole(ctx context.Context, e *manta.Entry, id storage.ObjectID) bool {
	b, err := base64.StdEncoding.DecodeString(e.MD5)
	if err != nil || len(b) != 16 {
		return false
	}
	return len(e.Sharks) > 0 && !slices.ContainsFunc(e.Sharks, func(shark storage.Shark) bool {
		node, err := s.node(shark.Node)
		if err != nil {
			return true
		}
		info, err := node.Stat(ctx, id)
		return err != nil || info.Size != e.Size || info.MD5 != [16]byte(b)
	})
}
