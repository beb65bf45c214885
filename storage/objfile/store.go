package objfile

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

// A Store is the [storage.Node] of one directory. Use [Open].
type Store struct {
	cfg    Config
	disk   diskfs.FS
	owned  io.Closer // the disk, if Open made it
	lock   io.Closer
	salt   uint64
	index  *index
	segs   segments
	buffer buffers

	ops    chan *op
	door   door
	stop   chan struct{} // closed at Close
	cancel context.CancelFunc

	committer  sync.WaitGroup
	background sync.WaitGroup
	prepare    chan struct{}
	next       atomic.Pointer[preparedSegment]

	// The committer's own.
	active     *segment
	prepared   bool // active's blocks have been written
	direct     bool // active is written past the page cache at the moment
	end        int64
	lastNumber uint64
	lastSeg    uint64
	lastEnd    int64
	unflushed  int64
	batchBuf   []byte

	spare atomic.Int64 // bytes that were free at the last look and may be reserved without another

	mu       sync.Mutex
	st       *state                      // changed by the committer under mu
	reserved int64                       // announced by writers that have set nothing aside yet
	hidden   map[storage.ObjectID]uint64 // damaged copies that a read-only journal cannot tell of
	damaged  int64

	readOnly atomic.Pointer[error]
	ids      [256]sync.Mutex // by hash of the id: held while a file gets or loses its name
	idSeed   maphash.Seed
	dirs     dirs
	met      metrics
}

var _ storage.FileOpener = (*Store)(nil)

const (
	objectsDir    = "objects"
	quarantineDir = "quarantine"
	lockName      = "LOCK"
)

// Open opens the store in dir, and makes one if dir is empty or absent. It repairs what a crash left, by reading the
// journal from where the index ends. A second process gets an error. The store must be closed.
func Open(dir string, cfg Config) (_ *Store, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, disk: cfg.FS, ops: make(chan *op, maxBatchOps), stop: make(chan struct{}), prepare: make(chan struct{}, 1),
		hidden: map[storage.ObjectID]uint64{}, idSeed: maphash.MakeSeed(),
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open object store %s: %w", dir, errors.Join(err, s.release()))
		}
	}()
	if s.disk == nil {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		o, err := diskfs.OpenOS(dir)
		if err != nil {
			return nil, err
		}
		s.disk, s.owned = o, o
	}
	if s.lock, err = s.disk.Lock(lockName); err != nil {
		return nil, err
	}
	s.segs = segments{disk: s.disk, open: map[uint64]*segment{}}
	s.buffer = newBuffers(cfg.DirectMemory)
	s.dirs.disk = s.disk
	for _, name := range []string{journalDir, objectsDir, quarantineDir} {
		if err := s.dirs.make(name); err != nil {
			return nil, err
		}
	}
	if s.salt, err = openFormat(s.disk); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.committer.Go(s.commitLoop)
	s.background.Add(1)
	go s.prepareLoop()
	s.background.Go(func() { s.sweepOrphans(ctx) })
	if cfg.ReapInterval > 0 {
		s.background.Go(func() { s.reapLoop(ctx) })
	}
	if cfg.ScrubRate > 0 {
		s.background.Go(func() { s.scrubLoop(ctx) })
	}
	return s, nil
}

// Close ends all background work, finishes the changes under way and closes the store. Readers that are open may be read to their end. It waits for calls under way, so it must
// not be called from inside a List loop. A second Close does nothing.
func (s *Store) Close() error {
	if !s.door.close() {
		return nil
	}
	close(s.stop)
	s.cancel()
	s.background.Wait()
	s.door.wait()
	close(s.ops)
	s.committer.Wait()
	if s.active != nil && s.readOnlyError() == nil {
		_ = s.active.Truncate(s.end) // a prepared segment's zeros
	}
	s.retire()
	return s.release()
}

func (s *Store) release() error {
	var errs []error
	if next := s.next.Swap(nil); next != nil {
		errs = append(errs, next.f.Close())
		_ = s.disk.Remove(nextSegment)
	}
	if s.index != nil {
		if s.readOnlyError() == nil {
			if err := s.index.flush(); err != nil {
				s.cfg.Log.Warn("close", "err", err) // the next start replays
			}
		}
		if err := s.index.close(); s.readOnlyError() == nil {
			errs = append(errs, err)
		}
	}
	s.segs.closeAll()
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	if s.owned != nil {
		errs = append(errs, s.owned.Close())
	}
	return errors.Join(errs...)
}

// setReadOnly ends all changes until the next start. The first reason stays.
func (s *Store) setReadOnly(err error) {
	if s.readOnly.CompareAndSwap(nil, &err) {
		s.cfg.Log.Error("store is read-only now", "err", err)
	}
}

func (s *Store) readOnlyError() error {
	if p := s.readOnly.Load(); p != nil {
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, *p)
	}
	return nil
}

// enter is the beginning of every call from outside; leave ends it. Close waits for those who are inside.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.door.enter()
}

func (s *Store) leave() { s.door.leave() }

