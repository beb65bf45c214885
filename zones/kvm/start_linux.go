package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// Files in a machine's RunDir.
const (
	qmpSocket      = "qmp.sock"
	consoleSocket  = "console.sock"
	metadataSocket = "metadata.sock"
	sharedSocket   = "tty.sock"
	logFile        = "qemu.log"
)

// runFiles are all of them.
var runFiles = []string{qmpSocket, consoleSocket, metadataSocket, sharedSocket, logFile, qmpLock, consoleLock, diskLock}

// startTimeLimit bounds a start, as a QEMU that never answers must not hold the caller for ever.
const startTimeLimit = 60 * time.Second

// Start implements zones.Driver.
func (d *Driver) Start(ctx context.Context, m zones.Machine) (zones.Handle, error) {
	err := checkMachine(&m)
	if err == nil {
		err = errors.Join(d.checkFirmware(&m), d.ctl.Check(m.Limits))
	}
	if err != nil {
		return zones.Handle{}, zones.OpError("start", m.ID, err)
	}
	if _, err := d.machines.Claim("start", m.ID, true); err != nil {
		return zones.Handle{}, err
	}
	var held *machine
	defer func() { d.machines.Settle(m.ID, held) }()
	if _, err := os.Lstat(d.recordPath(m.ID)); err == nil {
		return zones.Handle{}, zones.OpError("start", m.ID, fmt.Errorf("%w: an earlier process started it; recover or destroy it", zones.ErrExist))
	}
	if err := ctx.Err(); err != nil {
		return zones.Handle{}, zones.OpError("start", m.ID, err)
	}
	limited, cancel := context.WithTimeout(ctx, startTimeLimit)
	defer cancel()
	started, err := d.start(limited, &m)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeLimit)
		defer cancel()
		return zones.Handle{}, zones.OpError("start", m.ID, errors.Join(err, d.remove(undo, m.ID, nil)))
	}
	h, err := started.rec.handle()
	if err != nil {
		return zones.Handle{}, zones.OpError("start", m.ID, err)
	}
	held = started
	return h, nil
}

