package shard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// A Shard is one store of the ring.
type Shard struct {
	// Name is how the map knows the shard, 1 to 63 characters of a-z, 0-9, '-', '_' and '.'. It must stay the same for the same store.
	Name string

	// Store has to be a metastore.Mover to take part in moves. The ring closes it.
	Store metastore.Store
}

// Config says how the ring works. The zero value is good.
type Config struct {
	// VirtualNodes is how many there are; 0 means 1,024. It counts when the map is made, and never changes after.
	VirtualNodes int

	// MapTTL is how long a process may go on with the map that it knows; 0 means 1 s. All processes must have the same. The map is read
	// once in that time, while there is work, and writes to moved virtual nodes are held up for that long.
	MapTTL time.Duration

	// MoveWait is how long a commit waits for a virtual node that is read-only because it moves, before it is
	// metastore.ErrReadOnly; 0 means 5 s.
	MoveWait time.Duration

	// Logger gets the steps of moves; nil discards them.
	Logger *slog.Logger
}

var shardName = regexp.MustCompile(`^[a-z0-9._-]{1,63}$`)

// A Store is a metastore.Store over several stores.
type Store struct {
	shards []Shard
	config Config

	refreshing sync.Mutex
	known      atomic.Pointer[known]
	schemas    atomic.Pointer[map[string]*engine.Schema]
	done       chan struct{}
	closeOnce  sync.Once

	step func(name string) error // for tests: called before each step of a move
}

var _ metastore.Store = (*Store)(nil)

// Open opens the ring. The first shard holds the map and must always be the first; a shard that the map does not know joins with no
// virtual nodes (see [Store.Rebalance]), and gets all buckets. If Open fails, the shards are the caller's to close; afterwards the ring's.
func Open(ctx context.Context, shards []Shard, c Config) (*Store, error) {
	if c.VirtualNodes == 0 {
		c.VirtualNodes = 1024
	}
	if c.MapTTL == 0 {
		c.MapTTL = time.Second
	}
	if c.MoveWait == 0 {
		c.MoveWait = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(shards) == 0 || len(shards) > 1000 || c.VirtualNodes < len(shards) || c.VirtualNodes > 100000 || c.MapTTL < 0 || c.MoveWait < 0 {
		return nil, fmt.Errorf("%w: shard configuration", metastore.ErrInvalid)
	}
	names := map[string]bool{}
	for _, x := range shards {
		if !shardName.MatchString(x.Name) || x.Store == nil || names[x.Name] {
			return nil, fmt.Errorf("%w: shard name %.80q, or no store", metastore.ErrInvalid, x.Name)
		}
		names[x.Name] = true
	}
	s := &Store{shards: slices.Clone(shards), config: c, done: make(chan struct{})}
	if err := s.install(ctx); err != nil {
		return nil, err
	}
	if _, err := s.refresh(ctx, nil); err != nil {
		return nil, err
	}
	return s, s.loadSchemas(ctx)
}

// install gives every shard the ring's buckets and the first shard's, and the new ones a place in the map.
func (s *Store) install(ctx context.Context) error {
	for _, x := range s.shards {
		for _, name := range []string{bucketFence, bucketDirty, bucketMap} {
			if err := x.Store.Define(ctx, metastore.Bucket{Name: name, Version: 1}); err != nil {
				return fmt.Errorf("shard %s: %w", x.Name, err)
			}
		}
	}
	buckets, err := s.shards[0].Store.Buckets(ctx)
	if err != nil {
		return fmt.Errorf("shard %s: %w", s.shards[0].Name, err)
	}
	for _, x := range s.shards[1:] {
		for _, b := range buckets {
			if err := x.Store.Define(ctx, b); err != nil && !errors.Is(err, metastore.ErrBucketVersion) {
				return fmt.Errorf("shard %s: %w", x.Name, err)
			}
		}
	}
	return s.changeMap(ctx, func(m *ringMap) error {
		made := m.Format == 0
		if made {
			m.Format, m.Owners = mapFormat, make([]int, s.config.VirtualNodes)
			for v := range m.Owners {
				m.Owners[v] = v % len(s.shards)
			}
		} else if len(m.Shards) == 0 || m.Shards[0].Name != s.shards[0].Name {
			return fmt.Errorf("%w: the map begins with another shard than %s", metastore.ErrInvalid, s.shards[0].Name)
		}
		joined := false
		for _, x := range s.shards {
			if slices.ContainsFunc(m.Shards, func(y mapShard) bool { return y.Name == x.Name }) {
				continue
			}
			at, err := x.Store.Position(ctx)
			if err != nil {
				return fmt.Errorf("shard %s: %w", x.Name, err)
			}
			m.Shards = append(m.Shards, mapShard{Name: x.Name, Joined: at})
			joined = true
		}
		if !made && !joined {
			return errNoChange
		}
		return nil
	})
}

// Close closes all shards.
func (s *Store) Close() error {
	var errs []error
	s.closeOnce.Do(func() {
		close(s.done)
		for _, x := range s.shards {
			errs = append(errs, x.Store.Close())
		}
	})
	return errors.Join(errs...)
}

func (s *Store) open(ctx context.Context) error {
	select {
	case <-s.done:
		return metastore.ErrClosed
	default:
		return ctx.Err()
	}
}

func reserved(name string) bool { return strings.HasPrefix(name, engine.ReservedPrefix) }

// Define implements metastore.Store, on every shard. If it fails half-way, the next Define completes it.
func (s *Store) Define(ctx context.Context, b metastore.Bucket) error {
	if reserved(b.Name) {
		return fmt.Errorf("%w: bucket names beginning with %s are the ring's own", metastore.ErrInvalid, engine.ReservedPrefix)
	}
	return s.everywhere(ctx, func(store metastore.Store) error { return store.Define(ctx, b) })
}

// Drop implements metastore.Store, on every shard.
func (s *Store) Drop(ctx context.Context, name string) error {
	if reserved(name) {
		return nil
	}
	return s.everywhere(ctx, func(store metastore.Store) error { return store.Drop(ctx, name) })
}

func (s *Store) everywhere(ctx context.Context, do func(metastore.Store) error) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	for _, x := range s.shards {
		if err := do(x.Store); err != nil {
			return fmt.Errorf("shard %s: %w", x.Name, err)
		}
	}
	return s.loadSchemas(ctx)
}

