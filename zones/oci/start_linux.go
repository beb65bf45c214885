//go:build cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// Start implements zones.Driver.
func (d *Driver) Start(ctx context.Context, m zones.Machine) (zones.Handle, error) {
	fail := func(err error) (zones.Handle, error) { return zones.Handle{}, zones.OpError("start", m.ID, err) }
	if err := m.Check(); err != nil {
		return fail(err)
	}
	switch {
	case !d.Capabilities().Serves(m.Spec.Brand):
		return fail(fmt.Errorf("%w: brand %s", zones.ErrNotSupported, m.Spec.Brand))
	case m.Root.Path == "":
		return fail(fmt.Errorf("%w: no root", zones.ErrInvalid))
	case d.rootless && m.NetNS != "":
		return fail(fmt.Errorf("%w: a network needs root", zones.ErrNotSupported))
	}
	if err := d.ctl.Check(m.Limits); err != nil {
		return fail(err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if _, err := d.machines.Claim("start", m.ID, true); err != nil {
		return zones.Handle{}, err
	}
	if _, err := os.Stat(d.recordPath(m.ID)); err == nil {
		d.machines.Settle(m.ID, nil)
		return fail(fmt.Errorf("%w: an earlier process left it; recover or destroy it", zones.ErrExist))
	}
	mach, err := d.start(ctx, &m)
	if err == nil {
		var h zones.Handle
		if h, err = handle(mach.rec); err == nil {
			d.machines.Settle(m.ID, mach)
			return h, nil
		}
	}
	if mach != nil {
		d.end(mach)
	}
	err = errors.Join(err, d.remove(record{ID: m.ID, RunDir: m.RunDir}))
	d.machines.Settle(m.ID, nil)
	return fail(err)
}

// start does the work. Whatever it returns with an error, remove clears what there is.
func (d *Driver) start(ctx context.Context, m *zones.Machine) (*machine, error) {
	// Other processes leave what machines are made in alone meanwhile.
	lock, err := lockFile(d.lockPath(), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	rec := record{ID: m.ID, RunDir: m.RunDir, Boot: bootID(), IDs: m.IDs, Limits: m.Limits, Own: m.Init.Own, StopSignal: m.Init.StopSignal,
		NoNewPrivileges: m.NoNewPrivileges, Init: d.init.key}
	if rec.Capabilities, err = capabilitiesOf(m.Spec.LimitPriv); err != nil {
		return nil, err
	}
	if err := d.save(rec); err != nil {
		return nil, err
	}
	cfg, err := d.config(m)
	if err != nil {
		return nil, err
	}
	var root *os.File
	if !d.rootless {
		if root, err = d.cloneRoot(m); err != nil {
			return nil, err
		}
		defer root.Close()
	}
	listener, err := listen(filepath.Join(m.RunDir, socketName))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	told, err := tell(m)
	if err != nil {
		return nil, err
	}
	defer told.Close()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := d.launch.start(ctx, m.ID, cfg, root, [2]*os.File{listener, told})
	defer closeFile(l.console)
	if err != nil && l.reap != nil {
		_ = unix.Kill(l.pid, unix.SIGKILL)
		l.reap()
	}
	if err != nil {
		return nil, err
	}
	listener.Close() // it is the zone's now: if that ends, whoever waits for an answer must see it
	rec.PID, rec.Cgroups = l.pid, l.cgroups
	rec.Start, rec.Started = startTime(rec.PID), time.Now()
	mach, err := d.hold(rec, l.reap)
	if err != nil {
		_ = unix.Kill(l.pid, unix.SIGKILL)
		if l.reap != nil {
			l.reap()
		}
		return nil, err
	}
	var console []*os.File
	if l.console != nil {
		console = append(console, l.console)
	}
	if err := mach.control(ctx, zinit.Header{Type: zinit.MsgSetConsole}, nil, console...); err != nil {
		if e, ok := err.(syscall.Errno); ok && len(m.Init.Args) > 0 { // itself, not one that a broken connection wraps
			return mach, &zones.StartError{Program: m.Init.Args[0], Err: e}
		}
		return mach, fmt.Errorf("reach the in-zone init: %w", err)
	}
	return mach, d.save(rec)
}

// cloneRoot is a detached mount of the root, with the zone's ids unless it has them.
func (d *Driver) cloneRoot(m *zones.Machine) (*os.File, error) {
	if !m.Root.Mapped {
		return d.userns.mappedClone(m.Root.Path, mapping{Inside: 0, Outside: m.IDs.First, Size: m.IDs.Size}, unix.MOUNT_ATTR_NODEV)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Root.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("clone root mount: %w", err)
	}
	tree := os.NewFile(uintptr(fd), m.Root.Path)
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}); err != nil {
		tree.Close()
		return nil, fmt.Errorf("restrict root mount: %w", err)
	}
	return tree, nil
}

// showRoot mounts the root below MountDir, for a runtime that has to reach it by a path; a pool or RunDir is closed to it.
func showRoot(dir string, tree *os.File) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	return nil
}

