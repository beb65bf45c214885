package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Defaults of [Config].
const (
	DefaultGrace      = 48 * time.Hour
	DefaultSettle     = 2 * time.Minute
	DefaultInterval   = 24 * time.Hour
	DefaultRate       = 10_000
	DefaultMemory     = 32 << 20
	DefaultMaxPercent = 10
)

// MinGrace is the shortest grace period: several times what a request may take between its last byte and its record.
const MinGrace = 10 * time.Minute

// Config says what an audit works on. Namespace, Store, Nodes, Names and Repair are required.
type Config struct {
	Namespace *namespace.Namespace

	// Store is the one under Namespace; the audit keeps its claim there.
	Store metastore.Store

	// Nodes are the storage nodes, and Names says which there are.
	Nodes Nodes
	Names func() []string

	// Repair mends entries that lack a copy.
	Repair Repair

	// Claims yield objects that no entry names yet and one may name later, such as those of multipart uploads. A claim that may come true must be
	// yielded until the entry has been there for Grace.
	Claims []func(context.Context) iter.Seq2[storage.ObjectID, error]

	// Grace is how old bytes without a record must be to be deleted; 0 means [DefaultGrace]. At least [MinGrace].
	Grace time.Duration

	// Settle is how long to wait between listing nodes and reading records; 0 means [DefaultSettle].
	Settle time.Duration

	// Interval between two rounds of Run, from the end of one to the beginning of the next; 0 means [DefaultInterval].
	Interval time.Duration

	// Rate is how many copies or entries are looked at in a second; 0 means [DefaultRate], negative as many as come.
	Rate int

	// Memory bounds the filters, in bytes; 0 means [DefaultMemory]. About 6 million copies go into 32 MiB; of more, a round makes several slices, each of which
	// reads everything.
	Memory int64

	// MaxPercent of a node's copies may be orphans for them to be deleted, unless they are 100 or fewer; 0 means [DefaultMaxPercent]. 100 deletes
	// any number.
	MaxPercent int

	// Now is the clock that ages copies and dates rounds; nil means time.Now.
	Now func() time.Time

	// Logger hears of every copy that is deleted or missing, and of every round; nil discards.
	Logger *slog.Logger
}

type claims = func(context.Context) iter.Seq2[storage.ObjectID, error]

// Nodes finds storage nodes; every [durable.Nodes] does.
type Nodes interface {
	Node(name string) (storage.Node, error)
	Standing(name string) durable.Standing
}

// Repair restores copies; *repair.Service does.
type Repair interface {
	// Restore repairs the entries of a sequence, all of which it reads unless it returns an error.
	Restore(ctx context.Context, entries iter.Seq2[*manta.Entry, error]) error
}

// An Auditor compares nodes with records. Its methods may be called by any number of goroutines at once.
type Auditor struct {
	cfg    Config
	log    *slog.Logger
	holder string // of claims
	claims metastore.Table[claimRecord]

	mu  sync.Mutex
	met Metrics
}

