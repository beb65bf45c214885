package objfile

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs/pebblefs"
)

// index finds objects. It is a cache of the journal: every batch of changes goes in together with the journal's position after it, without a sync or
// a log of its own, so that whatever survives a crash is the state at some earlier position, and replay goes on from there.
type index struct {
	db    *pebble.DB
	cache *pebble.Cache

	full atomic.Bool // the disk has no room for it at the moment

	mu     sync.Mutex
	failed chan struct{} // closed, and replaced, when background work fails
}

// retryPause slows down pebble's endless repetition of background work that fails; it is spent while pebble's lock is held, which readers do not need.
const retryPause = 50 * time.Millisecond

const (
	indexDirName = "index"
	memTableSize = 8 << 20 // changes in memory
	memTables    = 3       // at most; pebble takes them out of its cache
)

// openIndex opens the index; broken is called, possibly on another goroutine, when it can no longer be written.
// If the reason is damage, isDamage is true of the error.
func openIndex(disk diskfs.FS, cacheSize int64, log *slog.Logger, broken func(error)) (*index, error) {
	var fs vfs.FS = pebblefs.New(disk)
	dir := indexDirName
	if real, ok := disk.(*diskfs.OS); ok {
		fs, dir = vfs.Default, filepath.Join(real.Dir(), indexDirName)
	}
	x := &index{cache: pebble.NewCache(cacheSize + memTables*memTableSize), failed: make(chan struct{})}
	o := &pebble.Options{
		FS:                          fs,
		Cache:                       x.cache,
		DisableWAL:                  true,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       2,
		MaxOpenFiles:                512,
		FormatMajorVersion:          pebble.FormatNewest,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		Logger:                      indexLog{log, broken},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				if diskfs.NoSpace(err) {
					x.full.Store(true) // passes; but until then changes would fill the memory, and then hang
				} else {
					broken(err)
				}
				x.mu.Lock()
				close(x.failed)
				x.failed = make(chan struct{})
				x.mu.Unlock()
				time.Sleep(retryPause)
			},
			FlushEnd: func(info pebble.FlushInfo) {
				if info.Err == nil {
					x.full.Store(false)
				}
			},
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				broken(fmt.Errorf("%w: %w", errEntry, info.Details))
			},
		},
	}
	o.Experimental.L0CompactionConcurrency = 1
	// Nearly every put looks for an id that is not there, so filters decide the speed: small files keep each of them small enough to stay in the cache.
	o.TargetFileSizes[0] = 2 << 20
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].IndexBlockSize = 64 << 10
		if i > 0 {
			o.TargetFileSizes[i] = min(2*o.TargetFileSizes[i-1], 8<<20)
		}
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	db, err := pebble.Open(dir, o)
	if err != nil {
		x.cache.Unref()
		return nil, fmt.Errorf("open index: %w", err)
	}
	x.db = db
	return x, nil
}

// flush makes the index durable as it is. It does not wait for a disk that fails: what is not flushed will be replayed.
func (x *index) flush() error {
	x.mu.Lock()
	failed := x.failed
	x.mu.Unlock()
	done, err := x.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("%w: flush index: %w", storage.ErrUnavailable, err)
	}
	select {
	case <-done:
		return nil
	case <-failed:
		return fmt.Errorf("%w: flush index: the disk fails", storage.ErrUnavailable)
	}
}

// isDamage tells damage of the index, which a rebuild cures, from a disk that does not answer.
func isDamage(err error) bool { return errors.Is(err, errEntry) || pebble.IsCorruptionError(err) }

func (x *index) close() error {
	err := x.db.Close()
	x.cache.Unref()
	return err
}

// indexLog passes what pebble says on. What pebble calls fatal makes the node read-only; it must not end the process.
type indexLog struct {
	log    *slog.Logger
	broken func(error)
}

func (l indexLog) Infof(string, ...any) {}
func (l indexLog) Errorf(format string, args ...any) {
	l.log.Error("index", "err", fmt.Sprintf(format, args...))
}
func (l indexLog) Fatalf(format string, args ...any) { l.broken(fmt.Errorf(format, args...)) }

// lookup finds an object, deleted or not.
func (x *index) lookup(id storage.ObjectID) (entry, bool, error) {
	var key [33]byte
	b, closer, err := x.db.Get(objectKey(key[:0], id))
	if errors.Is(err, pebble.ErrNotFound) {
		return entry{}, false, nil
	}
	if err != nil {
		return entry{}, false, fmt.Errorf("index: %w", err)
	}
	defer closer.Close()
	e, err := parseEntry(b)
	return e, err == nil, err
}

// position is how far into the journal the index reaches.
type position struct {
	at    place
	seq   uint64 // of the last record
	batch uint64 // of the last group commit
}

type totals struct{ objects, bytes, tombstones int64 }

// segmentStat is what the index knows of a segment.
type segmentStat struct {
	length int64
	live   int64 // bytes of records that are still needed
}

// state is what the index says in sum. It belongs to the committer; others look at it under the store's lock.
type state struct {
	pos    position
	totals totals
	segs   map[uint64]*segmentStat
	refs   map[uint64]map[uint64]int64 // victim → holder → bytes of purge records
}

