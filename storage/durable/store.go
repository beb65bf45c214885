package durable

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"cmp"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/picker"
)

// Errors of a [Store]; test with errors.Is. Each wraps what the nodes said.
var (
	// ErrNotEnoughSpace means that the nodes have no room for the copies (the original's NotEnoughSpaceError, 507).
	ErrNotEnoughSpace = errors.New("durable: not enough free space")

	// ErrUnavailable means that too few nodes could be reached; a retry later may succeed (503).
	ErrUnavailable = errors.New("durable: storage nodes cannot be reached")

	// ErrBusy means that uploads under way hold all the memory they may; a retry soon may succeed (503 with Retry-After).
	ErrBusy = errors.New("durable: too many bytes in flight")

	// ErrTooLarge means that a body of unknown size went beyond CreateRequest.MaxSize (413).
	ErrTooLarge = errors.New("durable: body is too large")

	// ErrSize means that a body has not the size that was announced.
	ErrSize = errors.New("durable: body has not the announced size")

	// ErrLost means that every copy is missing or damaged: all nodes were asked and none can come back with a good one.
	ErrLost = errors.New("durable: no intact copy is left")
)

// Standing is what is expected of a node.
type Standing int

// Standings of a node.
const (
	Up   Standing = iota // expected to answer
	Down                 // does not answer at present, or is not known (yet)
	Lost                 // given up: its copies do not count and are to be re-created elsewhere
)

// Nodes is the fleet as a Store needs it. Methods may be called by any number of goroutines at once and do not block on a node.
type Nodes interface {
	// Choose returns alternatives for new copies, as [picker.View.Choose].
	Choose(req picker.Request) ([]picker.Tuple, error)

	// Node returns the node of a name, or an error that is [storage.ErrUnavailable]. A lost node may be returned: what it
	// still answers is as good as any.
	Node(name string) (storage.Node, error)

	// Standing says what to expect of the node.
	Standing(name string) Standing

	// Observe tells how a call ended: nil when the node answered, otherwise the fault that makes it suspect.
	Observe(name string, fault error)
}

// A Location says where the copies of an object are: what an object's record keeps.
type Location struct {
	ID     storage.ObjectID
	Size   int64
	MD5    [16]byte // zero when it is not known
	Sharks []storage.Shark
}

// Damage is a copy that was found missing or damaged.
type Damage struct {
	Location Location
	Shark    storage.Shark
	Err      error // storage.ErrNotFound or storage.ErrCorrupt, wrapped
}

// Config describes a Store. Only Nodes is required.
type Config struct {
	Nodes Nodes

	// MaxInFlight bounds the bytes that all uploads together hold in memory; 0 means 128 MiB.
	MaxInFlight int64

	// MaxPerUpload bounds what one upload holds; 0 means 4 MiB. At least two buffers ([ChunkSize]): so much each upload has for itself, and more
	// only while half of MaxInFlight is free.
	MaxPerUpload int64

	// HeldSize is the greatest body of known size that is held whole until all copies are written; 0 means 64 KiB, which is
	// also the most.
	HeldSize int64

	// CreateTimeout is how long a node may take to agree to an object, or to begin to answer a read; 0 means 2 s.
	CreateTimeout time.Duration

	// StallTimeout is how long a node may take over one buffer, and over making a copy durable; 0 means 45 s.
	StallTimeout time.Duration

	// HedgeAfter is how long a read waits for one copy before it asks another as well; 0 means 100 ms, negative never.
	HedgeAfter time.Duration

	// Damaged is told of each copy that a read finds missing or damaged. It must not block.
	Damaged func(Damage)

	// Rand decides the order in which copies are read; nil means a fresh random source. The Store guards it.
	Rand *mathrand.Rand

	// Logger; nil discards.
	Logger *slog.Logger
}

// Defaults of [Config].
const (
	DefaultMaxInFlight   = 128 << 20
	DefaultMaxPerUpload  = 4 << 20
	DefaultHeldSize      = 64 << 10
	DefaultCreateTimeout = 2 * time.Second
	DefaultStallTimeout  = 45 * time.Second
	DefaultHedgeAfter    = 100 * time.Millisecond
)

// A Store keeps objects in several copies. Its methods may be called by any number of goroutines at once.
type Store struct {
	cfg    Config
	nodes  Nodes
	budget *budget
	log    *slog.Logger
	met    counters

	randMu sync.Mutex
	rand   *mathrand.Rand

	// tasks are the goroutines that outlive the call that began them: copies being cancelled, hedges that lost, clean-up.
	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup
}

