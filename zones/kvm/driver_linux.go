package kvm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/limits"
	"github.com/mobulacloud/mobula/zones/internal/roster"
)

// Name is the driver's, in handles.
const Name = "kvm"

// Config configures a [Driver].
type Config struct {
	// StateDir is a private directory of this driver alone, made if absent. It should not outlive a boot of the host
	// (below /run), but may. Required.
	StateDir string
	// QEMU is the emulator, "qemu-system-x86_64" from PATH when empty.
	QEMU string
	// Accelerator is "kvm" or "tcg"; when empty, KVM if it works and TCG if not.
	Accelerator string
	// Kernel, if set, boots every machine from a kernel of the host.
	Kernel *Kernel
	// Firmware starts machines whose bootrom is "uefi"; nil looks for OVMF where distributions put it.
	Firmware *Firmware
	// CgroupParent is the control group that machines' groups are made in; "/mobula" when empty.
	CgroupParent string
	// StopGrace is what Stop waits when it is given 0; 180 s when zero, as vmadm does for VMs.
	StopGrace time.Duration
	// Logger gets what nobody can be told by an error; nil discards.
	Logger *slog.Logger
}

// Driver runs hardware VMs. It implements zones.Driver, Consoler, Rebooter, Informer, MetadataSerial, LiveSnapshotter,
// DiskAttacher and Lister.
type Driver struct {
	cfg   Config
	log   *slog.Logger
	accel string
	ctl   limits.Controllers
	caps  zones.Capabilities
	// firmware is nil where there is none.
	firmware *Firmware

	machines *roster.Roster[*machine]
	watchers sync.WaitGroup
}

var (
	_ zones.Driver          = (*Driver)(nil)
	_ zones.Consoler        = (*Driver)(nil)
	_ zones.Rebooter        = (*Driver)(nil)
	_ zones.Informer        = (*Driver)(nil)
	_ zones.MetadataSerial  = (*Driver)(nil)
	_ zones.LiveSnapshotter = (*Driver)(nil)
	_ zones.DiskAttacher    = (*Driver)(nil)
	_ zones.Lister          = (*Driver)(nil)
)

// Open checks the host, which takes up to some seconds where KVM hangs, and makes the driver. It disturbs no machine of an
// earlier process; Recover takes those over. Without root it gives zones.ErrPermission, without QEMU, or without
// anything to accelerate it with, zones.ErrNotSupported.
func Open(ctx context.Context, cfg Config) (*Driver, error) {
	if !filepath.IsAbs(cfg.StateDir) {
		return nil, fmt.Errorf("%w: kvm: StateDir must be an absolute path", zones.ErrInvalid)
	}
	if cfg.CgroupParent == "" {
		cfg.CgroupParent = "/mobula"
	}
	if cfg.CgroupParent = path.Clean(cfg.CgroupParent); cfg.CgroupParent[0] != '/' || cfg.CgroupParent == "/" {
		return nil, fmt.Errorf("%w: kvm: CgroupParent must be below /", zones.ErrInvalid)
	}
	if cfg.StopGrace <= 0 {
		cfg.StopGrace = 180 * time.Second
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: VMs need root to open taps and disks and to set up control groups", zones.ErrPermission)
	}
	if cfg.QEMU == "" {
		cfg.QEMU = "qemu-system-x86_64"
	}
	qemu, err := exec.LookPath(cfg.QEMU)
	if err != nil {
		return nil, fmt.Errorf("%w: no %s (install qemu-system-x86): %w", zones.ErrNotSupported, cfg.QEMU, err)
	}
	cfg.QEMU = qemu
	d := &Driver{cfg: cfg, log: cfg.Logger, ctl: limits.Probe(), machines: roster.New[*machine]()}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	var missing []string
	if d.accel, missing, err = chooseAccelerator(ctx, cfg); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("kvm: %w", err)
	}
	d.caps = zones.Capabilities{
		Name: Name, Brands: []zones.Brand{zones.BrandKVM, zones.BrandBhyve},
		Console: true, Snapshot: true, Survives: true, Isolation: d.accel,
		Limits:  d.ctl.Names(),
		Missing: append(missing, d.ctl.Missing...),
	}
	if d.firmware = cfg.Firmware; d.firmware == nil {
		d.firmware = findFirmware()
	}
	if d.firmware != nil {
		d.caps.Properties = append(d.caps.Properties, "bootrom=uefi")
	} else {
		d.caps.Missing = append(d.caps.Missing, "there is no UEFI firmware, so bootrom is bios (install ovmf)")
	}
	return d, nil
}