var (
	keyPosition = []byte("mposition")
	keyTotals   = []byte("mtotals")
	keySalt     = []byte("msalt")
)

// load reads the state. Nothing there, or another salt, is ok = false: the index is of no use.
func (x *index) load(salt uint64) (st *state, ok bool, err error) {
	st = &state{segs: map[uint64]*segmentStat{}, refs: map[uint64]map[uint64]int64{}}
	get := func(key []byte, n int) ([]byte, error) {
		b, closer, err := x.db.Get(key)
		if err != nil {
			return nil, err
		}
		defer closer.Close()
		if len(b) != n {
			return nil, errEntry
		}
		return append([]byte(nil), b...), nil
	}
	b, err := get(keySalt, 8)
	if errors.Is(err, pebble.ErrNotFound) {
		return st, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if binary.LittleEndian.Uint64(b) != salt {
		return st, false, nil
	}
	u64 := func(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	if b, err = get(keyPosition, 32); err != nil {
		return nil, false, err
	}
	st.pos = position{place{u64(b, 0), int64(u64(b, 1))}, u64(b, 2), u64(b, 3)}
	if b, err = get(keyTotals, 24); err != nil {
		return nil, false, err
	}
	st.totals = totals{int64(u64(b, 0)), int64(u64(b, 1)), int64(u64(b, 2))}
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixPurge}, UpperBound: []byte{prefixSegment + 1}})
	if err != nil {
		return nil, false, err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		key := it.Key()
		b, err := it.ValueAndErr()
		if err != nil {
			return nil, false, err
		}
		switch {
		case key[0] == prefixPurge && len(key) == 17 && len(b) == 8:
			st.ref(binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:]), int64(u64(b, 0)))
		case key[0] == prefixSegment && len(key) == 9 && len(b) == 16:
			st.segs[binary.BigEndian.Uint64(key[1:])] = &segmentStat{int64(u64(b, 0)), int64(u64(b, 1))}
		default:
			return nil, false, errEntry
		}
	}
	return st, true, it.Error()
}

func (st *state) ref(victim, holder uint64, n int64) {
	m := st.refs[victim]
	if m == nil {
		m = map[uint64]int64{}
		st.refs[victim] = m
	}
	if m[holder] += n; m[holder] <= 0 {
		delete(m, holder)
	}
}

func (st *state) live(seg uint64, n int64) {
	if s := st.segs[seg]; s != nil {
		s.live += n
	}
}

// slot is one object in the course of a batch: as the index has it, and as it will be.
type slot struct {
	was, is  entry
	had, has bool
}

// change is a batch of changes to the index.
type change struct {
	x     *index
	slots map[storage.ObjectID]*slot
	refs  []purgeRef
	drop  []uint64 // segments that are gone
}

type purgeRef struct {
	victim, holder uint64
	n              int64
}

func (x *index) begin() *change {
	return &change{x: x, slots: map[storage.ObjectID]*slot{}}
}

func (c *change) get(id storage.ObjectID) (*slot, error) {
	if s := c.slots[id]; s != nil {
		return s, nil
	}
	e, ok, err := c.x.lookup(id)
	if err != nil {
		return nil, err
	}
	s := &slot{was: e, is: e, had: ok, has: ok}
	c.slots[id] = s
	return s, nil
}

// apply says what a record, old or new, means.
func (c *change) apply(r *record, at place) error {
	s, err := c.get(r.id)
	if err != nil {
		return err
	}
	switch r.kind {
	case kindPacked, kindFile:
		verified := r.created / 1e9
		if s.has && s.is.created == r.created { // moved
			verified = s.is.verified
		}
		s.has, s.is = true, entry{
			at: at, length: r.length(), seq: r.seq, file: r.kind == kindFile, size: r.size, md5: r.md5, crc: r.crc,
			created: r.created, deleted: r.deleted, verified: verified,
		}
	case kindMark:
		if s.has {
			s.is.deleted, s.is.mark, s.is.markSeq = r.deleted, at.seg, r.seq
		}
	case kindPurge, kindDamaged:
		s.has, s.is = false, entry{}
		if r.victim != at.seg {
			c.refs = append(c.refs, purgeRef{r.victim, at.seg, headerSize})
		}
	}
	return nil
}