// makeDir is os.MkdirAll beside somebody who removes the directory above because it is empty.
func makeDir(dir string) error {
	for try := 0; ; try++ {
		err := os.MkdirAll(dir, 0o711)
		if !errors.Is(err, fs.ErrNotExist) || try == 10 {
			return err
		}
	}
}

// hideRoot undoes showRoot, as often as it was done.
func hideRoot(dir string) error {
	for unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// openPorts lets everybody in the network namespace bind low ports and ping, as the zone's root has no power over a namespace that is
// not its own.
func openPorts(netns string) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		done <- func() error {
			ns, err := os.Open(netns)
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter network namespace: %w", err)
			}
			if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0); err != nil {
				return err
			}
			return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
		}()
	}()
	return <-done
}

// tell writes what process 1 is told into a file in memory.
func tell(m *zones.Machine) (*os.File, error) {
	prog, err := filter()
	if err != nil {
		return nil, err
	}
	caps, err := capabilitiesOf(m.Spec.LimitPriv)
	if err != nil {
		return nil, err
	}
	c := zinit.Config{Capabilities: caps, Filter: prog, StopSignal: m.Init.StopSignal.Number()}
	if c.StopSignal == 0 {
		c.StopSignal = zones.SIGTERM.Number()
	}
	if m.NoNewPrivileges {
		c.Flags |= zinit.ConfigNoNewPrivs
	}
	add := func(name string, args, env []string, dir string, u zones.User, flags uint32, tty bool) {
		c.Programs = append(c.Programs, zinit.Program{Name: name, Args: args, Env: environment(env, u, tty), Dir: dir, UID: u.UID, GID: u.GID,
			Groups: u.Groups, Flags: flags, Memlock: uint64(m.Limits.LockedMemory)})
	}
	if in := m.Init; len(in.Args) > 0 {
		c.Flags |= zinit.ConfigMain
		if in.Own {
			c.Flags |= zinit.ConfigOwn
		}
		var flags uint32
		if in.TTY {
			flags |= zinit.FlagTTY
		}
		add("main", in.Args, in.Env, in.Dir, in.User, flags, in.TTY)
	}
	for _, s := range m.Init.Services {
		var flags uint32
		if s.Restart {
			flags |= zinit.FlagRestart
		}
		add(s.Name, s.Args, s.Env, s.Dir, s.User, flags, false)
	}
	return inMemory(c)
}

// tellServer is tell for a server beside a zone's own process 1.
func tellServer(caps uint64, noNewPrivileges bool) (*os.File, error) {
	prog, err := filter()
	if err != nil {
		return nil, err
	}
	c := zinit.Config{Capabilities: caps, Filter: prog}
	if noNewPrivileges {
		c.Flags |= zinit.ConfigNoNewPrivs
	}
	return inMemory(c)
}

func inMemory(c zinit.Config) (*os.File, error) {
	return memoryFile("zinit configuration", c.Append(nil))
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment adds what a program expects to find.
func environment(env []string, u zones.User, tty bool) []string {
	out := slices.Clone(env)
	add := func(name, value string) {
		if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") }) {
			out = append(out, name+"="+value)
		}
	}
	add("PATH", defaultPath)
	if u.UID == 0 {
		add("HOME", "/root")
	} else {
		add("HOME", "/")
	}
	if tty {
		add("TERM", "xterm")
	}
	return out
}

