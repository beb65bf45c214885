package objfile

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/mobulacloud/mobula/storage"
)

const (
	compactBelow = 0.5 // share of a segment that is still needed
	smallShare   = 16  // segments shorter than 1/16 of the full size are merged …
	smallMost    = 8   // … when there are more than so many
)

// compactAll copies what is needed out of segments that hold little of use, and removes them.
func (s *Store) compactAll(ctx context.Context) (segments int, err error) {
	for _, n := range s.compactable() {
		if err := s.interrupted(ctx); err != nil {
			return segments, err
		}
		if err := s.compactSegment(ctx, n); err != nil {
			return segments, fmt.Errorf("compact journal segment %d: %w", n, err)
		}
		segments++
		s.met.compactions.Add(1)
	}
	return segments, nil
}

// compactable lists the segments that are worth it, those with the least to copy first.
func (s *Store) compactable() []uint64 {
	type candidate struct {
		n    uint64
		live int64
	}
	var dead, small []candidate
	s.mu.Lock()
	for n, st := range s.st.segs {
		switch {
		case n >= s.st.pos.at.seg: // the active one, or newer
		case float64(st.live) < compactBelow*float64(st.length) || st.live == 0:
			dead = append(dead, candidate{n, st.live})
		case st.length < s.cfg.SegmentSize/smallShare:
			small = append(small, candidate{n, st.live})
		}
	}
	s.mu.Unlock()
	if len(small) > smallMost {
		dead = append(dead, small...)
	}
	slices.SortFunc(dead, func(a, b candidate) int { return cmp.Compare(a.live, b.live) })
	segs := make([]uint64, len(dead))
	for i, c := range dead {
		segs[i] = c.n
	}
	return segs
}

// compactSegment moves the records of a segment that are needed to the head of the journal, and then removes the segment.
//
// Needed are: puts that the index points to; marks that say an object's state; and purges of objects whose put stands in another segment that is still
// there, because without them an index that is built anew would find the object alive again.
func (s *Store) compactSegment(ctx context.Context, n uint64) error {
	seg, err := s.segs.acquire(n)
	if isNotExist(err) {
		return s.dropSegment(n)
	}
	if err != nil {
		return err
	}
	defer s.segs.release(seg)
	size, err := seg.Size()
	if err != nil {
		return err
	}
	s.mu.Lock()
	end := size
	if st := s.st.segs[n]; st != nil && st.length > segmentHeader {
		end = min(end, st.length)
	}
	s.mu.Unlock()

	var batch []*op
	var bytes int
	flush := func() error {
		errs := make(chan error, len(batch))
		for _, o := range batch {
			go func() { errs <- s.submit(o) }()
		}
		var err error
		for range batch {
			if e := <-errs; e != nil {
				err = e
			}
		}
		batch, bytes = batch[:0], 0
		return err
	}
	sc := newScanner(seg, n, s.salt, segmentHeader, end)
	for {
		r, payload, at, intact, err := sc.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		o := &op{id: r.id, at: at, seq: r.seq, victim: r.victim}
		switch r.kind {
		case kindPacked, kindFile:
			e, ok, err := s.index.lookup(r.id)
			if err != nil {
				return err
			}
			if !ok || e.at != at {
				continue
			}
			if !intact {
				if err := s.lose(ctx, r.id, e); err != nil {
					return err
				}
				continue
			}
			o.kind, o.payload = opMove, slices.Clone(payload)
		case kindMark:
			o.kind = opMoveMark
		case kindPurge, kindDamaged:
			if r.victim == n {
				continue
			}
			o.kind = opMovePurge
		}
		batch = append(batch, o)
		if bytes += len(payload); bytes >= maxBatchBytes/2 || len(batch) >= maxBatchOps/4 {
			if err := flush(); err != nil {
				return err
			}
			if err := s.interrupted(ctx); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	// Whatever the index still finds here stands in damaged bytes.
	if err := s.loseRest(ctx, n); err != nil {
		return err
	}
	// The moved records are synced. Before the segment goes, the index has to know them for good: it could not be replayed over the gap otherwise.
	if err := s.index.flush(); err != nil {
		return err
	}
	return s.dropSegment(n)
}

// lose gives up an object whose record is damaged. A deleted one is purged: there is nothing to bring back.
func (s *Store) lose(ctx context.Context, id storage.ObjectID, e entry) error {
	if e.deleted != 0 {
		defer s.lockID(id)()
		_, err := s.purge(id, e.deleted)
		return err
	}
	_, err := s.verify(ctx, id, nil) // finds out, and does what has to be done
	if err == nil {
		return fmt.Errorf("%w: %s: damaged at one reading and intact at the next", storage.ErrUnavailable, id)
	}
	return s.readOnlyError()
}

func (s *Store) loseRest(ctx context.Context, n uint64) error {
	s.mu.Lock()
	var live int64
	if st := s.st.segs[n]; st != nil {
		live = st.live
	}
	s.mu.Unlock()
	if live == 0 {
		return nil
	}
	type object struct {
		id storage.ObjectID
		e  entry
	}
	var lost []object
	err := s.index.entries(func(id storage.ObjectID, e entry) error {
		if e.at.seg == n {
			lost = append(lost, object{id, e})
		}
		return s.interrupted(ctx)
	})
	if err != nil {
		return err
	}
	for _, o := range lost {
		if err := s.lose(ctx, o.id, o.e); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) dropSegment(n uint64) error {
	if err := s.submit(&op{kind: opDrop, at: place{seg: n}}); err != nil {
		return err
	}
	s.segs.forget(n)
	if err := s.disk.Remove(segmentName(n)); err != nil && !isNotExist(err) {
		return err
	}
	return nil
}
