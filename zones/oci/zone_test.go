//go:build linux && cgo

package oci_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// until runs a script inside until it succeeds.
func until(t testing.TB, d zones.Driver, id, script string) string {
	t.Helper()
	out, code := sh(t, d, id, "n=0; until { "+script+"; } do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.05; done")
	if code != 0 {
		t.Fatalf("%q did not come true: %s", script, out)
	}
	return out
}

func TestOwnInit(t *testing.T) {
	testenv.NeedRoot(t)
	dir := runDir(t)
	d := open(t, dir)
	t.Cleanup(func() { cleanUp(t, d) })
	m := machine(t)
	m.Spec.Brand = zones.BrandLX
	m.Init = zones.Init{Own: true, Args: []string{"/bin/sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.02; done"}, StopSignal: zones.SIGUSR1}
	h := start(t, d, m)
	until(t, d, m.ID, "[ $(cat /proc/1/comm) = sh ]")
	// Whoever is root inside may kill the server; it is there again when it is needed.
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := d.Exec(ctx, m.ID, zones.ExecRequest{Args: []string{"sh", "-c", "kill -9 $PPID; sleep 1000"}})
		if err == nil {
			_, _ = p.Wait()
		}
		cancel()
		if out, code := sh(t, d, m.ID, "echo on; grep Seccomp: /proc/self/status"); code != 0 || !strings.HasPrefix(out, "on\n") || !strings.Contains(out, "2") {
			t.Errorf("exec after the server was killed: %d %s", code, out)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, dir)
	if err := d.Recover(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if out, code := sh(t, d, m.ID, "echo on"); code != 0 {
		t.Errorf("exec after a restart: %s", out)
	}
	if err := d.Stop(t.Context(), m.ID, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Wait(t.Context(), m.ID); err != nil || st.Code != 9 {
		t.Errorf("Wait = %+v, %v", st, err)
	}
}

func TestServices(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	m.Init.Services = []zones.Service{
		{Name: "again", Args: []string{"sh", "-c", "echo >> /var/again"}, Restart: true},
		{Name: "user-script", Args: []string{"sh", "-c", `echo "$GREETING from $(id -u)" >> /tmp/once`}, Env: []string{"GREETING=hello"}, User: zones.User{UID: 1000, GID: 1000}},
		{Name: "broken", Args: []string{"/no/such/program"}},
		{Name: "long", Args: []string{"sleep", "1000"}},
	}
	start(t, d, m)
	until(t, d, m.ID, "[ $(wc -l < /var/again) -ge 2 ]")
	if out, _ := sh(t, d, m.ID, "cat /tmp/once"); out != "hello from 1000\n" {
		t.Errorf("the user-script printed %q", out)
	}
	con, err := d.Console(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer con.Close()
	buf := make([]byte, 4096)
	if n, err := con.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "/no/such/program") {
		t.Errorf("the console shows %q, %v", buf[:n], err)
	}
	if err := d.Stop(t.Context(), m.ID, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Wait(t.Context(), m.ID); err != nil || !st.Success() {
		t.Errorf("Wait = %+v, %v", st, err)
	}
}

func TestRebootFromInside(t *testing.T) {
	d := newDriver(t)
	for _, tt := range []struct {
		command string
		reboot  bool
	}{{"0x01234567", true}, {"0x4321fedc", false}} {
		m := machine(t)
		start(t, d, m)
		_, err := zones.Run(t.Context(), d, m.ID, zones.ExecRequest{Args: []string{"perl", "-e", "syscall(169, 0xfee1dead, 672274793, " + tt.command + ", 0); sleep 1000"}})
		if !errors.Is(err, zones.ErrNotRunning) {
			t.Errorf("the program that rebooted ended with %v", err)
		}
		if st, err := d.Wait(t.Context(), m.ID); err != nil || st.Reboot != tt.reboot || st.Code != 0 {
			t.Errorf("%s: Wait = %+v, %v", tt.command, st, err)
		}
	}
}

func TestZombiesAreReaped(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	start(t, d, m)
	sh(t, d, m.ID, "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done")
	until(t, d, m.ID, "! ps ax -o stat= | grep -q Z && ! ps ax -o comm= | grep -q sleep")
}

func TestConsoleIsATerminal(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	m.Init = zones.Init{Args: []string{"sh", "-c", "read x; stty size; echo got $x; tty; sleep 1000"}, TTY: true}
	start(t, d, m)
	con, err := d.Console(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer con.Close()
	if err := con.(zones.ConsoleResizer).Resize(zones.Size{Rows: 33, Cols: 77}); err != nil {
		t.Fatal(err)
	}
	if _, err := con.Write([]byte("this\n")); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	buf := make([]byte, 512)
	for !strings.Contains(got.String(), "/dev/") {
		n, err := con.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
	}
	if s := got.String(); !strings.Contains(s, "33 77") || !strings.Contains(s, "got this") {
		t.Errorf("the console shows %q", s)
	}
}

func TestLimitsLive(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	start(t, d, m)
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	v2 := err == nil
	group := func(controller, file string) string {
		if v2 {
			controller = ""
		}
		data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, "mobula-test", m.ID, file))
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(data))
	}
	check := func(list [][3]string) {
		t.Helper()
		for _, tt := range list {
			if got := group(tt[0], tt[1]); got != tt[2] && (tt[0] != "blkio" || d.Capabilities().Enforces("io_priority")) {
				t.Errorf("%s = %s, want %s", tt[1], got, tt[2])
			}
		}
	}
	limited := [][3]string{{"cpu", "cpu.cfs_quota_us", "150000"}, {"cpu", "cpu.shares", "512"}, {"memory", "memory.limit_in_bytes", fmt.Sprint(300 << 20)},
		{"memory", "memory.memsw.limit_in_bytes", fmt.Sprint(310 << 20)}, {"pids", "pids.max", "77"}, {"blkio", "blkio.bfq.weight", "300"}}
	unlimited := [][3]string{{"cpu", "cpu.cfs_quota_us", "-1"}, {"cpu", "cpu.shares", "1024"}, {"pids", "pids.max", "max"}}
	if v2 {
		limited = [][3]string{{"", "cpu.max", "150000 100000"}, {"", "memory.max", fmt.Sprint(300 << 20)}, {"", "memory.swap.max", fmt.Sprint(10 << 20)}, {"", "pids.max", "77"}}
		unlimited = [][3]string{{"", "cpu.max", "max 100000"}, {"", "memory.max", "max"}, {"", "memory.swap.max", "max"}, {"", "pids.max", "max"}}
	}
	l := zones.Limits{CPUCap: 150, CPUShares: 50, Memory: 300 << 20, Swap: 310 << 20, LWPs: 77, IOPriority: 300, LockedMemory: 64 << 10}
	if !d.Capabilities().Enforces("io_priority") {
		if err := d.Update(t.Context(), m.ID, l); !errors.Is(err, zones.ErrNotSupported) {
			t.Errorf("a weight that cannot be kept = %v, want ErrNotSupported", err)
		}
		l.IOPriority = 100
	}
	if err := d.Update(t.Context(), m.ID, l); err != nil {
		t.Fatal(err)
	}
	check(limited)
	if out, _ := sh(t, d, m.ID, "ulimit -l"); out != "64\n" {
		t.Errorf("locked memory reads %q KiB", out)
	}
	if err := d.Update(t.Context(), m.ID, zones.Limits{}); err != nil {
		t.Fatal(err)
	}
	check(unlimited)
	// Memory in use that is not cache cannot be taken back.
	sh(t, d, m.ID, "dd if=/dev/zero of=/dev/shm/x bs=1M count=60 2>/dev/null")
	if err := d.Update(t.Context(), m.ID, zones.Limits{Memory: 16 << 20, Swap: 16 << 20}); !errors.Is(err, zones.ErrBusy) {
		t.Errorf("a limit below what is in use = %v, want ErrBusy", err)
	}
	if out, code := sh(t, d, m.ID, "echo alive"); code != 0 {
		t.Errorf("after a refused update: %s", out)
	}
}

func TestSystemVLimits(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	m.Spec.MaxShmIDs, m.Spec.MaxMsgIDs, m.Spec.MaxSemIDs, m.Spec.MaxShmMemory = 2, 1, 3, 1
	start(t, d, m)
	for _, script := range []string{"ipcmk -M 4096 && ipcmk -M 4096 && ! ipcmk -M 4096", "ipcmk -Q && ! ipcmk -Q",
		"ipcmk -S 1 && ipcmk -S 1 && ipcmk -S 1 && ! ipcmk -S 1", "ipcrm -a && ! ipcmk -M 2097152"} {
		if out, code := sh(t, d, m.ID, script); code != 0 {
			t.Errorf("%s: %s", script, out)
		}
	}
}

func TestMounts(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	data, plain := t.TempDir(), t.TempDir()
	for _, dir := range []string{data, plain} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.Limits.TmpFS = 8 << 20
	m.Mounts = append(m.Mounts,
		zones.Mount{Source: data, Target: "/data", Mapped: true},
		zones.Mount{Source: plain, Target: "/deep/er/plain"},
		zones.Mount{Type: zones.MountTmpfs, Target: "/run", Size: 1 << 20, Mode: 0o755},
		zones.Mount{Source: "/no/such/dir", Target: "/none", Optional: true})
	start(t, d, m)
	if out, code := sh(t, d, m.ID, "echo x > /data/f && stat -c %u /data/f && ! touch /deep/er/plain/f 2>/dev/null && stat -c %u /deep/er/plain && touch /run/f && df -k --output=size /tmp /run | tail -2 | tr '\\n' ' '"); code != 0 ||
		strings.Join(strings.Fields(out), " ") != "0 65534 8192 1024" {
		t.Errorf("%d: %s", code, out)
	}
	m2 := machine(t)
	m2.Mounts = append(m2.Mounts, zones.Mount{Source: "/no/such/dir", Target: "/none"})
	if _, err := d.Start(t.Context(), m2); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Start with a missing source = %v", err)
	}
	noTrace(t, m2)
}

