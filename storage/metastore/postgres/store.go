package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Config says how to use a database. The zero value is good.
type Config struct {
	// Schema is the database schema that holds the tables; "" means "mobula". It is 1 to 40 characters of a-z, 0-9 and '_',
	// beginning with a letter.
	Schema string

	// Connections is the greatest number of connections to use, besides one that listens while anybody watches; 0 means 16.
	Connections int

	// ChangeAge is how long changes of watched buckets are kept for Watch; 0 means 10 minutes.
	ChangeAge time.Duration

	// CommitTimeout bounds the second half of a commit, which goes on when the caller's context ends, since breaking
	// it off would leave the outcome unknown; 0 means 30 s.
	CommitTimeout time.Duration

	// Logger gets what goes wrong in the background; nil discards it.
	Logger *slog.Logger
}

var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func (c *Config) fill() error {
	if c.Schema == "" {
		c.Schema = "mobula"
	}
	if c.Connections == 0 {
		c.Connections = 16
	}
	if c.ChangeAge == 0 {
		c.ChangeAge = 10 * time.Minute
	}
	if c.CommitTimeout == 0 {
		c.CommitTimeout = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if !schemaName.MatchString(c.Schema) || c.Connections < 1 || c.Connections > 10000 || c.ChangeAge < 0 || c.CommitTimeout < 0 {
		return fmt.Errorf("%w: postgres configuration", metastore.ErrInvalid)
	}
	return nil
}

// A Store is a metastore.Store in a database.
type Store struct {
	pool   *pgxpool.Pool
	config Config
	sql    statements
	locks  int64 // the first of the store's advisory locks

	done   context.Context // ends when the store closes
	cancel context.CancelFunc
	work   sync.WaitGroup

	life   sync.RWMutex // held for reading by every call
	closed bool

	buckets  atomic.Pointer[buckets]
	identity string // of the tables' change log

	watch hub
}

var _ metastore.Store = (*Store)(nil)

// Open connects to the database and makes the tables if there are none. The user needs the right to create a schema then, and to
// use it later. No error holds the URL or a password.
func Open(ctx context.Context, url string, c Config) (*Store, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%w: the database URL cannot be read", metastore.ErrInvalid) // the error may quote it
	}
	pc.MaxConns = int32(c.Connections)
	// Each query is meant for an index; statistics of a table that grows under prepared plans must not talk the planner out of it.
	for _, name := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan"} {
		pc.ConnConfig.RuntimeParams[name] = "off"
	}
	pc.ConnConfig.RuntimeParams["jit"] = "off"
	if _, set := pc.ConnConfig.RuntimeParams["application_name"]; !set {
		pc.ConnConfig.RuntimeParams["application_name"] = "mobula metastore"
	}
	pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		// An acknowledged commit is durable, whatever the server's default is.
		_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, unavailable("open database", err)
	}
	h := fnv.New64a()
	h.Write([]byte(c.Schema))
	s := &Store{pool: pool, config: c, sql: newStatements(c.Schema), locks: int64(h.Sum64() &^ 0xFFFF)}
	s.done, s.cancel = context.WithCancel(context.Background())
	s.watch.init()
	if err := s.install(ctx); err != nil {
		s.cancel()
		pool.Close()
		return nil, err
	}
	s.work.Go(s.notifier)
	return s, nil
}

// Close waits for calls under way, except Watch, which it ends, and disconnects.
func (s *Store) Close() error {
	s.cancel()
	s.life.Lock()
	defer s.life.Unlock()
	if !s.closed {
		s.closed = true
		s.watch.mu.Lock()
		//lint:ignore SA2001 whoever began to watch before the end has been counted once the lock was free
		s.watch.mu.Unlock()
		s.work.Wait()
		s.pool.Close()
	}
	return nil
}

// Colocated is always true: the store is one shard.
func (s *Store) Colocated(...string) bool { return true }

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

