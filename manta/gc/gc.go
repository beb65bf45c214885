package gc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/manta/mpu"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
)

// Defaults of [Config].
const (
	DefaultGrace    = 48 * time.Hour
	DefaultExpiry   = 30 * 24 * time.Hour
	DefaultInterval = 10 * time.Minute
	DefaultWorkers  = 8
)

// MinGrace is the shortest grace period.
const MinGrace = time.Minute

// Config says what a collector works on. Namespace and Storage are required.
type Config struct {
	Namespace *namespace.Namespace
	Storage   Storage

	// Uploads are swept too; nil means that there are none.
	Uploads *mpu.Service

	// Grace is how long bytes stay after their last entry went, and a finished upload's records after it was finished; 0 means [DefaultGrace]. At least
	// [MinGrace].
	Grace time.Duration

	// Expiry is how long an upload may be unfinished; 0 means [DefaultExpiry].
	Expiry time.Duration

	// Interval between two rounds of Run, counted from the end of one; 0 means [DefaultInterval].
	Interval time.Duration

	// Workers delete objects at the same time; 0 means [DefaultWorkers].
	Workers int

	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// Logger hears of every round that did something, and of what failed; nil discards.
	Logger *slog.Logger
}

// Storage deletes bytes; *[durable.Store] does.
type Storage interface {
	Delete(ctx context.Context, loc durable.Location) error
}

// A Collector takes garbage away.
type Collector struct {
	cfg Config
	log *slog.Logger

	mu  sync.Mutex
	met Metrics
}

// Metrics tell what a collector has done since it was made.
type Metrics struct {
	Rounds  uint64
	Deleted uint64 // objects whose copies were deleted
	Bytes   uint64 // of those objects, one copy counted
	Kept    uint64 // lines of the log whose bytes an other entry refers to
	Failed  uint64 // deletions that will be tried again
	Uploads uint64 // finished uploads whose remains were removed
	Expired uint64 // uploads that were aborted because nobody finished them

	LastRound time.Time     // when the last whole round ended
	Lag       time.Duration // by how much the oldest line was overdue when the last round met it
}

// New checks the configuration and returns a Collector.
func New(cfg Config) (*Collector, error) {
	if cfg.Namespace == nil || cfg.Storage == nil {
		return nil, errors.New("gc: Config.Namespace and Storage are required")
	}
	cfg.Grace = cmp.Or(cfg.Grace, DefaultGrace)
	cfg.Expiry = cmp.Or(cfg.Expiry, DefaultExpiry)
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.Workers = cmp.Or(cfg.Workers, DefaultWorkers)
	if cfg.Grace < MinGrace || cfg.Expiry < cfg.Grace || cfg.Interval < 0 || cfg.Workers < 0 {
		return nil, fmt.Errorf("gc: want %s <= Grace (%s) <= Expiry (%s), and no negative Interval or Workers", MinGrace, cfg.Grace, cfg.Expiry)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Collector{cfg: cfg, log: cfg.Logger}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Metrics returns the figures as they stand.
func (c *Collector) Metrics() Metrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.met
}

func (c *Collector) count(f func(*Metrics)) {
	c.mu.Lock()
	f(&c.met)
	c.mu.Unlock()
}

// Run makes one round after another until ctx ends, and returns its error. A round that fails is logged; the next begins where it stopped.
func (c *Collector) Run(ctx context.Context) error {
	for {
		if err := c.RunOnce(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("garbage collection stopped early", "err", err)
		}
		t := time.NewTimer(c.cfg.Interval)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// RunOnce makes one round over all that is due. Copies that cannot be deleted now, because a node is down, stay for the next round and are no error.
func (c *Collector) RunOnce(ctx context.Context) error {
	now := c.cfg.Now()
	before := c.Metrics()
	err := errors.Join(c.sweepUploads(ctx, now), c.collect(ctx, now))
	c.count(func(m *Metrics) {
		if err == nil {
			m.Rounds++
			m.LastRound = c.cfg.Now()
		}
	})
	after := c.Metrics()
	if d := after.Deleted - before.Deleted; d > 0 || after.Failed > before.Failed {
		c.log.Info("collected garbage", "objects", d, "bytes", after.Bytes-before.Bytes, "failed", after.Failed-before.Failed, "lag", after.Lag)
	}
	return err
}

func (c *Collector) sweepUploads(ctx context.Context, now time.Time) error {
	if c.cfg.Uploads == nil {
		return nil
	}
	swept, err := c.cfg.Uploads.Sweep(ctx, now.Add(-c.cfg.Grace), now.Add(-c.cfg.Expiry))
	c.count(func(m *Metrics) {
		m.Uploads += uint64(swept.Removed)
		m.Expired += uint64(swept.Expired)
	})
	if err != nil {
		return fmt.Errorf("sweep uploads: %w", err)
	}
	return nil
}

// collect works through the delete log.
func (c *Collector) collect(ctx context.Context, now time.Time) error {
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(c.cfg.Workers)
	lag := time.Duration(0)
	for d, err := range c.cfg.Namespace.Deletions(ctx, now.Add(-c.cfg.Grace)) {
		if err != nil {
			return errors.Join(err, workers.Wait())
		}
		if lag == 0 {
			lag = now.Sub(d.When()) - c.cfg.Grace
		}
		workers.Go(func() error { return c.one(ctx, d) })
	}
	err := workers.Wait()
	c.count(func(m *Metrics) { m.Lag = lag })
	return err
}

// one deals with one line of the log. Its error ends the round; a copy that could not be deleted is none.
func (c *Collector) one(ctx context.Context, d *namespace.Deleted) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	referenced, err := c.cfg.Namespace.Referenced(ctx, d)
	if err != nil {
		return err
	}
	if referenced {
		// The entry that is left writes a line of its own when it goes.
		c.count(func(m *Metrics) { m.Kept++ })
		return c.cfg.Namespace.Forget(ctx, d)
	}
	loc, err := location(d)
	if err != nil {
		c.count(func(m *Metrics) { m.Failed++ })
		c.log.Error("delete log has a line that names no object", "err", err) // it must not hold up the others
		return nil
	}
	if err := c.cfg.Storage.Delete(ctx, loc); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.count(func(m *Metrics) { m.Failed++ })
		c.log.Warn("copies could not be deleted now", "object", loc.ID.String(), "err", err)
		return nil
	}
	if err := c.cfg.Namespace.Forget(ctx, d); err != nil {
		return err
	}
	c.count(func(m *Metrics) {
		m.Deleted++
		m.Bytes += uint64(d.Size)
	})
	return nil
}

func location(d *namespace.Deleted) (durable.Location, error) {
	owner, err1 := uuid.Parse(d.Owner)
	object, err2 := uuid.Parse(d.ObjectID)
	if err := errors.Join(err1, err2); err != nil {
		b, _ := json.Marshal(d)
		return durable.Location{}, fmt.Errorf("%s: %w", b, err)
	}
	return durable.Location{ID: storage.ObjectID{Owner: owner, Object: object}, Size: d.Size, Sharks: d.Sharks}, nil
}