// TestFiftyZones starts, uses and destroys many at once and looks for what is left.
func TestFiftyZones(t *testing.T) {
	testenv.NeedRoot(t)
	n := 12
	if testenv.Long() {
		n = 50
	}
	dir := runDir(t)
	d := open(t, dir)
	root := sparseRoot(t)
	routines := runtime.NumGoroutine()
	files := descriptors(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	list := make([]zones.Machine, n)
	for i := range list {
		m := machine(t)
		m.ID, m.IDs.First = uuid.NewString(), m.IDs.First+uint32(i)*65536
		if i%2 == 0 {
			m.Root.Path = root // read by many
			m.Root.ReadOnly = true
		}
		list[i] = m
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if _, err := d.Start(t.Context(), m); err != nil {
				t.Error(err)
				return
			}
			if out, code := sh(t, d, m.ID, "cat /proc/sys/kernel/hostname"); code != 0 || strings.TrimSpace(out) != m.ID {
				t.Errorf("%d %s", code, out)
			}
		})
	}
	wg.Wait()
	for _, m := range list {
		wg.Go(func() {
			if err := d.Destroy(t.Context(), m.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, m := range list {
		noTrace(t, m)
	}
	cleanUp(t, d)
	for range 100 { // goroutines end a moment after what they wait for
		if runtime.NumGoroutine() <= routines {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > routines {
		t.Errorf("%d goroutines, %d before", now, routines)
	}
	if now := descriptors(t); now > files {
		t.Errorf("%d open files, %d before", now, files)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func BenchmarkGive(b *testing.B) {
	d := newDriver(b)
	m := machine(b)
	start(b, d, m)
	f, err := os.Open(filepath.Join(m.Root.Path, "etc/passwd"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for b.Loop() {
		if err := d.Give(b.Context(), m.ID, zones.Gift{File: f, Path: "/tmp/object"}); err != nil {
			b.Fatal(err)
		}
		if err := d.Take(b.Context(), m.ID, "/tmp/object"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestFloodedConsole has a program print more than anybody reads while others fail to start; the zone must go on answering.
func TestFloodedConsole(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	m.Init.Services = []zones.Service{{Name: "flood", Args: []string{"sh", "-c", "exec cat /dev/zero"}}}
	for range 20 {
		m.Init.Services = append(m.Init.Services, zones.Service{Name: "broken", Args: []string{"/no/such/program"}, Restart: true})
	}
	start(t, d, m)
	con, err := d.Console(t.Context(), m.ID) // and does not read
	if err != nil {
		t.Fatal(err)
	}
	defer con.Close()
	for range 20 {
		if out, code := sh(t, d, m.ID, "sleep 0.05; echo on"); code != 0 || out != "on\n" {
			t.Fatalf("%d %s", code, out)
		}
	}
}

// TestForeignRoot runs a zone whose root has one static program and nothing of the host: no loader, no library.
func TestForeignRoot(t *testing.T) {
	busybox := testenv.NeedTool(t, "busybox", "busybox")
	if out, err := exec.Command("ldd", busybox).CombinedOutput(); err == nil {
		t.Skipf("busybox is not static here: %s", out)
	}
	d := newDriver(t)
	m := machine(t)
	m.Mounts = nil
	m.Spec.Brand = zones.BrandLX
	m.Root.Path = t.TempDir()
	if err := os.Mkdir(filepath.Join(m.Root.Path, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "id", "sleep", "echo"} {
		if err := os.WriteFile(filepath.Join(m.Root.Path, "bin", name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.Init = zones.Init{Args: []string{"/bin/sh", "-c", "exit $(id -u)5"}}
	start(t, d, m)
	if st, err := d.Wait(t.Context(), m.ID); err != nil || st.Code != 5 {
		t.Errorf("Wait = %+v, %v", st, err)
	}
	own := machine(t)
	own.Mounts, own.Spec.Brand, own.Root = nil, zones.BrandLX, m.Root
	own.Init = zones.Init{Own: true, Args: []string{"/bin/sh", "-c", "sleep 1000; exit"}}
	start(t, d, own)
	if out, code := sh(t, d, own.ID, "echo /proc/1/exe /etc/*"); code != 0 || out != "/proc/1/exe /etc/*\n" {
		t.Errorf("%d %q", code, out)
	}
}
