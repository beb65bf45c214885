package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/zones"
)

// A Measure is what a task took since it began, or since the Measure of it before this one. The Measures of a task add up to its Total.
type Measure struct {
	Job, Owner string
	Phase      int
	Task       string
	Zone       string
	Checkpoint bool // the task goes on
	Usage      task.Usage
	Total      task.Usage // since the task began
}

// LogValue gives the fields by the names of task.Usage.
func (m Measure) LogValue() slog.Value {
	return slog.GroupValue(slog.String("job", m.Job), slog.String("owner", m.Owner), slog.Int("phase", m.Phase), slog.String("task", m.Task),
		slog.String("zone", m.Zone), slog.Bool("checkpoint", m.Checkpoint), slog.Any("delta", usageValue(m.Usage)), slog.Any("total", usageValue(m.Total)))
}

func usageValue(u task.Usage) slog.Value {
	return slog.GroupValue(slog.Int64("wall_ns", u.WallNS), slog.Int64("user_ns", u.UserNS),
		slog.Int64("system_ns", u.SystemNS), slog.Int("memory_mb", u.MemoryMB), slog.Uint64("peak_bytes", u.PeakBytes), slog.Uint64("read_bytes", u.ReadBytes),
		slog.Uint64("written_bytes", u.WrittenBytes), slog.Uint64("in_bytes", u.InBytes), slog.Uint64("out_bytes", u.OutBytes))
}

// reading takes what the zone's meters have counted since the reading before, as the task's.
func (w *worker) reading(t *attempt, e *ending, checkpoint bool) {
	now, u := time.Now(), w.zone.Usage()
	e.oom = e.oom || u.Memory.OOMKills > w.meter.Memory.OOMKills
	delta := task.Usage{WallNS: now.Sub(e.read).Nanoseconds(), MemoryMB: e.usage.MemoryMB, InBytes: e.result.InBytes, OutBytes: e.result.OutBytes}
	since(&delta, &u, &w.meter)
	w.meter, e.read = u, now
	sum := &e.usage
	sum.WallNS += delta.WallNS
	sum.UserNS += delta.UserNS
	sum.SystemNS += delta.SystemNS
	sum.ReadBytes += delta.ReadBytes
	sum.WrittenBytes += delta.WrittenBytes
	sum.InBytes += delta.InBytes
	sum.OutBytes += delta.OutBytes
	sum.PeakBytes = delta.PeakBytes
	m := Measure{Job: t.Job, Owner: t.job.Owner, Phase: t.Phase, Task: t.Task, Zone: w.zone.ID(), Checkpoint: checkpoint, Usage: delta, Total: *sum}
	w.agent.cfg.Meter(m)
	w.agent.log.LogAttrs(t.ctx, slog.LevelInfo, "task metered", slog.Any("meter", m))
}

// checkpoints meters a long task until stop is called.
func (w *worker) checkpoints(t *attempt, e *ending) (stop func()) {
	every := w.agent.cfg.Checkpoint
	if t.job.Options.FrequentCheckpoint {
		every = min(every, 5*time.Second)
	}
	var mu sync.Mutex
	stopped := false
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(every, func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			w.reading(t, e, true)
			timer.Reset(every)
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		stopped = true
		mu.Unlock()
	}
}

// measure reads the zone's meters after a task, and sees whether something ran out.
func (w *worker) measure(t *attempt, e *ending) {
	w.reading(t, e, false)
	ctx := context.WithoutCancel(t.ctx)
	failed := e.exec != nil || !e.status.Success()
	if failed && !t.cancelled() {
		e.full = w.zone.Full(ctx)
	}
	core, err := w.zone.TakeCore()
	if err != nil {
		w.agent.log.Warn("core dumps not looked for", "task", t.Task, "err", err)
	}
	e.core = core
}

// since fills in the difference of two readings of a zone.
func since(u *task.Usage, now, before *zones.Usage) {
	// The kernel may correct one by the other.
	u.UserNS, u.SystemNS = max(0, int64(now.CPU.User-before.CPU.User)), max(0, int64(now.CPU.System-before.CPU.System))
	u.PeakBytes = now.Memory.Peak
	u.ReadBytes, u.WrittenBytes = now.Disk.ReadBytes-before.Disk.ReadBytes, now.Disk.WriteBytes-before.Disk.WriteBytes
}

// Metrics are counts since the agent began, and of this instant.
type Metrics struct {
	Streams, Jobs, Tasks                        int
	ZonesFree, ZonesStarting, ZonesBusy         int
	ZonesIdle, GroupsWaiting, Queued            int
	Connects, Started, OK, Failed, SystemFailed int64
	Cancelled, Hogs, Inits                      int64
	Uploads, UploadBytes                        int64
	Inputs, InputBytes, RemoteInputs            int64
}

// Metrics returns the counts.
func (a *Agent) Metrics() Metrics {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sched.Stats()
	c := &a.count
	return Metrics{
		Streams: len(a.streams), Jobs: len(a.jobs), Tasks: len(a.attempts),
		ZonesFree: s.Free, ZonesStarting: s.Starting, ZonesBusy: s.Busy, ZonesIdle: s.Idle, GroupsWaiting: s.Waiting, Queued: s.Queued,
		Connects: c.streams.Load(), Started: c.started.Load(), OK: c.ok.Load(), Failed: c.failed.Load(), SystemFailed: c.retried.Load(),
		Cancelled: c.cancelled.Load(), Hogs: c.hogs.Load(), Inits: c.inits.Load(), Uploads: c.uploads.Load(), UploadBytes: c.uploadBytes.Load(),
		Inputs: c.inputs.Load(), InputBytes: c.inputBytes.Load(), RemoteInputs: c.remote.Load(),
	}
}
