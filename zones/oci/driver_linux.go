//go:build cgo

package oci

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
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/limits"
	"github.com/mobulacloud/mobula/zones/internal/roster"
)

// Driver runs OS containers. It implements zones.Driver, Consoler, Giver, Resetter and Lister.
type Driver struct {
	cfg     Config
	log     *slog.Logger
	ctl     limits.Controllers
	init    initFiles
	launch  launcher
	starter starter
	// rootless: nothing is given but what any user may do.
	rootless bool
	masks    []string
	userns   userNamespaces

	machines *roster.Roster[*machine]
	watchers sync.WaitGroup
}

var (
	_ zones.Driver   = (*Driver)(nil)
	_ zones.Consoler = (*Driver)(nil)
	_ zones.Giver    = (*Driver)(nil)

	_ zones.Lister = (*Driver)(nil)
)

// New checks the host and makes the driver. It starts no machine and disturbs none of an earlier process; Recover takes those over.
//
// Without root it makes one with less, as its Capabilities tell: a machine has the calling user's id as its only one, which is root inside; no
// limits but those on a process; and no network but a loopback. Where the kernel does not let users make namespaces, it gives
// zones.ErrPermission.
func New(cfg Config) (*Driver, error) {
	if !filepath.IsAbs(cfg.StateDir) {
		return nil, fmt.Errorf("%w: oci: StateDir must be an absolute path", zones.ErrInvalid)
	}
	if cfg.CgroupParent == "" {
		cfg.CgroupParent = "/mobula"
	}
	if cfg.CgroupParent = path.Clean(cfg.CgroupParent); cfg.CgroupParent[0] != '/' || cfg.CgroupParent == "/" {
		return nil, fmt.Errorf("%w: oci: CgroupParent must be below /", zones.ErrInvalid)
	}
	if cfg.MountDir == "" {
		cfg.MountDir = "/run/mobula-oci"
	}
	if cfg.StopGrace <= 0 {
		cfg.StopGrace = 60 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	rootless := os.Geteuid() != 0
	if rootless && cfg.Runtime != "" {
		return nil, fmt.Errorf("%w: oci: a runtime of one's own needs root", zones.ErrNotSupported)
	}
	logrus.SetLevel(logrus.ErrorLevel) // libcontainer's own; its warnings are about files that this kernel lacks
	for _, dir := range []string{"", "records", "containers", "init"} {
		if err := os.MkdirAll(filepath.Join(cfg.StateDir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("oci: %w", err)
		}
	}
	ctl := withoutRoot
	if !rootless {
		if err := passable(cfg.MountDir); err != nil {
			return nil, fmt.Errorf("oci: %w", err)
		}
		ctl = limits.Probe()
	}
	d := &Driver{cfg: cfg, log: cfg.Logger, ctl: ctl, masks: present(masked), machines: roster.New[*machine](), rootless: rootless}
	var err error
	if d.init, err = installInit(filepath.Join(cfg.StateDir, "init")); err != nil {
		return nil, fmt.Errorf("oci: install the in-zone init: %w", err)
	}
	if err := d.sweepInits(); err != nil {
		d.log.Warn("old init files not removed", "err", err)
	}
	d.starter.init = d.init
	d.userns.starter = &d.starter
	d.launch = &embedded{starter: &d.starter, users: &d.userns, rootless: rootless}
	if cfg.Runtime != "" {
		program, err := exec.LookPath(cfg.Runtime)
		if err != nil {
			return nil, fmt.Errorf("%w: oci: runtime: %w", zones.ErrInvalid, err)
		}
		d.launch = &external{program: program, dir: filepath.Join(cfg.StateDir, "containers"), mounts: cfg.MountDir, args: d.init.args}
	}
	if _, err := filter(); err != nil {
		return nil, fmt.Errorf("oci: %w", err)
	}
	if rootless {
		if err := d.tryNamespace(); err != nil {
			d.Close()
			return nil, fmt.Errorf("%w: OS containers need root here, as users may not make namespaces: %w", zones.ErrPermission, err)
		}
	}
	return d, nil
}

// passable makes the directory, and reports one above it that others cannot pass through.
func passable(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err != nil {
			return err
		} else if st.Mode()&0o001 == 0 {
			return fmt.Errorf("%w: MountDir: nobody but its owner can pass through %s", zones.ErrInvalid, dir)
		}
	}
	return nil
}

// Close lets go of everything the process holds. Machines run on; another driver on the same StateDir can recover them.
func (d *Driver) Close() error {
	d.machines.Close()
	d.watchers.Wait()
	d.starter.close()
	d.userns.close()
	d.init.lock.Close()
	d.tidy()
	return nil
}

// sweepInits removes the init files of builds that nothing runs on any more.
func (d *Driver) sweepInits() error {
	ids, err := d.List(context.Background())
	if err != nil {
		return err
	}
	used := map[string]bool{d.init.key: true}
	for _, id := range ids {
		r, err := d.load(id)
		if err != nil {
			return err // what it uses cannot be known
		}
		used[r.Init] = true
	}
	return sweepInits(filepath.Join(d.cfg.StateDir, "init"), used)
}

// mountPoint is where an external runtime finds a zone's root while it starts.
func (d *Driver) mountPoint(id string) string { return filepath.Join(d.cfg.MountDir, id) }

func (d *Driver) lockPath() string { return filepath.Join(d.cfg.StateDir, "lock") }

// tidy removes the directories that machines are made in, if there is none in them and nobody is making one. Who needs them again
// makes them again.
func (d *Driver) tidy() {
	if d.rootless {
		return
	}
	lock, err := lockFile(d.lockPath(), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return
	}
	defer lock.Close()
	_ = os.Remove(d.cfg.MountDir)
	if cg, err := d.cgroup("none", nil); err == nil {
		for _, p := range cg.GetPaths() {
			_ = os.Remove(filepath.Dir(p))
		}
	}
}

// Capabilities implements zones.Driver.
func (d *Driver) Capabilities() zones.Capabilities {
	c := zones.Capabilities{
		Name:   Name,
		Brands: []zones.Brand{zones.BrandJoyent, zones.BrandMinimal, zones.BrandBuilder, zones.BrandLX},
		Exec:   true, Console: true, Give: true, Reset: true, Survives: true,
		Isolation: "userns",
		Limits:    append(d.ctl.Names(), "locked_memory", "tmpfs"),
		Missing:   d.ctl.Missing,
	}
	if d.rootless {
		c.Give, c.OneUser, c.Limits = false, true, []string{"locked_memory", "tmpfs"}
	}
	return c
}

// Status implements zones.Driver.
func (d *Driver) Status(_ context.Context, id string) (zones.Status, error) {
	m, err := d.machines.Find("status", id)
	if err != nil {
		return zones.Status{}, err
	}
	s := zones.Status{Phase: zones.PhaseRunning, PID: m.rec.PID, Started: m.rec.Started}
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

// Signal implements zones.Driver.
func (d *Driver) Signal(_ context.Context, id string, sig zones.Signal) error {
	m, err := d.machines.Running("signal", id)
	if err != nil {
		return err
	}
	n := sig.Number()
	if n == 0 {
		return zones.OpError("signal", id, fmt.Errorf("%w: signal %q", zones.ErrInvalid, sig))
	}
	return zones.OpError("signal", id, m.signal(unix.Signal(n)))
}

// Stop implements zones.Driver.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	m, err := d.machines.Find("stop", id)
	if err != nil {
		return err
	}
	if grace <= 0 {
		grace = d.cfg.StopGrace
	}
	sig := unix.SIGTERM
	if m.rec.Own { // ours takes SIGTERM and passes the stop signal on itself
		if n := m.rec.StopSignal.Number(); n != 0 {
			sig = unix.Signal(n)
		}
	}
	if err := m.signal(sig); err != nil && !errors.Is(err, zones.ErrNotRunning) {
		return zones.OpError("stop", id, err)
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-m.ended:
		return nil
	case <-m.released:
		return zones.OpError("stop", id, zones.ErrClosed)
	case <-ctx.Done():
		return zones.OpError("stop", id, context.Cause(ctx))
	case <-t.C:
		return zones.OpError("stop", id, fmt.Errorf("%w: still running after %v", zones.ErrTimeout, grace))
	}
}

// List implements zones.Lister.
func (d *Driver) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.cfg.StateDir, "records"))
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

// cgroup is the manager of a zone's control groups.
func (d *Driver) cgroup(id string, paths map[string]string) (cgroups.Manager, error) {
	if d.rootless {
		return noGroups{}, nil
	}
	return manager.NewWithPaths(&cgroups.Cgroup{Path: path.Join(d.cfg.CgroupParent, id), Resources: &cgroups.Resources{}}, paths)
}