func chooseAccelerator(ctx context.Context, cfg Config) (accel string, missing []string, err error) {
	var why []error
	for _, a := range []string{"kvm", "tcg"} {
		if cfg.Accelerator != "" && cfg.Accelerator != a {
			continue
		}
		err := try(ctx, cfg.QEMU, a, kvmGroups())
		if ctx.Err() != nil {
			return "", nil, ctx.Err()
		}
		if err == nil {
			return a, missing, nil
		}
		why = append(why, fmt.Errorf("%s: %w", a, err))
		if a == "kvm" {
			missing = append(missing, fmt.Sprintf("KVM does not work here, so machines are emulated and slow (%v)", err))
		}
	}
	if len(why) == 0 {
		return "", nil, fmt.Errorf("%w: accelerator %q", zones.ErrInvalid, cfg.Accelerator)
	}
	return "", nil, fmt.Errorf("%w: no accelerator: %w", zones.ErrNotSupported, errors.Join(why...))
}

// Close lets go of everything the process holds. Machines run on; another driver on the same StateDir can recover them.
func (d *Driver) Close() error {
	d.machines.Close()
	d.watchers.Wait()
	if cg, err := d.cgroup("none", nil); err == nil {
		for _, p := range cg.GetPaths() {
			_ = os.Remove(filepath.Dir(p)) // if it is empty
		}
	}
	return nil
}

// Capabilities implements zones.Driver.
func (d *Driver) Capabilities() zones.Capabilities { return d.caps }

// Status implements zones.Driver.
func (d *Driver) Status(_ context.Context, id string) (zones.Status, error) {
	m, err := d.machines.Find("status", id)
	if err != nil {
		return zones.Status{}, err
	}
	s := zones.Status{Phase: zones.PhaseRunning, PID: m.rec.PID, Started: m.rec.Started, Detail: map[string]string{"accelerator": m.rec.Accel}}
	select {
	case <-m.ended:
		s.Phase, s.PID, s.Exit = zones.PhaseEnded, 0, m.exit
	default:
	}
	return s, nil
}

// Wait implements zones.Driver.
func (d *Driver) Wait(ctx context.Context, id string) (zones.ExitStatus, error) {
	m, err := d.machines.Find("wait", id)
	if err != nil {
		return zones.ExitStatus{}, err
	}
	select {
	case <-m.ended:
		return m.exit, nil
	default:
	}
	select {
	case <-m.ended:
		return m.exit, nil
	case <-m.released:
		return zones.ExitStatus{}, zones.OpError("wait", id, zones.ErrClosed)
	case <-ctx.Done():
		return zones.ExitStatus{}, zones.OpError("wait", id, context.Cause(ctx))
	}
}

// Signal implements zones.Driver: only SIGKILL means anything to a VM; Stop asks it to shut down, Reboot resets it.
func (d *Driver) Signal(_ context.Context, id string, sig zones.Signal) error {
	m, err := d.machines.Running("signal", id)
	if err != nil {
		return err
	}
	switch {
	case sig.Number() == 0:
		return zones.OpError("signal", id, fmt.Errorf("%w: signal %q", zones.ErrInvalid, sig))
	case sig != zones.SIGKILL:
		return zones.OpError("signal", id, fmt.Errorf("%w: %s to a VM", zones.ErrNotSupported, sig))
	}
	return zones.OpError("signal", id, m.kill())
}

