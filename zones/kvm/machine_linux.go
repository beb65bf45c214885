package kvm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
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
	// PID and Start (in the kernel's ticks) name QEMU beyond doubt; 0 while it is being started.
	PID        int               `json:"pid"`
	Start      uint64            `json:"start"`
	Cgroups    map[string]string `json:"cgroups,omitempty"`
	Limits     zones.Limits      `json:"limits"`
	Accel      string            `json:"accel"`
	Disks      []string          `json:"disks,omitempty"`
	Interfaces []zones.Interface `json:"interfaces,omitempty"`
	// NoVNC: vnc_port -1 turned the screen off.
	NoVNC   bool      `json:"no_vnc,omitempty"`
	Started time.Time `json:"started"`
}

// machine is a record and what this process holds of it.
type machine struct {
	rec   record
	cg    cgroups.Manager
	pidfd *os.File

	consoleMu sync.Mutex
	console   *console // if this process is the one that has it

	mu     sync.Mutex // limits
	meta   net.Conn   // the last metadata connection, under metaMu
	metaMu sync.Mutex
	sigMu  sync.Mutex
	killed bool // by us

	child    chan *os.ProcessState // if QEMU is our child
	ended    chan struct{}
	exit     zones.ExitStatus // once ended is closed
	released chan struct{}
	once     sync.Once
}

func (d *Driver) recordPath(id string) string { return filepath.Join(d.cfg.StateDir, id) }

// scratchPath is where a record is written before it takes its place; a crash can leave it.
func (d *Driver) scratchPath(id string) string { return filepath.Join(d.cfg.StateDir, "."+id) }

// forkLock is a lock file that is held while QEMU is being forked. A fork has our open files, and so the lock, until it has
// become QEMU; after a crash between the two, who waits for the lock then finds QEMU by its arguments.
func (d *Driver) forkLock(id string) string { return filepath.Join(d.cfg.StateDir, "."+id+".lock") }

// save replaces the record by rename. It need not be synced: a power cut ends the machine too.
func (d *Driver) save(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := d.scratchPath(r.ID)
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

func (r record) handle() (zones.Handle, error) {
	data, err := json.Marshal(r)
	return zones.Handle{ID: r.ID, Driver: Name, Version: recordVersion, Data: data}, err
}

var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

// startTime is field 22 of a process's stat, 0 if there is no such process or only its remains.
func startTime(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	n, _ := strconv.ParseUint(fields[19], 10, 64)
	return n
}

// alive reports whether the record's process still runs.
func (r record) alive() bool {
	return r.PID > 0 && r.Boot == bootID() && r.Start != 0 && startTime(r.PID) == r.Start
}

// hold opens the machine's process and its sockets and begins to watch it. zones.ErrNotExist means that the process is gone.
func (d *Driver) hold(ctx context.Context, r record, child chan *os.ProcessState) (*machine, error) {
	fd, err := unix.PidfdOpen(r.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%w: process %d: %w", zones.ErrNotExist, r.PID, err)
	}
	m := &machine{rec: r, pidfd: os.NewFile(uintptr(fd), "pidfd"), child: child, ended: make(chan struct{}), released: make(chan struct{})}
	// The descriptor is of whatever has the number now; the start time says whether that is the one we mean.
	if child == nil && !r.alive() {
		m.pidfd.Close()
		return nil, zones.ErrNotExist
	}
	if m.cg, err = d.cgroup(r.ID, r.Cgroups); err != nil {
		m.pidfd.Close()
		return nil, err
	}
	// Reading the console from the start is what gives those who attach later its history.
	if _, err := d.ownConsole(ctx, m); err != nil {
		m.pidfd.Close()
		return nil, fmt.Errorf("console: %w", err)
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
	status := zones.ExitStatus{Code: -1, Unknown: true}
	if m.child != nil {
		if st := <-m.child; st != nil {
			status = exitStatus(st.Sys().(syscall.WaitStatus))
		}
	} else if ws, ok := m.orphanStatus(); ok {
		status = exitStatus(ws)
	} else {
		m.sigMu.Lock()
		if m.killed {
			status = zones.ExitStatus{Code: 128 + 9, Signal: zones.SIGKILL}
		}
		m.sigMu.Unlock()
	}
	if n, err := m.cg.OOMKillCount(); err == nil && n > 0 {
		status.OOM = true
	}
	status.Time = time.Now()
	m.exit = status
	close(m.ended)
}

// orphanStatus asks the kernel, since 6.15, for the status of a process that is somebody else's to reap.
func (m *machine) orphanStatus() (syscall.WaitStatus, bool) {
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
	for range 50 { // it is known once its new parent has reaped it, or shown by its remains until then
		if ws, ok := remains(m.rec.PID, m.rec.Start); ok {
			return ws, true
		}
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

// remains reads the status that a dead process keeps until its parent takes it.
func remains(pid int, start uint64) (syscall.WaitStatus, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 50 || fields[0] != "Z" || fields[19] != strconv.FormatUint(start, 10) {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[49], 10, 32) // exit_code, field 52
	return syscall.WaitStatus(n), err == nil
}

func exitStatus(ws syscall.WaitStatus) zones.ExitStatus {
	if ws.Signaled() {
		return zones.ExitStatus{Code: 128 + int(ws.Signal()), Signal: zones.SignalOf(int(ws.Signal()))}
	}
	return zones.ExitStatus{Code: ws.ExitStatus()}
}

// kill ends QEMU at once.
func (m *machine) kill() error {
	m.sigMu.Lock()
	m.killed = true
	m.sigMu.Unlock()
	conn, err := m.pidfd.SyscallConn()
	if err != nil {
		return zones.ErrNotRunning
	}
	var e error
	if err := conn.Control(func(fd uintptr) { e = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) }); err != nil || e == unix.ESRCH {
		return zones.ErrNotRunning
	}
	return e
}

// release lets go of the machine without ending it.
// Ended implements roster.Member.
func (m *machine) Ended() <-chan struct{} { return m.ended }

// Release implements roster.Member.
func (m *machine) Release() {
	m.once.Do(func() {
		close(m.released)
		m.pidfd.Close()
		m.consoleMu.Lock()
		if m.console != nil {
			m.console.close()
		}
		m.consoleMu.Unlock()
		m.metaMu.Lock()
		defer m.metaMu.Unlock()
		if m.meta != nil {
			m.meta.Close()
		}
	})
}