// interrupted tells long work to end.
func (s *Store) interrupted(ctx context.Context) error {
	select {
	case <-s.stop:
		return storage.ErrClosed
	default:
		return ctx.Err()
	}
}

// available is what objects may still take. Reserved space counts as taken.
func (s *Store) available() (int64, error) {
	_, avail, err := s.space()
	return avail, err
}

func (s *Store) space() (capacity, avail int64, err error) {
	total, free, err := s.disk.Space()
	if err != nil {
		return 0, 0, fmt.Errorf("free space: %w", err)
	}
	reserve := s.cfg.Reserve
	if reserve == 0 {
		reserve = min(total/50, 8<<30)
	}
	reserve = max(reserve, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	capacity, avail = max(0, total-reserve), free-reserve
	if s.cfg.Capacity > 0 && s.cfg.Capacity < capacity {
		capacity = s.cfg.Capacity
		avail = min(avail, capacity-s.st.totals.bytes)
	}
	return capacity, max(0, avail-s.reserved), nil
}

// spareMost is the most that writers may take between two looks at the free space: small objects need not ask the file system each.
const spareMost = 16 << 20

// reserve holds n bytes for a writer; release with a negative n.
func (s *Store) reserve(n int64) error {
	if n > 0 && s.spare.Add(-n) < 0 {
		avail, err := s.available()
		if err != nil {
			return err
		}
		if n > avail {
			return fmt.Errorf("%w: %d bytes wanted, %d left", storage.ErrNoSpace, n, avail)
		}
		s.spare.Store(min((avail-n)/64, spareMost))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved += n
	return nil
}

// lockID keeps others from giving or taking the name of an object's file.
func (s *Store) lockID(id storage.ObjectID) func() {
	mu := &s.ids[maphash.Comparable(s.idSeed, id)%uint64(len(s.ids))]
	mu.Lock()
	return mu.Unlock
}

// find looks a live object up.
func (s *Store) find(id storage.ObjectID) (entry, error) {
	e, ok, err := s.index.lookup(id)
	if err != nil {
		if isDamage(err) {
			s.indexBroken(err)
		}
		return e, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	if !ok || e.deleted != 0 || s.isHidden(id, e.seq) {
		return e, fmt.Errorf("%w: %s", storage.ErrNotFound, id)
	}
	return e, nil
}

func (s *Store) isHidden(id storage.ObjectID, seq uint64) bool {
	if s.readOnly.Load() == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hidden[id] == seq
}

// Stat implements [storage.Node].
func (s *Store) Stat(ctx context.Context, id storage.ObjectID) (storage.Info, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Info{}, err
	}
	defer s.leave()
	e, err := s.find(id)
	if err != nil {
		return storage.Info{}, err
	}
	return e.info(id), nil
}

// List implements [storage.Node]. It shows the objects as they were when it began.
func (s *Store) List(ctx context.Context, after storage.ObjectID) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := s.enter(ctx); err != nil {
			yield(storage.Info{}, err)
			return
		}
		defer s.leave()
		it, err := s.index.db.NewIter(&pebble.IterOptions{LowerBound: append(objectKey(nil, after), 0), UpperBound: []byte{prefixObject + 1}})
		if err != nil {
			yield(storage.Info{}, fmt.Errorf("list: %w", err))
			return
		}
		defer it.Close()
		for it.First(); it.Valid(); it.Next() {
			if err := s.interrupted(ctx); err != nil {
				yield(storage.Info{}, err)
				return
			}
			id, ok := objectOf(it.Key())
			b, err := it.ValueAndErr()
			if err == nil && !ok {
				err = errEntry
			}
			var e entry
			if err == nil {
				e, err = parseEntry(b)
			}
			if err != nil {
				yield(storage.Info{}, fmt.Errorf("list: %w", err))
				return
			}
			if e.deleted != 0 || s.isHidden(id, e.seq) {
				continue
			}
			if !yield(e.info(id), nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(storage.Info{}, fmt.Errorf("list: %w", err))
		}
	}
}

// Usage implements [storage.Node].
func (s *Store) Usage(ctx context.Context) (storage.Usage, error) {
	if err := s.enter(ctx); err != nil {
		return storage.Usage{}, err
	}
	defer s.leave()
	capacity, avail, err := s.space()
	if err != nil {
		return storage.Usage{}, err
	}
	s.mu.Lock()
	t := s.st.totals
	u := storage.Usage{Capacity: capacity, Available: avail, Objects: t.objects, Bytes: t.bytes, Tombstones: t.tombstones, Damaged: s.damaged}
	s.mu.Unlock()
	if err := s.readOnlyError(); err != nil {
		u.ReadOnly = err.Error()
	}
	at, _, ok, err := s.index.first(prefixVerified, nil)
	if err != nil {
		return u, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	if ok {
		u.OldestUnverified = time.Unix(at, 0)
	}
	return u, nil
}

func objectPath(id storage.ObjectID) string {
	return path.Join(objectsDir, id.Owner.String(), id.Object.String())
}
