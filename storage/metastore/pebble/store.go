package pebble

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	lsm "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Config says how to open a store. The zero value is good for a small machine.
type Config struct {
	// CacheSize is the memory for blocks of tables, in bytes; 0 means 16 MiB. Large data that is read at random gains from more.
	CacheSize int64

	// MemTableSize is the memory that gathers writes before they become a table, in bytes; 0 means 16 MiB. Under load two or
	// three of them exist at a time.
	MemTableSize int64

	// ChangeLog is how many of the last batches with changes of watched buckets are kept for Watch; 0 means 131,072.
	ChangeLog int

	// FS is the file system; nil means the machine's.
	FS vfs.FS

	// Logger gets what the engine reports; nil discards it.
	Logger *slog.Logger
}

func (c *Config) fill() error {
	if c.CacheSize < 0 || c.MemTableSize < 0 || c.ChangeLog < 0 || c.MemTableSize > 1<<30 {
		return fmt.Errorf("%w: pebble configuration: negative or too large size", metastore.ErrInvalid)
	}
	if c.CacheSize == 0 {
		c.CacheSize = 16 << 20
	}
	if c.MemTableSize == 0 {
		c.MemTableSize = 16 << 20
	}
	if c.ChangeLog == 0 {
		c.ChangeLog = 1 << 17
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Store is a metastore.Store in a directory.
type Store struct {
	db     *lsm.DB
	config Config
	cancel context.CancelFunc // ends Watch
	done   <-chan struct{}

	life   sync.RWMutex // held for reading by every call while it uses db
	closed bool
	broken atomic.Pointer[error] // why the engine takes no more writes

	restructures atomic.Uint64 // begun and ended changes of schemas: odd while one is under way

	schema  sync.RWMutex // held for reading by commits, for writing by what changes schemas or selects and writes
	buckets atomic.Pointer[buckets]

	keys   locks
	recent recall
	log    changeLog
}

var _ metastore.Store = (*Store)(nil)

// Open opens the store in dir, and makes it if there is none. A directory that another process has open, or that a newer
// program wrote, is refused.
func Open(dir string, c Config) (*Store, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	if c.FS == vfs.Default {
		// What is in it is nobody else's business. One that is there keeps its mode.
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open metastore: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{config: c, cancel: cancel, done: ctx.Done()}
	s.keys.seed = maphash.MakeSeed()
	s.log.wake = make(chan struct{})
	db, err := lsm.Open(dir, s.options())
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open metastore in %s: %w", dir, err)
	}
	s.db = db
	if err := s.load(); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("open metastore in %s: %w", dir, err), db.Close())
	}
	return s, nil
}

func (s *Store) options() *lsm.Options {
	o := &lsm.Options{
		CacheSize:                   s.config.CacheSize,
		MemTableSize:                uint64(s.config.MemTableSize),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                1000,
		FormatMajorVersion:          lsm.FormatWALSyncChunks,
		FS:                          s.config.FS,
		Logger:                      engineLog{s},
		Merger:                      counterMerger,
		BytesPerSync:                1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)/2) },
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].FilterType = lsm.TableFilter
		o.Levels[i].BlockSize = 16 << 10 // a page of a listing reads a quarter of the blocks that 4 KiB would make
	}
	return o
}

// load checks the format and reads what is kept in memory.
func (s *Store) load() error {
	have, err := s.read(metaKey("format"))
	switch {
	case errors.Is(err, lsm.ErrNotFound):
		// A new directory. Should the process die before this is synced, the next one begins anew.
		if err := s.db.Set(metaKey("format"), []byte(format), lsm.Sync); err != nil {
			return err
		}
	case err != nil:
		return err
	case string(have) != format:
		return fmt.Errorf("format %.20q is not known to this program, which knows %s", have, format)
	}
	if err := s.loadBuckets(); err != nil {
		return err
	}
	return s.loadLog()
}

// read returns a copy of a value.
func (s *Store) read(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), v...), closer.Close()
}

// enter keeps the engine open until the returned function is called.
func (s *Store) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, metastore.ErrClosed
	}
	return s.life.RUnlock, nil
}

// Close waits for calls under way, except Watch, which it ends, and closes the directory. A second Close does nothing.
func (s *Store) Close() error {
	s.cancel()
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.broken.Load() != nil {
		// The engine may hold locks of the call it died in, and all that was acknowledged is in its log already.
		return nil
	}
	return s.db.Close()
}

// Colocated is always true: the store is one shard.
func (s *Store) Colocated(...string) bool { return true }

// Metrics tells what a store uses and does.
type Metrics struct {
	DiskBytes      uint64 // tables and logs
	CacheBytes     int64
	MemTableBytes  uint64
	ReadAmp        int   // sorted runs that a read may have to look into
	Compactions    int64 // since Open
	CompactionDebt uint64
	Sequence       uint64 // batches in the change log, ever
}

// Metrics returns the present figures.
func (s *Store) Metrics() Metrics {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return Metrics{}
	}
	m := s.db.Metrics()
	return Metrics{
		DiskBytes:      m.DiskSpaceUsage(),
		CacheBytes:     m.BlockCache.Size,
		MemTableBytes:  m.MemTable.Size,
		ReadAmp:        m.ReadAmp(),
		Compactions:    m.Compact.Count,
		CompactionDebt: m.Compact.EstimatedDebt,
		Sequence:       s.log.synced.Load(),
	}
}

// engineLog passes the engine's reports on.
type engineLog struct{ s *Store }

func (l engineLog) Infof(format string, args ...any) {
	l.s.config.Logger.Debug("metastore engine", "report", fmt.Sprintf(format, args...))
}

func (l engineLog) Errorf(format string, args ...any) {
	l.s.config.Logger.Error("metastore engine", "report", fmt.Sprintf(format, args...))
}

// Fatalf must not return. In a commit the panic is caught and the store takes no more writes; anywhere else the
// process ends, and the next start recovers.
func (l engineLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.s.broken.CompareAndSwap(nil, &err)
	l.s.config.Logger.Error("metastore engine has failed", "err", err)
	panic(engineFailure{err})
}

type engineFailure struct{ err error }

// unavailable is the error of calls after the engine has failed.
func (s *Store) unavailable() error {
	if p := s.broken.Load(); p != nil {
		return fmt.Errorf("%w: %w", metastore.ErrUnavailable, *p)
	}
	return nil
}
