package pebble

import (
	"hash/maphash"
	"slices"
	"sync"
)

const stripes = 1024

// locks are read-write locks on keys, striped by hash.
type locks struct {
	seed    maphash.Seed
	stripes [stripes]sync.RWMutex
}

func (l *locks) hash(key []byte) uint64 { return maphash.Bytes(l.seed, key) }

// tryRLock takes the lock of a key for reading, unless somebody writes.
func (l *locks) tryRLock(hash uint64) bool { return l.stripes[hash%stripes].TryRLock() }

func (l *locks) runlock(hash uint64) { l.stripes[hash%stripes].RUnlock() }

// A lockSet gathers what a batch has to hold. Stripes are taken in ascending order, so batches cannot block each other in a circle.
type lockSet struct {
	locks *locks
	want  []uint32 // stripe<<1, |1 for exclusive
	few   [8]uint32
}

func (s *lockSet) add(key []byte, exclusive bool) {
	if s.want == nil {
		s.want = s.few[:0]
	}
	w := uint32(s.locks.hash(key)%stripes) << 1
	if exclusive {
		w |= 1
	}
	s.want = append(s.want, w)
}

func (s *lockSet) lock() {
	// Descending, the exclusive wish for a stripe comes first and is the one to keep; then turn round.
	slices.SortFunc(s.want, func(a, b uint32) int { return int(b) - int(a) })
	s.want = slices.CompactFunc(s.want, func(a, b uint32) bool { return a>>1 == b>>1 })
	slices.Reverse(s.want)
	for _, w := range s.want {
		if w&1 != 0 {
			s.locks.stripes[w>>1].Lock()
		} else {
			s.locks.stripes[w>>1].RLock()
		}
	}
}

func (s *lockSet) unlock() {
	for _, w := range s.want {
		if w&1 != 0 {
			s.locks.stripes[w>>1].Unlock()
		} else {
			s.locks.stripes[w>>1].RUnlock()
		}
	}
	s.want = nil
}
