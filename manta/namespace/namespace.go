package namespace

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Errors of the tree; test with errors.Is.
var (
	ErrNotFound           = errors.New("namespace: no such entry")
	ErrNoParent           = errors.New("namespace: parent directory does not exist")
	ErrParentNotDirectory = errors.New("namespace: parent is not a directory")
	ErrIsDirectory        = errors.New("namespace: entry is a directory")
	ErrNotObject          = errors.New("namespace: entry is not an object")
	ErrRoot               = errors.New("namespace: not allowed on a root directory")
	ErrNotEmpty           = errors.New("namespace: directory is not empty")
	ErrFull               = errors.New("namespace: directory holds as many entries as it may")

	// ErrConcurrent says that another writer changed the entry: at once if the call was exclusive, otherwise after
	// some repetitions.
	ErrConcurrent = errors.New("namespace: entry was changed at the same time")
)

// Buckets of the metastore that the namespace keeps.
const (
	Bucket        = "manta"
	DeletedBucket = "manta_delete_log"
	intentBucket  = "manta_directory_intents"
)

// MaxEntries is the default greatest number of entries of one directory.
const MaxEntries = 1_000_000

// maxRetries bounds how often a change that is not exclusive is tried again after losing against another writer.
const maxRetries = 3

// Config says what a namespace stands on.
type Config struct {
	// Store keeps the records. Required.
	Store metastore.Store

	// MaxEntries of one directory, which puts of objects keep to; 0 means [MaxEntries].
	MaxEntries int64

	// Now is the clock of modification times; nil means time.Now.
	Now func() time.Time

	// Logger hears of repairs; nil discards.
	Logger *slog.Logger
}

// A Namespace is the tree of all accounts. Its methods may be called by any number of goroutines at once, in any number of
// processes over one store.
type Namespace struct {
	store metastore.Store
	max   int64
	now   func() time.Time
	log   *slog.Logger

	// Writers that lost once take turns by key, so that a crowd on one name gets through within its few repetitions.
	turns [64]chan struct{}
	seed  maphash.Seed

	rooms    rooms
	pendings pendings
}

// New returns a namespace over a store.
func New(cfg Config) (*Namespace, error) {
	if cfg.Store == nil {
		return nil, errors.New("namespace: Config.Store is required")
	}
	if cfg.MaxEntries < 0 {
		return nil, fmt.Errorf("namespace: Config.MaxEntries is %d", cfg.MaxEntries)
	}
	n := &Namespace{store: cfg.Store, max: cfg.MaxEntries, now: cfg.Now, log: cfg.Logger, seed: maphash.MakeSeed()}
	for i := range n.turns {
		n.turns[i] = make(chan struct{}, 1)
	}
	if n.max == 0 {
		n.max = MaxEntries
	}
	if n.now == nil {
		n.now = time.Now
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	return n, nil
}

// Schemas are the buckets that Define makes.
func Schemas() []metastore.Bucket {
	return []metastore.Bucket{
		{Name: Bucket, Version: 1, Indexes: []metastore.Index{
			{Field: "mtime", Type: metastore.Number, PerPartition: true},
			// The two below are sparse: an ordinary object has neither.
			{Field: "subdir", Type: metastore.String, PerPartition: true},
			{Field: "linkId", Type: metastore.String},
		}},
		{Name: DeletedBucket, Version: 1, Indexes: []metastore.Index{{Field: "time", Type: metastore.Number}}},
		{Name: intentBucket, Version: 1},
		{Name: putBucket, Version: 1},
	}
}

// Define makes the namespace's buckets. It may be repeated.
func (n *Namespace) Define(ctx context.Context) error {
	for _, b := range Schemas() {
		if err := n.store.Define(ctx, b); err != nil {
			return fmt.Errorf("define bucket %s: %w", b.Name, err)
		}
	}
	return nil
}

// turn waits for the key's turn and returns the function that ends it.
func (n *Namespace) turn(ctx context.Context, key manta.Key) (end func(), err error) {
	t := n.turns[maphash.String(n.seed, string(key))%uint64(len(n.turns))]
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stamp returns the modification time of a change made now.
func (n *Namespace) stamp() time.Time { return n.now().UTC().Truncate(time.Millisecond) }

func entryKey(key manta.Key) metastore.Key {
	return metastore.Key{Partition: string(key.Dir()), Name: key.Name()}
}

func headKey(dir manta.Key) metastore.Key { return metastore.Key{Partition: string(dir)} }

// conflicting returns the index of the operation that refused a batch, or -1 when err is no such refusal.
func conflicting(err error) int {
	if ce, ok := errors.AsType[*metastore.ConditionError](err); ok {
		return ce.Op
	}
	return -1
}