// loadSchemas learns the schemas, by which answers are merged.
func (s *Store) loadSchemas(ctx context.Context) error {
	list, err := s.Buckets(ctx)
	if err != nil {
		return err
	}
	schemas := map[string]*engine.Schema{}
	for _, b := range list {
		if schemas[b.Name], err = engine.Compile(b); err != nil {
			return err
		}
	}
	s.schemas.Store(&schemas)
	return nil
}

// Buckets implements metastore.Store.
func (s *Store) Buckets(ctx context.Context) ([]metastore.Bucket, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	list, err := s.shards[0].Store.Buckets(ctx)
	return slices.DeleteFunc(list, func(b metastore.Bucket) bool { return reserved(b.Name) }), err
}

// Reindex implements metastore.Store: up to n records on each shard.
func (s *Store) Reindex(ctx context.Context, name string, n int) (left int, err error) {
	if err := s.open(ctx); err != nil {
		return 0, err
	}
	for _, x := range s.shards {
		more, err := x.Store.Reindex(ctx, name, n)
		if err != nil {
			return 0, fmt.Errorf("shard %s: %w", x.Name, err)
		}
		left += more
	}
	return left, nil
}

// routed runs a read on the owner of a partition. Should that take so long that the map may have changed, it is
// run again if so.
func (s *Store) routed(ctx context.Context, bucket, partition string, read func(store metastore.Store) error) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	if reserved(bucket) {
		return fmt.Errorf("%w: %.80q", metastore.ErrNoBucket, bucket)
	}
	for {
		k, err := s.current(ctx)
		if err != nil {
			return err
		}
		err = read(k.ring.stores[k.ring.owner(partition)])
		if time.Now().Before(k.until) {
			return err
		}
		now, e := s.current(ctx)
		if e != nil {
			return e
		}
		if now.ring == k.ring || now.ring.owner(partition) == k.ring.owner(partition) {
			return err
		}
	}
}

// Get implements metastore.Store.
func (s *Store) Get(ctx context.Context, bucket string, key metastore.Key) (r metastore.Record, err error) {
	err = s.routed(ctx, bucket, key.Partition, func(store metastore.Store) (err error) {
		r, err = store.Get(ctx, bucket, key)
		return err
	})
	return r, err
}

// Counter implements metastore.Store.
func (s *Store) Counter(ctx context.Context, bucket string, key metastore.Key) (n int64, err error) {
	err = s.routed(ctx, bucket, key.Partition, func(store metastore.Store) (err error) {
		n, err = store.Counter(ctx, bucket, key)
		return err
	})
	return n, err
}

// Colocated implements metastore.Store, by the map as this process knows it: partitions that are together now may be
// moved apart.
func (s *Store) Colocated(partitions ...string) bool {
	k := s.known.Load()
	if k == nil {
		return len(partitions) < 2
	}
	for _, p := range partitions {
		if k.ring.owner(p) != k.ring.owner(partitions[0]) {
			return false
		}
	}
	return true
}
