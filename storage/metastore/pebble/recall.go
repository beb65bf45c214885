package pebble

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"

	lsm "github.com/cockroachdb/pebble/v2"
)

// recall remembers single records that were looked at lately: those that are not there, and those that are looked at again and again. Who puts a file looks for its
// entry and for the directory around it, and the batch that follows asks for both once more; so three of four searches through the engine are spared.
//
// Something is remembered only by one who holds the lock of its key, and forgotten, before it is written, by one who holds that lock for himself. Batches
// that write without key locks, because they keep all other commits away, suspend it altogether meanwhile.
type recall struct {
	generation atomic.Uint64 // odd while suspended
	slots      [2 * stripes]recallSlot
}

type recallSlot struct {
	known atomic.Pointer[known]
	seen  atomic.Uint64 // the hash of the record last looked at and not remembered
}

// maxRecall is the largest value that is remembered, in bytes. All slots together stay below a few MiB.
const maxRecall = 1 << 10

// known is what a record key led to. It is immutable.
type known struct {
	generation uint64
	key        string
	found      bool
	etag       string
	modified   time.Time
	value      []byte
}

// suspend ends the use of all that is remembered, and remembers nothing, until resume is called.
func (r *recall) suspend() (resume func()) {
	r.generation.Add(1)
	return func() { r.generation.Add(1) }
}

func (r *recall) slot(hash uint64) *recallSlot { return &r.slots[hash%uint64(len(r.slots))] }

// get returns what is known of a key, or nil.
func (r *recall) get(hash uint64, key []byte) *known {
	now := r.generation.Load()
	k := r.slot(hash).known.Load()
	if k == nil || k.generation != now || k.key != string(key) {
		return nil
	}
	return k
}

// forget is called under the key's exclusive lock, before it is written.
func (r *recall) forget(hash uint64, key []byte) {
	slot := r.slot(hash)
	if k := slot.known.Load(); k != nil && k.key == string(key) {
		slot.known.Store(nil)
	}
}

// remember keeps what was read of a key in a generation that was taken before; the key has been locked since.
func (r *recall) remember(hash uint64, k *known) {
	if k.generation&1 == 0 && len(k.value) <= maxRecall {
		r.slot(hash).known.Store(k)
	}
}

// worth reports whether a record that is there is looked at again and again.
func (r *recall) worth(hash uint64) bool { return r.slot(hash).seen.Swap(hash) == hash }

// look finds a record by its key in the engine. What it returns belongs to others, too. locked says that the caller holds the key's lock.
func (s *Store) look(key []byte, locked bool) (known, error) {
	hash := s.keys.hash(key)
	if k := s.recent.get(hash, key); k != nil {
		return *k, nil
	}
	generation := s.recent.generation.Load()
	if !locked && s.keys.tryRLock(hash) {
		defer s.keys.runlock(hash)
		locked = true
	}
	v, closer, err := s.db.Get(key)
	if errors.Is(err, lsm.ErrNotFound) {
		if locked {
			s.recent.remember(hash, &known{generation: generation, key: string(key)})
		}
		return known{}, nil
	}
	if err != nil {
		return known{}, err
	}
	defer closer.Close()
	etag, modified, value, err := splitRecord(v)
	if err != nil {
		return known{}, err
	}
	k := known{generation: generation, found: true, etag: string(etag), modified: modified, value: bytes.Clone(value)}
	if locked && s.recent.worth(hash) {
		k.key = string(key)
		kept := k
		s.recent.remember(hash, &kept)
	}
	return k, nil
}