func (d *Driver) start(ctx context.Context, m *zones.Machine) (*machine, error) {
	rec := record{ID: m.ID, RunDir: m.RunDir, Boot: bootID(), Limits: m.Limits, Accel: d.accel, Interfaces: m.Interfaces, NoVNC: m.Spec.VNCPort == -1}
	for _, disk := range allDisks(m) {
		rec.Disks = append(rec.Disks, disk.Path)
	}
	// The record comes before everything that it is for removing.
	if err := d.save(rec); err != nil {
		return nil, err
	}
	files, err := d.open(m)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	cg, err := d.cgroup(m.ID, nil)
	if err != nil {
		return nil, err
	}
	rec.Cgroups = cg.GetPaths()
	log, err := os.OpenFile(filepath.Join(m.RunDir, logFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(d.cfg.QEMU, arguments(m, d.accel, d.cfg.Kernel)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = files
	var groups []uint32
	if d.accel == "kvm" {
		groups = kvmGroups()
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Credential: &syscall.Credential{Uid: m.IDs.First, Gid: m.IDs.First, Groups: groups},
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC,
	}
	forking, err := lock(ctx, d.forkLock(m.ID))
	if err != nil {
		return nil, err
	}
	defer forking.Close()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	child := make(chan *os.ProcessState, 1)
	go func() { // until its end, even when nobody else waits: our children are ours to reap
		_ = cmd.Wait()
		child <- cmd.ProcessState
	}()
	rec.PID, rec.Start, rec.Started = cmd.Process.Pid, startTime(cmd.Process.Pid), time.Now()
	if err := d.save(rec); err != nil {
		return nil, err
	}
	// It waits for our word before the guest runs, so limits are in force by then.
	if err := d.confine(cg, rec.PID, m.Limits); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	held, err := d.hold(ctx, rec, child)
	if err != nil {
		return nil, errors.Join(err, logged(m.RunDir))
	}
	if err := held.execute(ctx, "cont", nil, nil); err != nil {
		held.Release()
		return nil, errors.Join(err, logged(m.RunDir))
	}
	return held, nil
}

// logged is what QEMU had to say.
func logged(runDir string) error {
	b, err := os.ReadFile(filepath.Join(runDir, logFile))
	text := strings.TrimSpace(string(b[:min(len(b), 2000)]))
	if err != nil || text == "" {
		return nil
	}
	return errors.New("qemu: " + text)
}

// open makes the sockets and opens the disks, taps and kernel, in the order of their numbers in QEMU.
func (d *Driver) open(m *zones.Machine) (files []*os.File, err error) {
	for _, name := range []string{qmpSocket, consoleSocket, metadataSocket} {
		f, err := listen(filepath.Join(m.RunDir, name))
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	for _, disk := range allDisks(m) {
		f, err := openDisk(disk)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	for _, n := range m.Interfaces {
		f, err := openTap(n)
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	if k := d.cfg.Kernel; k != nil {
		for _, path := range []string{k.Path, k.Initrd} {
			if path == "" {
				continue
			}
			f, err := os.Open(path)
			if err != nil {
				return files, fmt.Errorf("kernel: %w", err)
			}
			files = append(files, f)
		}
	}
	if uefi(m) {
		flash, err := d.openFirmware(m)
		files = append(files, flash...)
		if err != nil {
			return files, err
		}
	}
	return files, nil
}

// listen makes a socket in place of one that a crash left.
func listen(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false) // QEMU has it from here on
	return l.File()
}

// Destroy implements zones.Driver.
func (d *Driver) Destroy(ctx context.Context, id string) error {
	if !zones.ValidID(id) {
		return zones.OpError("destroy", id, fmt.Errorf("%w: id", zones.ErrInvalid))
	}
	m, err := d.machines.Claim("destroy", id, false)
	if err != nil {
		return err
	}
	err = d.remove(ctx, id, m)
	if err != nil {
		d.machines.Settle(id, m)
		return zones.OpError("destroy", id, err)
	}
	d.machines.Settle(id, nil)
	return nil
}

// remove ends and removes what there is of a machine, known to this process or not.
func (d *Driver) remove(ctx context.Context, id string, m *machine) error {
	rec, err := d.load(id)
	if errors.Is(err, fs.ErrNotExist) { // the record goes last, so nothing else is left
		if err := os.Remove(d.scratchPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err != nil {
		rec = record{ID: id} // a record cut off by a full disk still names its machine
	}
	if m != nil {
		if err := m.kill(); err != nil && !errors.Is(err, zones.ErrNotRunning) {
			return err
		}
		select {
		case <-m.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
		m.Release()
	}
	if rec.PID == 0 {
		forked, err := lock(ctx, d.forkLock(id))
		if err != nil {
			return err
		}
		forked.Close()
	}
	if err := killOrphans(ctx, rec); err != nil {
		return err
	}
	cg, err := d.cgroup(id, rec.Cgroups)
	if err != nil {
		return err
	}
	if err := cg.Destroy(); err != nil {
		return fmt.Errorf("control group: %w", err)
	}
	if rec.RunDir != "" {
		for _, name := range runFiles {
			if err := os.Remove(filepath.Join(rec.RunDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	for _, path := range []string{d.scratchPath(id), d.forkLock(id), d.recordPath(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// killOrphans ends the machine's processes, found by record or, if a crash came before it was written, by their arguments.
func killOrphans(ctx context.Context, rec record) error {
	pids := []int{}
	if rec.PID == 0 {
		pids = processesOf(rec.ID)
	} else if rec.alive() {
		pids = append(pids, rec.PID)
	}
	for _, pid := range pids {
		start := startTime(pid)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
		for startTime(pid) == start && start != 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	return nil
}

// processesOf finds the QEMUs that were started for an id.
func processesOf(id string) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	mark := "\x00-name\x00mobula-" + id + "\x00"
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && strings.Contains(string(b), mark) {
			pids = append(pids, pid)
		}
	}
	return pids
}