// The advisory locks: the structure first, then stripes of keys. Everybody takes them in this order.
const (
	lockStructure = 0 // shared by commits; exclusive for what changes schemas, or selects and writes
	lockStripes   = 1
	stripes       = 4096
)

// install makes or checks the tables.
func (s *Store) install(ctx context.Context) error {
	err := s.transact(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, s.locks+lockStructure); err != nil {
			return err
		}
		// Several statements in one go: only the simple protocol takes them.
		if _, err := tx.Exec(ctx, fmt.Sprintf(tables, pgx.Identifier{s.config.Schema}.Sanitize()), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.metaDefault, "format", format); err != nil {
			return err
		}
		var have, fsync string
		if err := tx.QueryRow(ctx, s.sql.metaGet, "format").Scan(&have); err != nil {
			return err
		}
		if have != format {
			return fmt.Errorf("%w: the tables have format %.20q, and this program knows %s", metastore.ErrInvalid, have, format)
		}
		for _, m := range [][2]string{{"generation", "0"}, {"next", "1"}, {"floor", "0"}} {
			if _, err := tx.Exec(ctx, s.sql.metaDefault, m[0], m[1]); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(ctx, `SELECT current_setting('fsync')`).Scan(&fsync); err != nil {
			return err
		}
		if fsync == "off" {
			s.config.Logger.Warn("the database runs with fsync off: a power failure loses acknowledged writes")
		}
		return s.adoptLog(ctx, tx)
	})
	if err != nil {
		return err
	}
	return s.reload(ctx)
}

// adoptLog begins a new change log if the tables came from another database, whose transaction ids mean nothing here.
func (s *Store) adoptLog(ctx context.Context, tx pgx.Tx) error {
	var b [6]byte
	rand.Read(b[:]) // never fails
	if _, err := tx.Exec(ctx, s.sql.metaDefault, "log", hex.EncodeToString(b[:])); err != nil {
		return err
	}
	var foreign bool
	if err := tx.QueryRow(ctx, s.sql.foreignLog).Scan(&foreign); err != nil {
		return err
	}
	if foreign {
		if _, err := tx.Exec(ctx, s.sql.clearLog, hex.EncodeToString(b[:])); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.sql.clearChanges); err != nil {
			return err
		}
	}
	return tx.QueryRow(ctx, s.sql.metaGet, "log").Scan(&s.identity)
}

// transact runs a transaction and turns its error into one of the metastore's.
func (s *Store) transact(ctx context.Context, do func(tx pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, s.pool, do)
	return unavailable("database", err)
}

// unavailable wraps what is the database's doing; errors of the metastore and of the context pass.
func unavailable(what string, err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	for _, own := range []error{metastore.ErrNotFound, metastore.ErrConflict, metastore.ErrNotUnique, metastore.ErrNotIndexed, metastore.ErrNoBucket,
		metastore.ErrBucketVersion, metastore.ErrInvalid, metastore.ErrPositionGone, metastore.ErrUnavailable, metastore.ErrClosed, metastore.ErrReadOnly} {
		if errors.Is(err, own) {
			return err
		}
	}
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		// The message alone: the detail quotes rows.
		if c := pe.Code; strings.HasPrefix(c, "08") || strings.HasPrefix(c, "53") || strings.HasPrefix(c, "57P") || strings.HasPrefix(c, "25006") || strings.HasPrefix(c, "40") {
			return fmt.Errorf("%w: %s: %s (SQLSTATE %s)", metastore.ErrUnavailable, what, pe.Message, pe.Code)
		}
		return fmt.Errorf("metastore/postgres: %s: %s (SQLSTATE %s)", what, pe.Message, pe.Code)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return fmt.Errorf("%w: %s: cannot connect to the database", metastore.ErrUnavailable, what)
	}
	return fmt.Errorf("%w: %s: %w", metastore.ErrUnavailable, what, err)
}
