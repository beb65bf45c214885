package objfile

import (
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

type opKind int

const (
	opPut       opKind = iota // sums, payload, file
	opDelete                  // an object
	opUndelete                // an object
	opPurge                   // a deleted object, if it still is the one deleted at stamp
	opDamaged                 // an object, if it still is record seq
	opVerified                // an object, if it still is record seq: verified at stamp. In the index alone
	opMove                    // record at, with payload, to the head of the journal, if an object still is there
	opMoveMark                // mark seq, likewise
	opMovePurge               // purge of victim, held in segment at.seg
	opDrop                    // segment at.seg has no record left that is needed
)

// op is one change on its way through the committer.
type op struct {
	kind    opKind
	id      storage.ObjectID
	sums    storage.Sums
	payload []byte
	file    bool
	at      place
	seq     uint64
	victim  uint64
	stamp   int64

	rec  *record // what it appends to the journal
	was  entry   // the object before, for purge and damage
	did  bool    // the change was made, rather than found made or void
	info storage.Info
	err  error
	done chan struct{}
}

const (
	maxBatchOps   = 1024
	maxBatchBytes = 4 << 20
	prepareFrom   = 1 << 20  // bytes of a segment after which the next is prepared
	flushEvery    = 64 << 20 // bytes of journal between flushes of the index: bounds the replay after a crash
)

// errTombstoned tells a put that a deleted object's file has the name; it has to go first.
var errTombstoned = errors.New("objfile: the name belongs to a deleted object")

// submit hands a change to the committer and waits for its fate. The caller keeps op.payload unchanged meanwhile, and is inside the store's door or part
// of its background.
func (s *Store) submit(o *op) error {
	o.done = make(chan struct{}, 1)
	s.ops <- o
	<-o.done
	return o.err
}

// commitLoop is the one goroutine that writes the journal: it takes all changes that wait, no longer than that, writes them at once, syncs once, brings them
// into the index, and then answers them all. So the more writers there are, the more share a sync, and one alone waits for nobody.
func (s *Store) commitLoop() {
	batch := make([]*op, 0, maxBatchOps)
	for {
		o, ok := <-s.ops
		if !ok {
			return
		}
		if len(batch) > 1 {
			// There is a crowd. Those who are ready to run come first: where the processor is the bottleneck this makes batches large instead of
			// many, and where nobody is ready it costs nothing.
			runtime.Gosched()
		}
		batch = append(batch[:0], o)
		bytes := len(o.payload)
	drain:
		for len(batch) < maxBatchOps && bytes < maxBatchBytes {
			select {
			case o, ok = <-s.ops:
				if !ok {
					break drain
				}
				batch = append(batch, o)
				bytes += len(o.payload)
			default:
				break drain
			}
		}
		s.commitBatch(batch)
		for i, o := range batch { // their number stays, for the next round
			o.payload = nil
			o.done <- struct{}{}
			batch[i] = nil
		}
	}
}

func (s *Store) commitBatch(batch []*op) {
	fail := func(err error) {
		for _, o := range batch {
			if o.err == nil {
				o.err = err
			}
		}
	}
	if err := s.readOnlyError(); err != nil {
		fail(err)
		return
	}
	if s.index.full.Load() {
		fail(fmt.Errorf("%w: for the index", storage.ErrNoSpace))
		return
	}
	var most int64
	for _, o := range batch {
		most += headerSize + pad8(int64(len(o.payload)))
	}
	large := most >= s.cfg.largeBatch
	if large {
		most += 2 * diskfs.Align // before it and after
	}
	if err := s.makeRoom(most); err != nil {
		fail(err)
		return
	}
	c := s.index.begin()
	pos := s.st.pos
	pos.batch++
	pos.at = place{s.active.n, s.end}
	if large {
		pos.at.off = aligned(s.end)
	}
	from := pos.at.off
	buf := s.batch(most)
	now := s.cfg.Now()
	for _, o := range batch {
		if o.err = s.decide(c, o, now); o.err != nil || o.rec == nil {
			continue
		}
		pos.seq++
		o.rec.seq, o.rec.batch = pos.seq, pos.batch
		o.rec.payloadLen = int64(len(o.payload))
		if o.kind == opPut && !o.file {
			o.rec.payloadCRC = o.sums.CRC32C // which the writer has computed itself
		} else {
			o.rec.payloadCRC = checksum(o.payload)
		}
		if o.err = c.apply(o.rec, pos.at); o.err != nil {
			continue
		}
		start := len(buf)
		buf = o.rec.append(buf, s.salt, pos.at)
		buf = append(buf, o.payload...)
		buf = append(buf, make([]byte, pad8(int64(len(buf)-start))-int64(len(buf)-start))...)
		pos.at.off += int64(len(buf) - start)
	}
	if len(buf) > 0 {
		if large {
			pad := aligned(int64(len(buf))) - int64(len(buf))
			buf = append(buf, make([]byte, pad)...)
			pos.at.off += pad
		}
		if err := s.write(buf, from, large); err != nil {
			fail(err)
			return
		}
	}
	s.mu.Lock()
	err := c.commit(s.st, s.salt, pos)
	s.end = pos.at.off
	s.mu.Unlock()
	if err != nil {
		// The journal has it, so the next start has it; this one does not.
		s.setReadOnly(fmt.Errorf("%w: restart to rebuild it", err))
		fail(fmt.Errorf("%w: %w", storage.ErrUnavailable, err))
		return
	}
	for _, o := range batch {
		if o.err == nil && o.kind == opPut {
			e := c.slots[o.id].is
			o.info = e.info(o.id)
		}
	}
	s.met.batches.Add(1)
	s.met.records.Add(int64(len(batch)))
	s.met.journalBytes.Add(int64(len(buf)))
	if s.end > prepareFrom && s.next.Load() == nil {
		select {
		case s.prepare <- struct{}{}:
		default:
		}
	}
	if s.unflushed += int64(len(buf)); s.unflushed >= flushEvery {
		s.unflushed = 0
		if _, err := s.index.db.AsyncFlush(); err != nil {
			s.setReadOnly(fmt.Errorf("index: %w", err))
		}
	}
}

// decide finds out what a change means now, after all that came before it, and fills op.rec if that has to be written.
func (s *Store) decide(c *change, o *op, now time.Time) error {
	if o.kind == opDrop {
		c.drop = append(c.drop, o.at.seg)
		o.did = true
		return nil
	}
	sl, err := c.get(o.id)
	if err != nil {
		return err
	}
	e := &sl.is
	switch o.kind {
	case opPut:
		switch {
		case sl.has && e.deleted == 0:
			if !e.same(o.sums) {
				return fmt.Errorf("%w: %s", storage.ErrExist, o.id)
			}
			return nil
		case sl.has && e.file:
			return errTombstoned
		}
		o.rec = &record{kind: kindPacked, id: o.id, size: o.sums.Size, md5: o.sums.MD5, crc: o.sums.CRC32C, created: now.UnixNano()}
		if o.file {
			o.rec.kind = kindFile
		}
	case opDelete:
		if sl.has && e.deleted == 0 {
			o.rec = &record{kind: kindMark, id: o.id, deleted: now.UnixNano()}
		}
	case opUndelete:
		switch {
		case !sl.has, e.deleted != 0 && s.expired(e.deleted, now):
			return fmt.Errorf("%w: %s", storage.ErrNotFound, o.id)
		case e.deleted != 0:
			o.rec = &record{kind: kindMark, id: o.id}
		}
	case opPurge:
		if sl.has && e.deleted != 0 && e.deleted == o.stamp {
			o.was = *e
			o.rec = &record{kind: kindPurge, id: o.id, victim: e.at.seg}
		}
	case opDamaged:
		if sl.has && e.seq == o.seq {
			o.was = *e
			o.rec = &record{kind: kindDamaged, id: o.id, victim: e.at.seg}
		}
	case opVerified:
		if sl.has && e.seq == o.seq && e.deleted == 0 {
			e.verified = max(e.verified, o.stamp)
			o.did = true
		}
	case opMove:
		if sl.has && e.at == o.at {
			o.rec = &record{kind: kindPacked, id: o.id, size: e.size, md5: e.md5, crc: e.crc, created: e.created, deleted: e.deleted}
			if e.file {
				o.rec.kind = kindFile
			}
		}
	case opMoveMark:
		if sl.has && e.markSeq == o.seq {
			o.rec = &record{kind: kindMark, id: o.id, deleted: e.deleted}
		}
	case opMovePurge:
		if s.st.segs[o.victim] == nil {
			break
		}
		c.refs = append(c.refs, purgeRef{o.victim, o.at.seg, -headerSize})
		if !sl.has { // else a later put is in force, and this purge, written anew, would end it
			o.rec = &record{kind: kindPurge, id: o.id, victim: o.victim}
		}
	}
	o.did = o.did || o.rec != nil
	return nil
}

func (s *Store) expired(deleted int64, now time.Time) bool {
	return s.cfg.Grace < 0 || now.UnixNano()-deleted >= int64(s.cfg.Grace)
}

// aligned rounds up to a block of the disk.
func aligned(n int64) int64 { return (n + diskfs.Align - 1) &^ (diskfs.Align - 1) }

// batch returns an empty buffer for a batch of at most n bytes, aligned for direct writing.
func (s *Store) batch(n int64) []byte {
	if n > 2*maxBatchBytes {
		return alignedBuffer(int(n))[:0] // too large to keep
	}
	if int64(cap(s.batchBuf)) < n {
		s.batchBuf = alignedBuffer(int(max(n, min(2*int64(cap(s.batchBuf)), 2*maxBatchBytes))))
	}
	return s.batchBuf[:0]
}

// write writes to the active segment, from its end or the block after it on, and syncs it. After an error nothing of buf counts.
//
// A large batch goes past the page cache where that works: a copy into fresh pages costs more than all else that is done with its bytes. It shares no
// block with what was written before or comes after, so the two ways never meet in one page.
func (s *Store) write(buf []byte, off int64, large bool) error {
	if large != s.direct && s.active.SetDirect(large) {
		s.direct = large
	}
	if s.direct && !large {
		return s.broken("journal", errors.ErrUnsupported) // it does not leave direct mode
	}
	if _, err := s.active.WriteAt(buf, off); err != nil {
		if !diskfs.NoSpace(err) {
			return s.broken("journal write", err)
		}
		// What was written in part must not come to life after a crash.
		if terr := errors.Join(s.active.Truncate(s.end), s.active.Sync()); terr != nil {
			return s.broken("journal", terr)
		}
		s.prepared = false
		return fmt.Errorf("%w: journal write: %w", storage.ErrNoSpace, err)
	}
	if err := s.active.Sync(); err != nil {
		// Nobody knows what is on the disk now, and a second sync that succeeds would not tell either.
		return s.broken("journal sync", err)
	}
	return nil
}

// broken ends all changes because of a fault of the disk.
func (s *Store) broken(what string, err error) error {
	s.setReadOnly(fmt.Errorf("%s: %w", what, err))
	return fmt.Errorf("%w: %s: %w", storage.ErrUnavailable, what, err)
}

// retire ends the active segment, if there is one.
func (s *Store) retire() {
	if s.active == nil {
		return
	}
	s.lastSeg, s.lastEnd = s.active.n, s.end
	s.active.Close()
	s.active = nil
}

// makeRoom sees to an active segment with room for n bytes.
func (s *Store) makeRoom(n int64) error {
	if s.active != nil {
		full := s.end > segmentHeader && s.end+n > s.cfg.SegmentSize
		better := !s.prepared && s.next.Load() != nil // a segment of written zeros syncs twice as fast
		if !full && !better {
			return nil
		}
	}
	return s.roll()
}

// roll starts a new segment.
func (s *Store) roll() error {
	number := s.lastNumber + 1
	prev, prevEnd := s.lastSeg, s.lastEnd
	if s.active != nil {
		prev, prevEnd = s.active.n, s.end
	}
	name := segmentName(number)
	f, prepared := diskfs.File(nil), false
	if next := s.next.Swap(nil); next != nil {
		if err := s.disk.Rename(nextSegment, name); err != nil {
			next.f.Close()
			return s.rollFailed("rename", err)
		}
		f, prepared = next.f, true
	}
	s.lastNumber = number // never again, whatever becomes of it
	if f == nil {
		var err error
		if f, err = s.disk.Create(name); err != nil {
			return s.rollFailed("create", err)
		}
		// On the last of the space a segment does without it, so that deletes still work.
		if err := f.Preallocate(s.cfg.SegmentSize); err != nil && !diskfs.NoSpace(err) {
			f.Close()
			return s.rollFailed("preallocate", errors.Join(err, s.disk.Remove(name)))
		}
	}
	_, err := f.WriteAt(segmentHead{number: number, salt: s.salt, prev: prev, prevEnd: prevEnd}.encode(), 0)
	if err == nil {
		if err = f.Sync(); err == nil {
			err = s.disk.SyncDir(journalDir)
		}
		if err != nil {
			f.Close()
			return s.broken("journal sync", err)
		}
	} else {
		f.Close()
		return s.rollFailed("write", errors.Join(err, s.disk.Remove(name)))
	}
	if s.active != nil {
		_ = s.active.Truncate(s.end) // gives back the zeros; if it fails they stay
		s.retire()
	}
	s.active, s.prepared, s.direct = &segment{File: f, n: number}, prepared, false // readers open their own, which is never in direct mode
	s.mu.Lock()
	s.end = segmentHeader
	s.st.segs[number] = &segmentStat{length: s.end}
	s.mu.Unlock()
	return nil
}

func (s *Store) rollFailed(what string, err error) error {
	if diskfs.NoSpace(err) {
		return fmt.Errorf("%w: %s journal segment: %w", storage.ErrNoSpace, what, err)
	}
	return s.broken(what+" journal segment", err)
}