// commit brings the change into state and index. Nothing is synced.
func (c *change) commit(st *state, salt uint64, pos position) error {
	b := c.x.db.NewBatch()
	defer b.Close()
	touched := map[uint64]bool{}
	count := func(e *entry, sign int64) {
		if e.deleted == 0 {
			st.totals.objects += sign
			st.totals.bytes += sign * e.size
		} else {
			st.totals.tombstones += sign
		}
		st.live(e.at.seg, sign*e.length)
		touched[e.at.seg] = true
		if e.mark != 0 {
			st.live(e.mark, sign*headerSize)
			touched[e.mark] = true
		}
	}
	queue := func(e *entry) (byte, int64) {
		if e.deleted != 0 {
			return prefixDeleted, e.deleted
		}
		return prefixVerified, e.verified
	}
	var kb [48]byte
	var vb [entrySize]byte
	var errs error
	keep := func(err error) { errs = errors.Join(errs, err) }
	// In order, and one kind of key after the other: the engine then finds the place of each beside that of the one before.
	ids := make([]storage.ObjectID, 0, len(c.slots))
	for id, s := range c.slots {
		if s.had != s.has || s.was != s.is {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b storage.ObjectID) int {
		return cmp.Or(bytes.Compare(a.Owner[:], b.Owner[:]), bytes.Compare(a.Object[:], b.Object[:]))
	})
	for _, id := range ids {
		s := c.slots[id]
		if s.had {
			count(&s.was, -1)
		}
		if s.has {
			count(&s.is, 1)
			keep(b.Set(objectKey(kb[:0], id), s.is.append(vb[:0]), nil))
		} else {
			keep(b.Delete(objectKey(kb[:0], id), nil))
		}
	}
	for _, id := range ids {
		s := c.slots[id]
		var oldP, newP byte
		var oldAt, newAt int64
		if s.had {
			oldP, oldAt = queue(&s.was)
		}
		if s.has {
			newP, newAt = queue(&s.is)
		}
		if oldP == newP && oldAt == newAt {
			continue
		}
		if s.had {
			keep(b.Delete(queueKey(kb[:0], oldP, oldAt, id), nil))
		}
		if s.has {
			keep(b.Set(queueKey(kb[:0], newP, newAt, id), nil, nil))
		}
	}
	u64 := binary.LittleEndian.AppendUint64
	for _, r := range c.refs {
		if st.segs[r.victim] == nil {
			continue // the victim is gone: the purge has done its work
		}
		st.ref(r.victim, r.holder, r.n)
		st.live(r.holder, r.n)
		touched[r.holder] = true
		if n := st.refs[r.victim][r.holder]; n > 0 {
			keep(b.Set(purgeKey(r.victim, r.holder), u64(nil, uint64(n)), nil))
		} else {
			keep(b.Delete(purgeKey(r.victim, r.holder), nil))
		}
	}
	for _, n := range c.drop {
		for holder, bytes := range st.refs[n] {
			st.live(holder, -bytes)
			touched[holder] = true
			keep(b.Delete(purgeKey(n, holder), nil))
		}
		for victim, holders := range st.refs {
			if holders[n] > 0 {
				delete(holders, n)
				keep(b.Delete(purgeKey(victim, n), nil))
			}
		}
		delete(st.refs, n)
		delete(st.segs, n)
		keep(b.Delete(segmentKey(n), nil))
	}
	if s := st.segs[pos.at.seg]; s != nil {
		s.length = pos.at.off
		touched[pos.at.seg] = true
	}
	for n := range touched {
		if s := st.segs[n]; s != nil {
			keep(b.Set(segmentKey(n), u64(u64(nil, uint64(s.length)), uint64(s.live)), nil))
		}
	}
	st.pos = pos
	keep(b.Set(keySalt, u64(nil, salt), nil))
	keep(b.Set(keyPosition, u64(u64(u64(u64(nil, pos.at.seg), uint64(pos.at.off)), pos.seq), pos.batch), nil))
	keep(b.Set(keyTotals, u64(u64(u64(nil, uint64(st.totals.objects)), uint64(st.totals.bytes)), uint64(st.totals.tombstones)), nil))
	if errs != nil {
		return fmt.Errorf("index: %w", errs)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	return nil
}

// entries yields all objects, deleted or not.
func (x *index) entries(f func(storage.ObjectID, entry) error) error {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixObject}, UpperBound: []byte{prefixObject + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		id, ok := objectOf(it.Key())
		b, err := it.ValueAndErr()
		if err == nil && !ok {
			err = errEntry
		}
		if err != nil {
			return err
		}
		e, err := parseEntry(b)
		if err != nil {
			return err
		}
		if err := f(id, e); err != nil {
			return err
		}
	}
	return it.Error()
}

// empty tells whether there is nothing in the index at all.
func (x *index) empty() (bool, error) {
	it, err := x.db.NewIter(nil)
	if err != nil {
		return false, err
	}
	defer it.Close()
	return !it.First(), it.Error()
}

// first returns the head of a queue, but for those in skip.
func (x *index) first(prefix byte, skip map[storage.ObjectID]bool) (at int64, id storage.ObjectID, ok bool, err error) {
	x.queue(prefix)(func(a int64, i storage.ObjectID, e error) bool {
		if e == nil && skip[i] {
			return true
		}
		at, id, ok, err = a, i, e == nil, e
		return false
	})
	return at, id, ok, err
}

// queue yields a queue in order, as it was at the start.
func (x *index) queue(prefix byte) func(yield func(at int64, id storage.ObjectID, err error) bool) {
	return func(yield func(int64, storage.ObjectID, error) bool) {
		it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
		if err != nil {
			yield(0, storage.ObjectID{}, err)
			return
		}
		defer it.Close()
		for it.First(); it.Valid(); it.Next() {
			at, id, ok := queueOf(it.Key())
			if !ok {
				yield(0, id, errEntry)
				return
			}
			if !yield(at, id, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(0, storage.ObjectID{}, err)
		}
	}
}