// Recover implements zones.Driver.
func (d *Driver) Recover(ctx context.Context, h zones.Handle) error {
	if h.Driver != Name || h.Version != recordVersion {
		return zones.OpError("recover", h.ID, fmt.Errorf("%w: handle of driver %q version %d", zones.ErrNotSupported, h.Driver, h.Version))
	}
	rec, err := d.load(h.ID) // newer than the handle: limits change
	if errors.Is(err, fs.ErrNotExist) {
		return zones.OpError("recover", h.ID, zones.ErrNotExist)
	}
	if err != nil {
		return zones.OpError("recover", h.ID, err)
	}
	if m, err := d.machines.Claim("recover", h.ID, false); err != nil {
		return err
	} else if m != nil {
		if m.rec.PID == rec.PID && m.rec.Start == rec.Start && m.rec.Boot == rec.Boot {
			d.machines.Settle(h.ID, m)
			return nil
		}
		m.Release() // another process has started the id anew since
	}
	m, err := d.hold(rec, nil)
	d.machines.Settle(h.ID, m)
	return zones.OpError("recover", h.ID, err)
}

// Destroy implements zones.Driver.
func (d *Driver) Destroy(_ context.Context, id string) error {
	if !zones.ValidID(id) {
		return zones.OpError("destroy", id, fmt.Errorf("%w: id", zones.ErrInvalid))
	}
	m, err := d.machines.Claim("destroy", id, false)
	if err != nil {
		return err
	}
	var rec record
	if m != nil {
		rec = m.rec
		d.end(m)
	} else if rec, err = d.load(id); errors.Is(err, fs.ErrNotExist) {
		rec = record{ID: id}
	} else if err != nil { // half written is not possible, so damaged: the id tells enough
		d.log.Warn("unreadable record of a machine", "zone", id, "err", err)
		rec = record{ID: id}
	}
	err = d.remove(rec)
	d.machines.Settle(id, nil)
	return zones.OpError("destroy", id, err)
}

// end kills a machine that this process holds and waits until it is gone.
func (d *Driver) end(m *machine) {
	_ = m.signal(unix.SIGKILL)
	select {
	case <-m.ended:
	case <-m.released:
	case <-time.After(30 * time.Second): // stuck in the kernel; remove says so
	}
	m.Release()
}

// remove clears every trace of a machine, known or not. It may be repeated.
func (d *Driver) remove(r record) error {
	var errs []error
	if r.PID > 0 && r.Boot == bootID() && r.Start != 0 && startTime(r.PID) == r.Start {
		_ = unix.Kill(r.PID, unix.SIGKILL)
	}
	for end := time.Now().Add(10 * time.Second); d.rootless && r.Start != 0 && r.Boot == bootID() && startTime(r.PID) == r.Start; {
		if time.Now().After(end) { // with it goes all that runs in the zone
			return fmt.Errorf("%w: process %d cannot be killed", zones.ErrBusy, r.PID)
		}
		time.Sleep(time.Millisecond)
	}
	cg, err := d.cgroup(r.ID, r.Cgroups)
	if err != nil {
		return err
	}
	if cg.Exists() {
		deadline := time.Now().Add(10 * time.Second)
		for { // processes between fork and the death of their parent need more than one round
			pids, err := cg.GetAllPids()
			if err != nil || len(pids) == 0 {
				break
			}
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%w: %d processes cannot be killed", zones.ErrBusy, len(pids))
			}
			time.Sleep(time.Millisecond)
		}
	}
	if err := cg.Destroy(); err != nil {
		errs = append(errs, err)
	}
	if r.RunDir != "" {
		if err := os.Remove(filepath.Join(r.RunDir, socketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := hideRoot(d.mountPoint(r.ID)); err != nil {
		errs = append(errs, err)
	}
	if err := os.RemoveAll(filepath.Join(d.cfg.StateDir, "containers", r.ID)); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 { // the record last: until it is gone, this is done again
		if err := os.Remove(d.recordPath(r.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
