package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/agent/internal/sched"
	"github.com/mobulacloud/mobula/manta/jobs/task"
)

// An Agent runs tasks in zones of this server. It is a task.Agent. Its methods may be called from several goroutines.
type Agent struct {
	cfg        Config
	log        *slog.Logger
	generation string
	zones      zonePool
	uploads    chan struct{} // one for each that is under way
	count      counters
	intact     intact
	lacking    atomic.Int64 // times in a row that no zone could be had

	mu       sync.Mutex
	sched    *sched.Scheduler
	streams  map[string]*stream // by supervisor
	jobs     map[string]*job
	attempts map[string]*attempt
	workers  map[uint64]*worker
	timer    *time.Timer
	closed   bool

	connecting sync.Mutex // one supervisor after another
	work       sync.WaitGroup
	ctx        context.Context // ends with the agent
	cancel     context.CancelCauseFunc
}

var _ task.Agent = (*Agent)(nil)

// Open clears away what an earlier process left in Config.Dir, prepares zones' file systems, and returns an Agent. Another process that has Dir
// is an error.
func Open(ctx context.Context, cfg Config) (*Agent, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := stocks(&cfg); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	zones, err := openZones(ctx, &cfg)
	if err != nil {
		return nil, fmt.Errorf("agent: open zones: %w", err)
	}
	return newAgent(cfg, zones), nil
}

func newAgent(cfg Config, zones zonePool) *Agent {
	a := &Agent{
		cfg: cfg, log: cfg.Logger, generation: uuid.NewString(), zones: zones, uploads: make(chan struct{}, cfg.Uploads),
		sched: sched.New(sched.Config{Zones: cfg.Zones, Memory: cfg.MemoryStock, Disk: cfg.DiskStock, IdleMin: cfg.IdleMin, IdleMax: cfg.IdleMax,
			HogGrace: cfg.HogGrace, HogKill: cfg.HogKill, Turn: cfg.Turn}),
		streams: map[string]*stream{}, jobs: map[string]*job{}, attempts: map[string]*attempt{}, workers: map[uint64]*worker{},
	}
	a.ctx, a.cancel = context.WithCancelCause(context.Background())
	a.timer = time.AfterFunc(time.Hour, a.tick)
	return a
}

// Missing says in one line each what this server lacks and what that takes away.
func (a *Agent) Missing() []string { return a.zones.Missing() }

// Run keeps zones ready until ctx ends. Then it ends all streams with their tasks and removes every zone, mount, control group and file system. It is called
// once, and nothing of the agent works before and after.
func (a *Agent) Run(ctx context.Context) error {
	pool, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- a.zones.Run(pool) }()
	var early error
	select {
	case <-ctx.Done():
	case early = <-done:
		done <- nil
	}
	a.shutDown()
	stop()
	err := errors.Join(early, <-done)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, a.zones.Close(end))
}

// shutDown ends all streams and waits for everything that runs.
func (a *Agent) shutDown() {
	a.mu.Lock()
	a.closed = true
	a.timer.Stop()
	streams := slices.Collect(maps.Values(a.streams))
	a.mu.Unlock()
	for _, s := range streams {
		s.end(task.ErrClosed)
	}
	a.cancel(task.ErrClosed)
	a.work.Wait()
}

// Connect implements task.Agent.
func (a *Agent) Connect(ctx context.Context, supervisor string) (task.Stream, error) {
	a.connecting.Lock()
	defer a.connecting.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	a.mu.Lock()
	old := a.streams[supervisor]
	closed := a.closed
	a.mu.Unlock()
	if closed {
		return nil, task.ErrUnavailable
	}
	if old != nil {
		old.end(task.ErrClosed)
		select {
		case <-old.over:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	s := newStream(a, supervisor)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, task.ErrUnavailable
	}
	a.streams[supervisor] = s
	a.count.streams.Add(1)
	return s, nil
}

func (a *Agent) hello() task.Hello {
	h := task.Hello{Agent: a.cfg.Name, Generation: a.generation, Images: a.cfg.Images, Zones: a.cfg.Zones}
	for id := range a.cfg.Stores {
		h.Storage = append(h.Storage, id)
	}
	slices.Sort(h.Storage)
	return h
}

func (a *Agent) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.plan()
}

// plan asks the scheduler and does what it says. The lock is held.
func (a *Agent) plan() {
	if a.closed {
		return
	}
	now := time.Now()
	for _, o := range a.sched.Plan(now) {
		w := a.workers[o.Stream]
		switch o.Verb {
		case sched.Begin:
			w = &worker{agent: a, id: o.Stream, group: o.Group, job: a.jobs[o.Group.Job], next: make(chan *attempt, 1)}
			a.workers[o.Stream] = w
			a.work.Go(w.run)
		case sched.Run:
			w.next <- a.attempts[o.Task] // it has room: the worker has asked
		case sched.End:
			close(w.next)
		case sched.Kill:
			a.count.hogs.Add(1)
			if t := a.attempts[o.Task]; t != nil {
				t.stop(errHog)
			}
		}
	}
	if at := a.sched.Wake(); at.IsZero() {
		a.timer.Stop()
	} else {
		a.timer.Reset(max(at.Sub(now), time.Millisecond))
	}
}

// ready tells the scheduler that a worker can take a task.
func (a *Agent) ready(w *worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sched.Ready(time.Now(), w.id)
	a.plan()
}

// gone tells the scheduler that a worker has ended.
func (a *Agent) gone(w *worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sched.Gone(time.Now(), w.id)
	delete(a.workers, w.id)
	a.plan()
}

// spec is what zones of a phase need beyond the others'.
func spec(owner string, p *jobs.Phase) sched.Spec {
	memory, disk := sizes(p)
	return sched.Spec{Owner: owner, Memory: max(memory-zoneMemory, 0), Disk: max(disk-zoneDisk, 0)}
}

// sizes are a phase's limits in bytes.
func sizes(p *jobs.Phase) (memory, disk int64) {
	memory, disk = zoneMemory, zoneDisk
	if p.Memory > 0 {
		memory = int64(p.Memory) << 20
	}
	if p.Disk > 0 {
		disk = int64(p.Disk) << 30
	}
	return memory, disk
}

// counters of Metrics.
type counters struct {
	streams, hogs                atomic.Int64
	started, ok, failed, retried atomic.Int64
	cancelled, inits             atomic.Int64
	uploads, uploadBytes         atomic.Int64
	inputs, inputBytes, remote   atomic.Int64
}
