//go:build cgo

package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// recordVersion is the format of a record, which is also what a handle carries.
const recordVersion = 1

// record is what must be known of a machine to find it again, in this process or a later one.
type record struct {
	ID     string `json:"id"`
	RunDir string `json:"run_dir"`
	// Boot is the host's boot; after another one nothing of the machine is left but files.
	Boot string `json:"boot"`
	// PID and Start (in the kernel's ticks) name process 1 beyond doubt; 0 while it is being started.
	PID        int               `json:"pid"`
	Start      uint64            `json:"start"`
	Cgroups    map[string]string `json:"cgroups,omitempty"`
	IDs        zones.IDRange     `json:"ids"`
	Limits     zones.Limits      `json:"limits"`
	Own        bool              `json:"own,omitempty"`
	StopSignal zones.Signal      `json:"stop_signal,omitempty"`
	Started    time.Time         `json:"started"`

	NoNewPrivileges bool   `json:"no_new_privileges,omitempty"`
	Capabilities    uint64 `json:"capabilities"`
	// Init is the key of the init files it runs on.
	Init string `json:"init,omitempty"`
}

// machine is a record and what this process holds of it.
type machine struct {
	rec   record
	cg    cgroups.Manager
	pidfd *os.File
	child func()       // reaps it, if it is our child
	serve func() error // starts the exec server again, if the zone has its own init and killed ours

	serving  sync.Mutex    // serve
	mu       sync.Mutex    // limits
	gone     chan struct{} // process 1 is dead
	ended    chan struct{} // and exit says how
	exit     zones.ExitStatus
	released chan struct{}
	once     sync.Once
}

func (d *Driver) recordPath(id string) string { return filepath.Join(d.cfg.StateDir, "records", id) }

// save replaces the record by rename. It need not be synced: a power cut ends the machine too.
func (d *Driver) save(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := filepath.Join(d.cfg.StateDir, "records", "."+r.ID)
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, d.recordPath(r.ID))
}

func (d *Driver) load(id string) (record, error) {
	var r record
	data, err := os.ReadFile(d.recordPath(id))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

func handle(r record) (zones.Handle, error) {
	data, err := json.Marshal(r)
	return zones.Handle{ID: r.ID, Driver: Name, Version: recordVersion, Data: data}, err
}

// bootID names the host's boot.
var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

// stat is what the kernel says of a process, from its third field, the state, on; nil if there is no such process.
func stat(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	s := string(b)
	return strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // the name before it may hold anything
}

// startTime is field 22 of a process's stat, 0 if there is no such process or it is dead.
func startTime(pid int) uint64 {
	f := stat(pid)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0
	}
	n, _ := strconv.ParseUint(f[19], 10, 64)
	return n
}

// hold opens the machine's process and begins to watch it. It gives zones.ErrNotExist if the process is gone.
func (d *Driver) hold(r record, child func()) (*machine, error) {
	fd, err := unix.PidfdOpen(r.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%w: process %d: %w", zones.ErrNotExist, r.PID, err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	// The descriptor is of whatever has the number now; the start time says whether that is the one we mean. Our own child
	// cannot have been replaced, even if it has ended.
	if child == nil && (r.Boot != bootID() || startTime(r.PID) != r.Start) {
		pidfd.Close()
		return nil, zones.ErrNotExist
	}
	cg, err := d.cgroup(r.ID, r.Cgroups)
	if err != nil {
		pidfd.Close()
		return nil, err
	}
	m := &machine{rec: r, cg: cg, pidfd: pidfd, child: child, gone: make(chan struct{}), ended: make(chan struct{}), released: make(chan struct{})}
	if r.Own {
		m.serve = func() error { return d.serve(m) }
	}
	d.watchers.Go(m.watch)
	return m, nil
}

// watch waits for the end without a thread of its own: the poller of the runtime does.
func (m *machine) watch() {
	conn, err := m.pidfd.SyscallConn()
	if err != nil {
		return
	}
	dead := false
	err = conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		dead = n > 0 && err == nil
		return dead
	})
	if err != nil || !dead {
		return // released
	}
	close(m.gone)
	status := zones.ExitStatus{Code: -1, Unknown: true}
	if m.child != nil {
		if ws, ok := m.peek(); ok {
			status = exitStatus(ws)
		}
		m.child()
	} else {
		if ws, ok := m.peekOrphan(); ok {
			status = exitStatus(ws)
		}
		m.buryOwn()
	}
	// This is how the kernel tells that reboot was called inside: process 1 cannot be killed by these from there.
	switch status.Signal {
	case zones.SIGHUP:
		status = zones.ExitStatus{Reboot: true}
	case zones.SIGINT:
		status = zones.ExitStatus{}
	}
	if n, err := m.cg.OOMKillCount(); err == nil && n > 0 {
		status.OOM = true
	}
	status.Time = time.Now()
	m.exit = status
	close(m.ended)
}

