package authcache

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Defaults of [Config].
const (
	DefaultMaxSkew       = httpsig.DefaultSkew
	DefaultMaxRequestAge = 600 * time.Second
	DefaultMaxStale      = 30 * time.Second
	DefaultRemember      = 1 << 16
)

const retryAfter = 2 * time.Second

// A Config says how to make a [Cache].
type Config struct {
	// Store is where sdc/ufds keeps its records. Required.
	Store metastore.Store

	// Tokens are the keys of authentication tokens. The zero value makes random ones, so that tokens end with the process.
	Tokens TokenConfig

	// MaxSkew is how far the date of a signed request may be from the clock, either way; DefaultMaxSkew if 0.
	MaxSkew time.Duration

	// MaxRequestAge is how old the Date header of any request may be; DefaultMaxRequestAge if 0.
	MaxRequestAge time.Duration

	// MaxStale is how long the cache goes on answering after contact with the store was lost; DefaultMaxStale if 0.
	MaxStale time.Duration

	// Remember is how many verified signatures are remembered, 64 bytes each; DefaultRemember if 0, none if negative. Rounded up to a power of two.
	Remember int

	// Region is the value of the condition "region"; rules that look at it do not match when it is empty.
	Region string

	// Logger is told when contact with the store is lost or found, and of records that cannot be read. nil logs nothing.
	Logger *slog.Logger
}

// A Cache knows all accounts and decides for them. Its methods may be called by any number of goroutines at once, and but for Run and WaitReady
// they never block.
type Cache struct {
	cfg    Config
	log    *slog.Logger
	tokens *tokenCipher

	snap     atomic.Pointer[snapshot]
	lost     atomic.Int64 // when contact with the store was lost, in ns since 1970; 0 while it is there
	ready    chan struct{}
	marks    marks
	verified *memo[struct{}]
	cracked  *memo[Token]
	counters counters
}

// New checks a configuration and makes a cache. It answers nothing until Run has read the directory.
func New(cfg Config) (*Cache, error) {
	if cfg.Store == nil {
		return nil, errors.New("authcache: Config.Store is required")
	}
	if cfg.MaxSkew < 0 || cfg.MaxRequestAge < 0 || cfg.MaxStale < 0 {
		return nil, errors.New("authcache: durations must not be negative")
	}
	setDefault(&cfg.MaxSkew, DefaultMaxSkew)
	setDefault(&cfg.MaxRequestAge, DefaultMaxRequestAge)
	setDefault(&cfg.MaxStale, DefaultMaxStale)
	setDefault(&cfg.Remember, DefaultRemember)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	tokens, err := newTokenCipher(cfg.Tokens)
	if err != nil {
		return nil, err
	}
	return &Cache{
		cfg: cfg, log: cfg.Logger, tokens: tokens,
		ready:    make(chan struct{}),
		verified: newMemo[struct{}](cfg.Remember),
		cracked:  newMemo[Token](min(cfg.Remember, 1<<12)),
	}, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// WaitReady waits until the directory has been read for the first time.
func (c *Cache) WaitReady(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ready returns nil when the cache answers, and ServiceUnavailable when it does not: it has not read the directory yet, or lost contact with it too long ago.
func (c *Cache) Ready() error {
	_, err := c.snapshot()
	return err
}

// snapshot returns what the cache knows, if that may still be used.
func (c *Cache) snapshot() (*snapshot, error) {
	s := c.snap.Load()
	if s == nil {
		return nil, errNotReady
	}
	if lost := c.lost.Load(); lost != 0 && time.Since(time.Unix(0, lost)) > c.cfg.MaxStale {
		return nil, errNotReady
	}
	return s, nil
}

// Metrics tells what the cache holds and has done since it was made.
type Metrics struct {
	Accounts, Users, Keys, Roles, Policies int

	// Verifications are signatures checked by a public-key operation, Remembered those that had been checked before.
	Verifications, Remembered uint64

	// Changes have been followed, Reloads of the whole directory made.
	Changes, Reloads uint64

	// Lost is for how long there has been no contact with the store; 0 while there is.
	Lost time.Duration
}

type counters struct {
	verifications, remembered, changes, reloads atomic.Uint64
}

// Metrics returns the cache's figures.
func (c *Cache) Metrics() Metrics {
	m := Metrics{
		Verifications: c.counters.verifications.Load(), Remembered: c.counters.remembered.Load(),
		Changes: c.counters.changes.Load(), Reloads: c.counters.reloads.Load(),
	}
	if lost := c.lost.Load(); lost != 0 {
		m.Lost = time.Since(time.Unix(0, lost))
	}
	if s := c.snap.Load(); s != nil {
		m.Accounts, m.Users, m.Keys, m.Roles, m.Policies = s.accounts.len(), s.users.len(), s.keyCount, s.roles.len(), s.policies.len()
	}
	return m
}
