package objfile

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// recover opens the index and brings it up to date with the journal. An index that is found damaged on the way is built anew.
func (s *Store) recover() error {
	err := s.catchUp()
	if err == nil || !isDamage(err) {
		return err
	}
	_ = s.index.close()
	s.index = nil
	if err := s.dropIndex(err); err != nil {
		return err
	}
	return s.catchUp()
}

// catchUp writes nothing to the journal: the first change will begin a new segment, and nothing is
// ever appended behind a tail that a crash has torn.
func (s *Store) catchUp() error {
	if err := s.loadIndex(); err != nil {
		return err
	}
	numbers, err := segmentNumbers(s.disk)
	if err != nil {
		return err
	}
	c := s.index.begin()
	for n := range s.st.segs {
		if !slices.Contains(numbers, n) {
			c.drop = append(c.drop, n)
		}
	}
	for _, n := range numbers {
		if s.st.segs[n] == nil {
			s.st.segs[n] = &segmentStat{}
		}
	}
	if err := c.commit(s.st, s.salt, s.st.pos); err != nil {
		return err
	}
	ends, err := s.segmentEnds(numbers)
	if err != nil {
		return err
	}
	s.lastNumber = s.st.pos.at.seg
	s.lastSeg, s.lastEnd = s.st.pos.at.seg, s.st.pos.at.off
	for _, n := range numbers {
		s.lastNumber = max(s.lastNumber, n)
		if n >= s.st.pos.at.seg {
			if err := s.replay(n, ends[n]); err != nil {
				return err
			}
		}
	}
	for name, err := range s.disk.Names(quarantineDir) {
		if err != nil {
			return fmt.Errorf("list quarantine: %w", err)
		}
		if !strings.HasSuffix(name, orphanSuffix) {
			s.damaged++
		}
	}
	return nil
}

// loadIndex opens the index, or begins a new one if it is lost, damaged or another store's.
func (s *Store) loadIndex() error {
	if _, err := s.disk.Stat(badIndex); err == nil {
		if err := s.dropIndex(errEntry); err != nil {
			return err
		}
	}
	for try := range 2 {
		var ok bool
		x, err := openIndex(s.disk, s.cfg.IndexCache, s.cfg.Log, s.indexBroken)
		if err == nil {
			s.st, ok, err = x.load(s.salt)
			if err == nil && (ok || try > 0) {
				s.index = x
				return nil
			}
			if err == nil {
				if empty, eerr := x.empty(); eerr == nil && empty {
					s.index = x
					return nil
				}
			}
			_ = x.close()
		}
		if try > 0 {
			return err
		}
		if err := s.dropIndex(err); err != nil {
			return err
		}
	}
	return nil
}

// badIndex is a file that tells the next start not to trust the index.
const badIndex = "index.bad"

// indexBroken ends the use of an index that cannot be written or is damaged. What it still answers is verified, as everything is, by what it points to.
func (s *Store) indexBroken(err error) {
	s.setReadOnly(fmt.Errorf("index: %w: a restart repairs it", err))
	if isDamage(err) {
		if f, err := s.disk.Create(badIndex); err == nil {
			f.Close()
			_ = s.disk.SyncDir(".")
		}
	}
}

// dropIndex takes the index away.
func (s *Store) dropIndex(reason error) error {
	s.readOnly.Store(nil) // that index is not going to be used
	s.cfg.Log.Warn("index is lost, building it anew from the journal", "err", reason)
	s.met.rebuilds.Store(1)
	if err := diskfs.RemoveAll(s.disk, indexDirName); err != nil {
		return fmt.Errorf("remove index: %w", err)
	}
	if err := s.disk.Remove(badIndex); err != nil && !isNotExist(err) {
		return err
	}
	return s.disk.SyncDir(".")
}

// segmentEnds finds up to where each segment counts: the next one says so, and the last counts in full.
func (s *Store) segmentEnds(numbers []uint64) (map[uint64]int64, error) {
	ends := map[uint64]int64{}
	for _, n := range slices.Backward(numbers) {
		if n < s.st.pos.at.seg {
			break // not going to be read
		}
		head, err := readSegmentHead(s.disk, n)
		if err == nil && head.prev != 0 {
			if end, ok := ends[head.prev]; !ok || head.prevEnd < end {
				ends[head.prev] = head.prevEnd
			}
		} else if err != nil && !errors.Is(err, errRecord) {
			return nil, err
		}
	}
	return ends, nil
}

// suspect is a put whose content does not agree with its check sum. If its batch was the last, it was never acknowledged and is void;
// if another followed, it is damaged, and reading it will say so.
type suspect struct {
	rec  record
	had  bool
	prev entry
}

// replay applies the records of a segment from the index's position on, up to end if that is known (> 0).
func (s *Store) replay(n uint64, end int64) error {
	f, err := s.disk.Open(segmentName(n))
	if err != nil {
		return err
	}
	defer f.Close()
	// What a predecessor wrote but did not get synced must be on the disk before anybody sees it; and it must be read from the disk, because
	// after a failed sync the page cache may hold what the disk never got.
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync segment %d: %w", n, err)
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	f.Forget(0, size)
	if end <= 0 || end > size {
		end = size
	}
	from := int64(segmentHeader)
	if n == s.st.pos.at.seg {
		from = max(from, s.st.pos.at.off)
	}
	sc := newScanner(f, n, s.salt, from, end)
	c := s.index.begin()
	pos := s.st.pos
	pos.at = place{n, from}
	var suspects []suspect
	var records, lastBatch, gap uint64 // gap: the batch that followed bytes that are no record
	flush := func() error {
		err := c.commit(s.st, s.salt, pos)
		c = s.index.begin()
		return err
	}
	for {
		r, _, at, intact, err := sc.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
		}
		if r.seq <= pos.seq && intact {
			continue // a record that is older than what stands before it cannot be
		}
		sl, err := c.get(r.id)
		if err != nil {
			return err
		}
		if sc.skipped {
			gap, sc.skipped = r.batch, false
		}
		if !intact {
			suspects = append(suspects, suspect{r, sl.has, sl.is})
		} else {
			lastBatch = max(lastBatch, r.batch)
			pos.seq, pos.batch = r.seq, max(pos.batch, r.batch)
			pos.at = place{n, sc.off}
		}
		if err := c.apply(&r, at); err != nil {
			return err
		}
		if records++; records%4096 == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	for _, u := range slices.Backward(suspects) {
		sl, err := c.get(u.rec.id)
		if err != nil {
			return err
		}
		if u.rec.batch < lastBatch {
			pos.seq = max(pos.seq, u.rec.seq)
		} else if sl.has && sl.is.seq == u.rec.seq {
			sl.has, sl.is = u.had, u.prev
		}
	}
	if gap != 0 && gap < lastBatch { // a crash tears the last batch alone
		s.cfg.Log.Error("journal segment is damaged: it holds bytes that are no record", "segment", n)
		s.met.skipped.Add(1)
		if s.cfg.OnDamage != nil {
			s.cfg.OnDamage(Damage{Reason: fmt.Sprintf("journal segment %d holds bytes that are no record", n)})
		}
	}
	s.met.replayed.Add(int64(records))
	s.lastSeg, s.lastEnd = n, pos.at.off
	return flush()
}