// New checks the configuration and returns a Store. It asks nothing of the nodes.
func New(cfg Config) (*Store, error) {
	if cfg.Nodes == nil {
		return nil, fmt.Errorf("%w: durable: Config.Nodes is nil", storage.ErrInvalid)
	}
	cfg.MaxInFlight = cmp.Or(cfg.MaxInFlight, DefaultMaxInFlight)
	cfg.MaxPerUpload = cmp.Or(cfg.MaxPerUpload, min(DefaultMaxPerUpload, cfg.MaxInFlight))
	cfg.HeldSize = cmp.Or(cfg.HeldSize, DefaultHeldSize)
	cfg.CreateTimeout = cmp.Or(cfg.CreateTimeout, DefaultCreateTimeout)
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, DefaultStallTimeout)
	cfg.HedgeAfter = cmp.Or(cfg.HedgeAfter, DefaultHedgeAfter)
	switch {
	case cfg.MaxPerUpload < 2*ChunkSize || cfg.MaxInFlight < cfg.MaxPerUpload:
		return nil, fmt.Errorf("%w: durable: want %d <= MaxPerUpload (%d) <= MaxInFlight (%d)", storage.ErrInvalid, 2*ChunkSize, cfg.MaxPerUpload, cfg.MaxInFlight)
	case cfg.HeldSize < 0 || cfg.HeldSize > DefaultHeldSize:
		return nil, fmt.Errorf("%w: durable: HeldSize of %d", storage.ErrInvalid, cfg.HeldSize)
	case cfg.CreateTimeout < 0 || cfg.StallTimeout < 0:
		return nil, fmt.Errorf("%w: durable: negative timeout", storage.ErrInvalid)
	}
	s := &Store{cfg: cfg, nodes: cfg.Nodes, budget: newBudget(cfg.MaxInFlight), log: cfg.Logger, rand: cfg.Rand}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.rand == nil {
		var seed [16]byte
		rand.Read(seed[:])
		s.rand = mathrand.New(mathrand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])))
	}
	return s, nil
}

// Close waits for what the Store does in the background (cancelled copies, clean-up) and refuses new uploads with
// [storage.ErrClosed]. End all uploads and reads first.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.tasks.Wait()
	return nil
}

// task runs f beside the caller; Close waits for it.
func (s *Store) task(f func()) {
	s.tasks.Go(f)
}

// begin refuses work on a closed store.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return storage.ErrClosed
	}
	return nil
}

// observe passes the outcome of a call on to the fleet. What a healthy node may well answer is no fault, and neither is the
// end of ctx, the call's own, unless it was the guard that ended it.
func (s *Store) observe(ctx context.Context, name string, err error) {
	switch {
	case err != nil && ctx.Err() != nil && context.Cause(ctx) != errStalled:
	case isFault(err):
		s.nodes.Observe(name, err)
	default:
		s.nodes.Observe(name, nil)
	}
}

// isFault reports whether the error speaks against the node rather than about the object.
func isFault(err error) bool {
	if err == nil {
		return false
	}
	for _, answer := range []error{storage.ErrNotFound, storage.ErrExist, storage.ErrCorrupt, storage.ErrChecksum, storage.ErrNoSpace,
		storage.ErrReadOnly, storage.ErrInvalid} {
		if errors.Is(err, answer) {
			return false
		}
	}
	return true
}

// A NodeError is a failed call to one node.
type NodeError struct {
	Op   string // what was asked: "create", "write", "commit", "open", "read", ...
	Node string
	Err  error
}

func (e *NodeError) Error() string { return e.Op + " on " + e.Node + ": " + e.Err.Error() }

// Unwrap returns the node's error.
func (e *NodeError) Unwrap() error { return e.Err }

// guard cancels a context when one step takes too long. A guarded step is begun with start and ended with stop.
type guard struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	onEnd  context.CancelFunc // also ended by end
}

var errStalled = fmt.Errorf("%w: no progress in time", storage.ErrUnavailable)

func newGuard(ctx context.Context) *guard {
	g := &guard{}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

func (g *guard) start(d time.Duration) {
	if g.timer == nil {
		g.timer = time.AfterFunc(d, func() { g.cancel(errStalled) })
	} else {
		g.timer.Reset(d)
	}
}

// stop ends a step and returns its error, made plain when it was the guard that ended it.
func (g *guard) stop(err error) error {
	g.timer.Stop()
	if err != nil && context.Cause(g.ctx) == errStalled {
		return errStalled
	}
	return err
}

// end releases the guard. The guarded call's context is over after this.
func (g *guard) end() {
	if g.timer != nil {
		g.timer.Stop()
	}
	g.cancel(context.Canceled)
	if g.onEnd != nil {
		g.onEnd()
	}
}
