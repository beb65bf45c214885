package authcache

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
)

// A memo remembers a bounded number of things by the SHA-256 of what they were made from, each until a time of its own. It takes no locks: a slot is
// one pointer, a writer that loses a race has only wasted its entry. Only what was found to be genuine is put in, so a stranger cannot push
// anything out.
type memo[V any] struct {
	slots []atomic.Pointer[memoEntry[V]]
	mask  uint64
}

type memoEntry[V any] struct {
	sum   [sha256.Size]byte
	until int64 // ns since 1970
	value V
}

// ways is how many slots an entry may be in.
const ways = 4

// newMemo makes a memo for about n entries; none if n is negative.
func newMemo[V any](n int) *memo[V] {
	if n <= 0 {
		return &memo[V]{}
	}
	size := max(ways, 1<<bits.Len(uint(n-1)))
	return &memo[V]{slots: make([]atomic.Pointer[memoEntry[V]], size), mask: uint64(size - 1)}
}

// A scratch has the buffers that one request needs to be authenticated.
type scratch struct{ text, sum []byte }

var scratches = sync.Pool{New: func() any { return &scratch{text: make([]byte, 0, 1024), sum: make([]byte, 0, 2048)} }}

// hash hashes parts so that no two lists of parts give the same input.
func (s *scratch) hash(parts ...string) [sha256.Size]byte {
	b := s.sum[:0]
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	s.sum = b
	return sha256.Sum256(b)
}

func (m *memo[V]) bucket(sum *[sha256.Size]byte) uint64 {
	return binary.LittleEndian.Uint64(sum[:]) & m.mask &^ (ways - 1)
}

// get returns what is remembered under the sum and has not ended by now.
func (m *memo[V]) get(sum *[sha256.Size]byte, now int64) (value V, ok bool) {
	if m.slots == nil {
		return value, false
	}
	b := m.bucket(sum)
	for i := range uint64(ways) {
		if e := m.slots[b+i].Load(); e != nil && e.sum == *sum && now <= e.until {
			return e.value, true
		}
	}
	return value, false
}

// put remembers a value. It takes the place of what ends first.
func (m *memo[V]) put(sum *[sha256.Size]byte, value V, until int64) {
	if m.slots == nil {
		return
	}
	b := m.bucket(sum)
	victim, first := b, int64(1<<63-1)
	for i := range uint64(ways) {
		e := m.slots[b+i].Load()
		if e == nil {
			victim = b + i
			break
		}
		if e.until < first {
			victim, first = b+i, e.until
		}
	}
	m.slots[victim].Store(&memoEntry[V]{sum: *sum, until: until, value: value})
}
