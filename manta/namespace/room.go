package namespace

import (
	"context"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/manta"
)

// A counter that many writers add to is cheap to add to and dear to read: the store sums up what was added. So a busy directory is not held against its limit at every put.
// Once its count has been read, a hundredth of what is left may be put unchecked, within a time in which all front ends together cannot put the rest. As the limit comes
// near both become nothing.
const (
	uncheckedShare = 100
	perEntry       = 2 * time.Microsecond // no store takes entries of one directory faster
	maxUnchecked   = 500                  // a check also lets the store sum up what was added so far
	watchedDirs    = 4096
)

// rooms remembers how many entries may be put into busy directories before their counters are read again.
type rooms struct {
	mu   sync.Mutex
	dirs map[manta.Key]room
}

type room struct {
	left  int64
	until time.Time
}

// take reports whether an entry may be put unchecked, and otherwise whether the directory is busy, so that its counter is worth reading.
func (r *rooms) take(dir manta.Key, now time.Time) (free, busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	have, ok := r.dirs[dir]
	if ok && have.left > 0 && now.Before(have.until) {
		have.left--
		r.dirs[dir] = have
		return true, true
	}
	if !ok {
		if r.dirs == nil || len(r.dirs) >= watchedDirs {
			r.dirs = map[manta.Key]room{} // the busy ones are soon back
		}
		r.dirs[dir] = room{}
	}
	return false, ok
}

// free reports whether an entry may be put unchecked.
func (r *rooms) free(dir manta.Key, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	have := r.dirs[dir]
	return have.left > 0 && now.Before(have.until)
}

func (r *rooms) set(dir manta.Key, left int64, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dirs != nil {
		r.dirs[dir] = room{left, until}
	}
}

// learnRoom reads a busy directory's counter. That it fails matters to nobody: the next put is checked, then.
func (n *Namespace) learnRoom(ctx context.Context, dir manta.Key) {
	count, err := n.store.Counter(ctx, Bucket, headKey(dir))
	if err != nil {
		return
	}
	if left := (n.max - count) / uncheckedShare; left > 0 {
		n.rooms.set(dir, min(left, maxUnchecked), time.Now().Add(time.Duration(left*uncheckedShare)*perEntry))
	}
}
