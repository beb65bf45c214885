package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/zones"
)

// A Measure is what a task took, or, at a checkpoint, has taken since the one before.
type Measure struct {
	Job, Owner string
	Phase      int
	Task       string
	Zone       string
	Checkpoint bool // the task goes on
	Usage      task.Usage
}

// LogValue gives the fields by the names of task.Usage.
func (m Measure) LogValue() slog.Value {
	u := m.Usage
	return slog.GroupValue(slog.String("job", m.Job), slog.String("owner", m.Owner), slog.Int("phase", m.Phase), slog.String("task", m.Task),
		slog.String("zone", m.Zone), slog.Bool("checkpoint", m.Checkpoint), slog.Int64("wall_ns", u.WallNS), slog.Int64("user_ns", u.UserNS),
		slog.Int64("system_ns", u.SystemNS), slog.Int("memory_mb", u.MemoryMB), slog.Uint64("peak_bytes", u.PeakBytes), slog.Uint64("read_bytes", u.ReadBytes),
		slog.Uint64("written_bytes", u.WrittenBytes), slog.Uint64("in_bytes", u.InBytes), slog.Uint64("out_bytes", u.OutBytes))
}

// measure reads the zone's meters after a task, and sees from them whether something ran out.
func (w *worker) measure(t *attempt, e *ending, began time.Time) {
	ctx := context.WithoutCancel(t.ctx)
	memory, _ := sizes(t.phase())
	e.usage = task.Usage{WallNS: time.Since(began).Nanoseconds(), MemoryMB: int(memory >> 20), InBytes: e.result.InBytes, OutBytes: e.result.OutBytes}
	u := w.zone.Usage()
	e.oom = u.Memory.OOMKills > w.meter.Memory.OOMKills
	since(&e.usage, &u, &w.meter)
	w.meter = u
	failed := e.exec != nil || !e.status.Success()
	if failed && !t.cancelled() {
		e.full = w.zone.Full(ctx)
	}
	core, err := w.zone.TakeCore()
	if err != nil {
		w.agent.log.Warn("core dumps not looked for", "task", t.Task, "err", err)
	}
	e.core = core
	m := Measure{Job: t.Job, Owner: t.job.Owner, Phase: t.Phase, Task: t.Task, Zone: w.zone.ID(), Usage: e.usage}
	w.agent.cfg.Meter(m)
	w.agent.log.LogAttrs(ctx, slog.LevelInfo, "task metered", slog.Any("meter", m))
}

// since fills in the difference of two readings of a zone.
func since(u *task.Usage, now, before *zones.Usage) {
	u.UserNS, u.SystemNS = int64(now.CPU.User-before.CPU.User), int64(now.CPU.System-before.CPU.System)
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
