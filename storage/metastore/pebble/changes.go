package pebble

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	lsm "github.com/cockroachdb/pebble/v2"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// changeLog numbers the batches with changes of watched buckets.
type changeLog struct {
	epoch string // of this directory: positions of another one mean nothing here

	mu       sync.Mutex // held from taking a number until the batch is applied
	seq      uint64     // the last number taken
	reserved uint64     // numbers up to here are never used again after a crash

	floor  atomic.Uint64 // changes up to here are gone
	synced atomic.Uint64 // batches up to here are durable

	wakeMu sync.Mutex
	wake   chan struct{} // closed when synced moves
}

// logMeta is what is stored of it.
type logMeta struct {
	Epoch    string `json:"epoch"`
	Reserved uint64 `json:"reserved"`
	Floor    uint64 `json:"floor"`
}

const (
	reserveAhead = 1 << 20
	watchPage    = 512
	allOps       = 1<<32 - 1
)

func newEpoch() string {
	var b [6]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// loadLog begins after every number that was ever taken, seen or not.
func (s *Store) loadLog() error {
	l := &s.log
	m := logMeta{Epoch: newEpoch()}
	text, err := s.read(metaKey("log"))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil && !errors.Is(err, lsm.ErrNotFound) {
		return err
	}
	l.epoch, l.seq = m.Epoch, m.Reserved
	l.floor.Store(m.Floor)
	l.synced.Store(l.seq)
	batch := s.db.NewBatch()
	defer batch.Close()
	if err := l.reserve(batch); err != nil {
		return err
	}
	return s.apply(batch)
}

// reserve has the batch store that more numbers are taken.
func (l *changeLog) reserve(batch *lsm.Batch) error {
	l.reserved = l.seq + reserveAhead
	return l.save(batch)
}

func (l *changeLog) save(batch *lsm.Batch) error {
	text, err := json.Marshal(logMeta{l.epoch, l.reserved, l.floor.Load()})
	if err != nil {
		return err
	}
	return batch.Set(metaKey("log"), text, nil)
}

// next takes a number for the batch; mu is held.
func (l *changeLog) next(batch *lsm.Batch) (uint64, error) {
	l.seq++
	if l.seq == l.reserved {
		return l.seq, l.reserve(batch)
	}
	return l.seq, nil
}

// trim has the batch remove what is beyond the limit; mu is held. It waits for an eighth of the limit to pile up.
func (l *changeLog) trim(batch *lsm.Batch, keep uint64) error {
	floor := l.floor.Load()
	if l.seq-floor <= keep+keep/8 {
		return nil
	}
	// The new floor is there before the entries are gone, so that no reader takes the hole for silence.
	l.floor.Store(l.seq - keep)
	if err := batch.DeleteRange(logKey(floor, 0), logKey(l.seq-keep, allOps), nil); err != nil {
		return err
	}
	return l.save(batch)
}

// publish makes a durable batch known to the watchers. All earlier ones are durable, too: the engine's log is one sequence.
func (l *changeLog) publish(seq uint64) {
	for {
		have := l.synced.Load()
		if have >= seq {
			return
		}
		if l.synced.CompareAndSwap(have, seq) {
			break
		}
	}
	l.wakeMu.Lock()
	close(l.wake)
	l.wake = make(chan struct{})
	l.wakeMu.Unlock()
}

func (l *changeLog) waiter() <-chan struct{} {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	return l.wake
}

// A place is a position taken apart: after this operation of this batch.
type place struct {
	seq uint64
	op  uint32
}

func (l *changeLog) position(seq uint64) metastore.Position { return l.format(place{seq, allOps}) }

// format writes EPOCH.SEQUENCE, and .OPERATION for a place inside a batch.
func (l *changeLog) format(p place) metastore.Position {
	text := l.epoch + "." + strconv.FormatUint(p.seq, 36)
	if p.op != allOps {
		text += "." + strconv.FormatUint(uint64(p.op), 36)
	}
	return metastore.Position(text)
}

func (l *changeLog) parse(p metastore.Position) (place, error) {
	if p == "" {
		return place{l.floor.Load(), allOps}, nil
	}
	parts := strings.Split(string(p), ".")
	if len(parts) < 2 || len(parts) > 3 {
		return place{}, fmt.Errorf("%w: position %.80q", metastore.ErrInvalid, p)
	}
	seq, err := strconv.ParseUint(parts[1], 36, 64)
	op := uint64(allOps)
	if err == nil && len(parts) == 3 {
		op, err = strconv.ParseUint(parts[2], 36, 32)
	}
	if err != nil {
		return place{}, fmt.Errorf("%w: position %.80q", metastore.ErrInvalid, p)
	}
	if parts[0] != l.epoch {
		return place{}, fmt.Errorf("%w: it is of another store, or of this one before it was restored", metastore.ErrPositionGone)
	}
	return place{seq, uint32(op)}, nil
}

// Position implements metastore.Store.
func (s *Store) Position(ctx context.Context) (metastore.Position, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return s.log.position(s.log.synced.Load()), nil
}

// Watch implements metastore.Store. It shows changes once they are durable.
func (s *Store) Watch(ctx context.Context, after metastore.Position, names ...string) iter.Seq2[metastore.Change, error] {
	return func(yield func(metastore.Change, error) bool) {
		if err := s.watch(ctx, after, names, yield); err != nil {
			yield(metastore.Change{}, err)
		}
	}
}

func (s *Store) watch(ctx context.Context, after metastore.Position, names []string, yield func(metastore.Change, error) bool) error {
	wanted := map[string]bool{}
	for _, name := range names {
		b := s.buckets.Load().byName[name]
		switch {
		case b == nil:
			return fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, name)
		case !b.Bucket.Watched:
			return fmt.Errorf("%w: bucket %s is not watched", metastore.ErrInvalid, name)
		}
		wanted[name] = true
	}
	at, err := s.log.parse(after)
	if err != nil {
		return err
	}
	for {
		wake := s.log.waiter()
		changes, next, err := s.changes(ctx, at, wanted)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if !yield(c, nil) {
				return nil
			}
		}
		if next != at {
			at = next
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return metastore.ErrClosed
		}
	}
}