// peek reads our dead child's status and leaves it to be reaped.
func (m *machine) peek() (syscall.WaitStatus, bool) {
	var info struct { // struct siginfo of SIGCHLD
		signo, errno, code, _ int32
		pid                   int32
		uid                   uint32
		status                int32
		_                     [100]byte
	}
	_, _, e := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(m.rec.PID), uintptr(unsafe.Pointer(&info)),
		unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, 0, 0)
	if e != 0 || info.pid == 0 {
		return 0, false
	}
	const exited = 1 // CLD_EXITED
	if info.code == exited {
		return syscall.WaitStatus(info.status << 8), true
	}
	return syscall.WaitStatus(info.status & 0x7f), true
}

// buryOwn reaps what an earlier driver of this same process started.
func (m *machine) buryOwn() {
	conn, err := m.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_, _, _ = unix.Syscall6(unix.SYS_WAITID, unix.P_PIDFD, fd, 0, unix.WEXITED|unix.WNOHANG, 0, 0)
	})
}

// peekOrphan finds the status of a process that is somebody else's to reap: while nobody has, in its stat, and afterwards, since Linux
// 6.15, from the descriptor.
func (m *machine) peekOrphan() (syscall.WaitStatus, bool) {
	if f := stat(m.rec.PID); len(f) > 49 && f[0] == "Z" && f[19] == strconv.FormatUint(m.rec.Start, 10) {
		if n, err := strconv.ParseUint(f[49], 10, 32); err == nil {
			return syscall.WaitStatus(n), true
		}
	}
	const (
		getInfo  = 0xc040ff0b // PIDFD_GET_INFO with the first, 64-byte, form of the structure
		wantExit = 1 << 3     // PIDFD_INFO_EXIT
	)
	var info struct {
		mask, cgroup uint64
		ids          [11]uint32
		exit         int32
	}
	conn, err := m.pidfd.SyscallConn()
	if err != nil {
		return 0, false
	}
	for range 50 { // it is being reaped right now
		info.mask = wantExit
		var e unix.Errno
		_ = conn.Control(func(fd uintptr) {
			_, _, e = unix.Syscall(unix.SYS_IOCTL, fd, getInfo, uintptr(unsafe.Pointer(&info)))
		})
		if e == 0 && info.mask&wantExit != 0 {
			return syscall.WaitStatus(info.exit), true
		}
		if e != 0 && e != unix.ESRCH {
			return 0, false
		}
		select {
		case <-m.released:
			return 0, false
		case <-time.After(2 * time.Millisecond):
		}
	}
	return 0, false
}

func exitStatus(ws syscall.WaitStatus) zones.ExitStatus {
	if ws.Signaled() {
		return zones.ExitStatus{Code: 128 + int(ws.Signal()), Signal: zones.SignalOf(int(ws.Signal())), Core: ws.CoreDump()}
	}
	return zones.ExitStatus{Code: ws.ExitStatus()}
}

// signal sends to process 1.
func (m *machine) signal(sig unix.Signal) error {
	conn, err := m.pidfd.SyscallConn()
	if err != nil {
		return zones.ErrNotRunning
	}
	var e error
	if err := conn.Control(func(fd uintptr) { e = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return zones.ErrNotRunning
	}
	if errors.Is(e, unix.ESRCH) {
		return zones.ErrNotRunning
	}
	return e
}

// release lets go of the process without ending it.
// Ended implements roster.Member.
func (m *machine) Ended() <-chan struct{} { return m.ended }

// Release implements roster.Member.
func (m *machine) Release() {
	m.once.Do(func() {
		close(m.released)
		m.pidfd.Close()
	})
}
