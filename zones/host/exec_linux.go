package host

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// Exec starts a program in a running zone; see [zones.Driver] for what holds. It works on a zone whatever process started it.
func (h *Host) Exec(ctx context.Context, id string, req zones.ExecRequest) (zones.Process, error) {
	d, err := h.running(ctx, id)
	if err != nil {
		return nil, zones.OpError("exec", id, err)
	}
	if !d.Capabilities().Exec {
		return nil, zones.OpError("exec", id, fmt.Errorf("%w: the driver %s cannot start programs inside", zones.ErrNotSupported, d.Capabilities().Name))
	}
	r, err := h.load(id)
	if err != nil {
		return nil, zones.OpError("exec", id, err)
	}
	if !r.Spec.Docker && !slices.ContainsFunc(req.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		req.Env = append(slices.Clone(req.Env), "PATH="+sparsePath)
	}
	return d.Exec(ctx, id, req)
}

// Console attaches to a running zone's console. What it returns may be a [zones.ConsoleResizer].
func (h *Host) Console(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	d, err := h.running(ctx, id)
	if err != nil {
		return nil, zones.OpError("console", id, err)
	}
	c, ok := zones.As[zones.Consoler](d)
	if !ok {
		return nil, zones.OpError("console", id, zones.ErrNotSupported)
	}
	return c.Console(ctx, id)
}

// Info asks a running VM's emulator about it (vmadm info): all types, or those named.
func (h *Host) Info(ctx context.Context, id string, types ...string) (map[string]any, error) {
	d, err := h.running(ctx, id)
	if err != nil {
		return nil, zones.OpError("info", id, err)
	}
	i, ok := zones.As[zones.Informer](d)
	if !ok {
		return nil, zones.OpError("info", id, fmt.Errorf("%w: only hardware VMs have it", zones.ErrNotSupported))
	}
	return i.Info(ctx, id, types...)
}

// Sysrq is what [Host.Sysrq] can do.
type Sysrq string

const (
	// SysrqNMI raises a non-maskable interrupt.
	SysrqNMI Sysrq = "nmi"
	// SysrqScreenshot writes the screen as a PPM picture.
	SysrqScreenshot Sysrq = "screenshot"
)

// Sysrq interrupts a running VM, or writes what its screen shows (vmadm sysrq). OS zones give [zones.ErrNotSupported]; w is for a
// screenshot and may be nil else.
func (h *Host) Sysrq(ctx context.Context, id string, what Sysrq, w io.Writer) error {
	if what != SysrqNMI && (what != SysrqScreenshot || w == nil) {
		return zones.OpError("sysrq", id, fmt.Errorf("%w: %.40q is neither nmi nor screenshot", zones.ErrInvalid, what))
	}
	d, err := h.running(ctx, id)
	if err != nil {
		return zones.OpError("sysrq", id, err)
	}
	i, ok := zones.As[zones.Interrupter](d)
	if !ok {
		return zones.OpError("sysrq", id, fmt.Errorf("%w: only hardware VMs have it", zones.ErrNotSupported))
	}
	if what == SysrqNMI {
		return zones.OpError("sysrq", id, i.NMI(ctx, id))
	}
	return zones.OpError("sysrq", id, i.Screenshot(ctx, id, w))
}

// Metrics is what a zone uses at one instant.
type Metrics struct {
	zones.Usage
	// Stored is what it takes of the pool in bytes, Quota of how much (0: no limit).
	Stored int64 `json:"stored"`
	Quota  int64 `json:"quota,omitzero"`
	// Uptime is how long the machine runs.
	Uptime time.Duration `json:"uptime_ns,omitzero"`
}

// Metrics reads a zone's meters. A stopped zone has only what it stores.
func (h *Host) Metrics(ctx context.Context, id string) (Metrics, error) {
	r, err := h.load(id)
	if err != nil {
		return Metrics{}, zones.OpError("metrics", id, err)
	}
	m := Metrics{Usage: zones.Usage{Time: time.Now()}}
	if r.Handle != nil {
		if d, err := h.running(ctx, id); err == nil {
			if m.Usage, err = d.Usage(ctx, id); err != nil {
				return m, zones.OpError("metrics", id, err)
			}
			m.Uptime = time.Since(r.Booted)
			if h.cfg.Network != nil && len(r.Spec.NICs) > 0 {
				if n, err := h.cfg.Network.Usage(ctx, id); err == nil {
					m.Network = n
				}
			}
		}
	}
	u, err := h.disk(ctx, id)
	if err != nil {
		return m, zones.OpError("metrics", id, err)
	}
	m.Stored, m.Quota = u.Used, u.Quota
	return m, nil
}