// Stop implements zones.Driver: it presses the power button. A guest that is still booting does not notice, so it presses
// again.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	m, err := d.machines.Find("stop", id)
	if err != nil {
		return err
	}
	if grace <= 0 {
		grace = d.cfg.StopGrace
	}
	deadline := time.NewTimer(grace)
	defer deadline.Stop()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	press := func() error { return m.execute(ctx, "system_powerdown", nil, nil) }
	err = press()
	for {
		select {
		case <-m.ended:
			return nil
		default:
		}
		if err != nil && ctx.Err() == nil {
			select { // the monitor goes a moment before the process does
			case <-m.ended:
				return nil
			case <-ctx.Done():
			case <-time.After(3 * time.Second):
				return zones.OpError("stop", id, err)
			}
		}
		select {
		case <-m.ended:
			return nil
		case <-m.released:
			return zones.OpError("stop", id, zones.ErrClosed)
		case <-ctx.Done():
			return zones.OpError("stop", id, context.Cause(ctx))
		case <-deadline.C:
			return zones.OpError("stop", id, fmt.Errorf("%w: still running after %v", zones.ErrTimeout, grace))
		case <-again.C:
			err = press()
		}
	}
}

// Reboot implements zones.Rebooter.
func (d *Driver) Reboot(ctx context.Context, id string) error {
	m, err := d.machines.Running("reboot", id)
	if err != nil {
		return err
	}
	return zones.OpError("reboot", id, m.execute(ctx, "system_reset", nil, nil))
}

// Exec implements zones.Driver: nothing of ours runs in a VM.
func (d *Driver) Exec(_ context.Context, id string, _ zones.ExecRequest) (zones.Process, error) {
	return nil, zones.OpError("exec", id, zones.ErrNotSupported)
}

// Recover implements zones.Driver.
func (d *Driver) Recover(ctx context.Context, h zones.Handle) error {
	if h.Driver != Name || h.Version != recordVersion {
		return zones.OpError("recover", h.ID, fmt.Errorf("%w: handle of %s, version %d", zones.ErrNotSupported, h.Driver, h.Version))
	}
	if !zones.ValidID(h.ID) {
		return zones.OpError("recover", h.ID, fmt.Errorf("%w: id", zones.ErrInvalid))
	}
	if _, err := d.machines.Claim("recover", h.ID, true); err != nil {
		if errors.Is(err, zones.ErrExist) {
			return nil
		}
		return err
	}
	var m *machine
	defer func() { d.machines.Settle(h.ID, m) }()
	// Our own record may be newer than the handle; without one the machine was destroyed.
	r, err := d.load(h.ID)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return zones.OpError("recover", h.ID, zones.ErrNotExist)
	case err != nil:
		return zones.OpError("recover", h.ID, err)
	case !r.alive():
		return zones.OpError("recover", h.ID, fmt.Errorf("%w: it ended and nobody saw how", zones.ErrNotExist))
	}
	held, err := d.hold(ctx, r, nil)
	if err != nil {
		return zones.OpError("recover", h.ID, err)
	}
	var is struct{ UUID string }
	if err := held.execute(ctx, "query-uuid", nil, &is); err != nil || is.UUID != h.ID {
		held.Release()
		return zones.OpError("recover", h.ID, errors.Join(fmt.Errorf("the monitor is of machine %q", is.UUID), err))
	}
	m = held
	return nil
}

// List implements zones.Lister.
func (d *Driver) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(d.cfg.StateDir)
	if err != nil {
		return nil, zones.OpError("list", "", err)
	}
	var ids []string
	for _, e := range entries {
		if zones.ValidID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// cgroup is the manager of a machine's control groups.
func (d *Driver) cgroup(id string, paths map[string]string) (cgroups.Manager, error) {
	return manager.NewWithPaths(&cgroups.Cgroup{Path: path.Join(d.cfg.CgroupParent, id), Resources: &cgroups.Resources{}}, paths)
}