// New checks the configuration and returns an Auditor.
func New(cfg Config) (*Auditor, error) {
	if cfg.Namespace == nil || cfg.Store == nil || cfg.Nodes == nil || cfg.Names == nil || cfg.Repair == nil {
		return nil, errors.New("audit: Config.Namespace, Store, Nodes, Names and Repair are required")
	}
	cfg.Grace = cmp.Or(cfg.Grace, DefaultGrace)
	cfg.Settle = cmp.Or(cfg.Settle, DefaultSettle)
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.Rate = cmp.Or(cfg.Rate, DefaultRate)
	cfg.Memory = cmp.Or(cfg.Memory, DefaultMemory)
	cfg.MaxPercent = cmp.Or(cfg.MaxPercent, DefaultMaxPercent)
	if cfg.Grace < MinGrace || cfg.Settle < 0 || cfg.Interval < 0 || cfg.Memory < 1<<10 || cfg.MaxPercent < 0 || cfg.MaxPercent > 100 {
		return nil, fmt.Errorf("audit: want Grace (%s) of %s or more, Memory (%d) of 1 KiB or more, MaxPercent (%d) up to 100, and no negative durations",
			cfg.Grace, MinGrace, cfg.Memory, cfg.MaxPercent)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Auditor{cfg: cfg, log: cfg.Logger, holder: uuid.NewString(), claims: metastore.NewTable[claimRecord](cfg.Store, claimBucket)}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	return a, nil
}

// Define makes the audit's bucket. It may be repeated.
func (a *Auditor) Define(ctx context.Context) error {
	if err := a.cfg.Store.Define(ctx, metastore.Bucket{Name: claimBucket, Version: 1}); err != nil {
		return fmt.Errorf("define bucket %s: %w", claimBucket, err)
	}
	return nil
}

// Metrics returns the figures as they stand.
func (a *Auditor) Metrics() Metrics {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.met
}

func (a *Auditor) count(f func(*Metrics)) {
	a.mu.Lock()
	f(&a.met)
	a.mu.Unlock()
}

// startDelay keeps audits out of the way of a process that starts.
const startDelay = 10 * time.Minute

// Run makes a round whenever the last one, of whatever process, is Interval ago, until ctx ends; it returns ctx's error. A round that fails is logged and goes on from
// its last slice after a while.
func (a *Auditor) Run(ctx context.Context) error {
	wait := min(startDelay, a.cfg.Interval)
	for {
		if err := pause(ctx, wait); err != nil {
			return err
		}
		due, err := a.due(ctx)
		if err == nil && due <= 0 {
			err = a.RunOnce(ctx)
			due = a.cfg.Interval
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClaimed) {
			a.log.Error("audit stopped early", "err", err)
		}
		wait = due
		if err != nil {
			wait = min(startDelay, a.cfg.Interval)
		}
	}
}

// RunOnce makes a round now, or completes the one that was begun. It is [ErrClaimed] when another process is at it.
func (a *Auditor) RunOnce(ctx context.Context) error {
	c, err := a.claim(ctx)
	if err != nil {
		return err
	}
	begun := a.cfg.Now()
	if c.record.Slices == 0 {
		c.record.Slices, err = a.slices(ctx)
		if err != nil {
			return errors.Join(err, c.release(ctx))
		}
	}
	for c.record.Slice < c.record.Slices {
		if err := a.slice(ctx, c, c.record.Slice, c.record.Slices); err != nil {
			return errors.Join(fmt.Errorf("audit slice %d of %d: %w", c.record.Slice+1, c.record.Slices, err), c.release(ctx))
		}
		a.count(func(m *Metrics) { m.Slices++ })
		c.record.Slice++
		if err := c.save(ctx); err != nil {
			return err
		}
	}
	if err := c.finish(ctx); err != nil {
		return err
	}
	a.count(func(m *Metrics) {
		m.Rounds++
		m.LastRound = a.cfg.Now()
		m.LastDuration = m.LastRound.Sub(begun)
	})
	m := a.Metrics()
	a.log.Info("audit has gone round", "duration", m.LastDuration, "orphans", m.Orphans, "strays", m.Strays, "removed", m.Removed,
		"missing", m.Missing, "wrong", m.Wrong, "held_back", m.HeldBack, "unchecked_nodes", m.UncheckedNodes)
	return nil
}

// slices says into how many parts the ids are to be divided, by how many copies the nodes have now.
func (a *Auditor) slices(ctx context.Context) (int, error) {
	copies, err := a.copies(ctx)
	const bytesPerCopy = 3 * bitsPerItem / 8 // one in what is listed; place and object in what is named
	return int(copies*bytesPerCopy/a.cfg.Memory) + 1, err
}

// copies asks the nodes how many they have. One that does not answer counts none: the filters are then fuller than they should be, no more.
func (a *Auditor) copies(ctx context.Context) (n int64, err error) {
	for _, name := range a.cfg.Names() {
		node, err := a.node(name)
		if err != nil {
			continue
		}
		if u, err := node.Usage(ctx); err == nil {
			n += u.Objects
		}
	}
	return n, ctx.Err()
}

var errDown = errors.New("node is down or given up")

// node returns a node that is expected to answer.
func (a *Auditor) node(name string) (storage.Node, error) {
	if a.cfg.Nodes.Standing(name) != durable.Up {
		return nil, errDown
	}
	return a.cfg.Nodes.Node(name)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