// changes reads some changes after a place, and the place it came to. Of several changes to a key it keeps the last one.
func (s *Store) changes(ctx context.Context, at place, wanted map[string]bool) ([]metastore.Change, place, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, at, err
	}
	defer leave()
	upto := s.log.synced.Load()
	lower := logKey(at.seq+1, 0)
	if at.op != allOps {
		lower = logKey(at.seq, at.op+1)
	}
	it, err := s.db.NewIter(&lsm.IterOptions{LowerBound: lower, UpperBound: logKey(upto+1, 0)})
	if err != nil {
		return nil, at, err
	}
	defer it.Close()
	// Only now: had the entries been trimmed before the iterator was made, the floor would show it.
	if at.seq < s.log.floor.Load() {
		return nil, at, metastore.ErrPositionGone
	}
	type id struct {
		bucket uint32
		key    metastore.Key
	}
	all := s.buckets.Load()
	var list []metastore.Change
	last := map[id]int{}
	for it.First(); it.Valid() && len(list) < watchPage; it.Next() {
		k, v := it.Key(), it.Value()
		if len(k) != 13 || len(v) < 4 {
			return nil, at, errCorrupt
		}
		at = place{binary.BigEndian.Uint64(k[1:]), binary.BigEndian.Uint32(k[9:])}
		b := all.byID[binary.BigEndian.Uint32(v)]
		if b == nil || !wanted[b.Bucket.Name] {
			continue
		}
		key, err := takeKey(v[4:])
		if err != nil {
			return nil, at, err
		}
		x := id{b.ID, key}
		if i, again := last[x]; again {
			list[i].Bucket = ""
		}
		last[x] = len(list)
		list = append(list, metastore.Change{Position: s.log.format(at), Bucket: b.Bucket.Name, Key: key})
	}
	ended := !it.Valid()
	if err := it.Error(); err != nil {
		return nil, at, err
	}
	if ended && at.seq <= upto {
		at = place{upto, allOps}
	}
	kept := list[:0]
	for _, c := range list {
		if c.Bucket == "" {
			continue
		}
		r, err := s.get(all.byName[c.Bucket], c.Key)
		switch {
		case err == nil:
			c.Record = &r
		case !errors.Is(err, metastore.ErrNotFound):
			return nil, at, err
		}
		kept = append(kept, c)
	}
	return kept, at, nil
}
