//go:build linux && cgo

package oci_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// withProbe adds this test program to a machine.
func withProbe(t testing.TB, m zones.Machine) zones.Machine {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m.Mounts = append(m.Mounts, zones.Mount{Source: exe, Target: "/opt/probe", ReadOnly: true})
	if err := os.WriteFile(filepath.Join(m.Root.Path, "etc/this-zone"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return m
}

// try runs a probe inside, and returns what it could do.
func try(t testing.TB, d zones.Driver, id, name string, args ...string) (string, zones.ExitStatus) {
	t.Helper()
	var out bytes.Buffer
	st, err := zones.Run(t.Context(), d, id, zones.ExecRequest{Args: append([]string{"/opt/probe"}, args...), Env: []string{probeEnv + "=" + name}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String()), st
}

// TestIsolation tries from inside, as a zone's root, what must not be possible.
func TestIsolation(t *testing.T) {
	d := newDriver(t)
	m := withProbe(t, machine(t))
	m.Limits.CPUCap = 20
	start(t, d, m)
	for name, args := range map[string][]string{
		"processes": {strconv.Itoa(os.Getpid())}, "files": nil, "mounts": nil, "namespaces": nil, "kernel": nil, "init": nil, "descriptors": nil,
		"cgroups": nil,
	} {
		t.Run(name, func(t *testing.T) {
			if out, st := try(t, d, m.ID, name, args...); !st.Success() {
				t.Errorf("%+v\n%s", st, out)
			}
		})
	}
	t.Run("memory", func(t *testing.T) {
		before, err := d.Status(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		if out, st := try(t, d, m.ID, "memory"); st.Signal != zones.SIGKILL {
			t.Errorf("512 MiB in a zone of 256: %+v %s", st, out)
		}
		if after, err := d.Status(t.Context(), m.ID); err != nil || after.PID != before.PID || after.Phase != zones.PhaseRunning {
			t.Errorf("the machine is %+v, %v after one of its programs was killed", after, err)
		}
		if u, err := d.Usage(t.Context(), m.ID); err != nil || u.Memory.OOMKills == 0 || u.Memory.Peak > 257<<20 {
			t.Errorf("Usage = %+v, %v", u.Memory, err)
		}
	})
	t.Run("fork", func(t *testing.T) {
		if out, st := try(t, d, m.ID, "fork"); !st.Success() {
			t.Errorf("%+v %s", st, out)
		}
	})
	t.Run("cpu", func(t *testing.T) {
		if _, st := try(t, d, m.ID, "spin"); !st.Success() {
			t.Errorf("%+v", st)
		}
		if u, err := d.Usage(t.Context(), m.ID); err != nil || u.CPU.ThrottledPeriods == 0 {
			t.Errorf("Usage = %+v, %v: nothing was held back", u.CPU, err)
		}
	})
	t.Run("root is nobody", func(t *testing.T) {
		st, err := d.Status(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/status")
		if err != nil || !strings.Contains(string(data), "Uid:\t1048576\t1048576\t1048576\t1048576") {
			t.Errorf("process 1 runs as others than 1048576: %v\n%s", err, data)
		}
		if out, code := sh(t, d, m.ID, "echo x > /root/made"); code != 0 {
			t.Fatal(out)
		}
		made, err := os.Stat(filepath.Join(m.Root.Path, "root/made"))
		if err != nil || made.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("on disk the zone's file is not of the zone's own number 0: %v, %v", made, err)
		}
	})
	t.Run("working directory", func(t *testing.T) { // a descriptor left open would lead out (CVE-2024-21626)
		for fd := range 24 {
			var out bytes.Buffer
			dir := "/proc/self/fd/" + strconv.Itoa(fd)
			st, err := zones.Run(t.Context(), d, m.ID, zones.ExecRequest{Args: []string{"/usr/bin/ls", "../../../../.."}, Dir: dir, Stdout: &out})
			if _, ok := errors.AsType[*zones.StartError](err); ok {
				continue
			}
			if err != nil || st.Success() && strings.Contains(out.String(), "boot") {
				t.Errorf("%s leads to %q, %v", dir, out.String(), err)
			}
		}
	})
	t.Run("links", func(t *testing.T) { // what the zone put in the way of a given file
		if out, code := sh(t, d, m.ID, "mkdir -p /tmp/trap && ln -s /etc/this-zone /tmp/trap/file && ln -s /proc/1/root /tmp/out && mkfifo /tmp/trap/pipe"); code != 0 {
			t.Fatal(out)
		}
		f, err := os.Open(filepath.Join(m.Root.Path, "etc/passwd"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, at := range []string{"/tmp/trap/file", "/tmp/out/x", "/tmp/trap/pipe", "/proc/self/exe", "/dev/null", "/usr/zz"} {
			if err := d.Give(t.Context(), m.ID, zones.Gift{File: f, Path: at}); err == nil {
				t.Errorf("Give at %s was allowed", at)
			}
		}
	})
}

// TestLimitPriv has a zone do what its privileges leave out.
func TestLimitPriv(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	m.Spec.LimitPriv = "default,!file_chown,!proc_setid"
	start(t, d, m)
	if out, code := sh(t, d, m.ID, "touch /tmp/x && ! chown 1000 /tmp/x && chroot / true && ! chroot --userspec=1000 / true"); code != 0 {
		t.Errorf("%d %s", code, out)
	}
	m2 := machine(t)
	m2.Spec.LimitPriv = "default,!proc_exec"
	if _, err := d.Start(t.Context(), m2); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("Start = %v, want ErrNotSupported", err)
	}
	noTrace(t, m2)
}

// TestPreparedNetwork has a zone use, and try to change, a network namespace that its host made.
func TestPreparedNetwork(t *testing.T) {
	d := newDriver(t)
	m := withProbe(t, machine(t))
	m.NetNS = networkNamespace(t)
	start(t, d, m)
	if out, st := try(t, d, m.ID, "network"); !st.Success() {
		t.Errorf("%+v\n%s", st, out)
	}
}

// networkNamespace makes one with its loopback up, and a name that goes when the test ends.
func networkNamespace(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(lo); err != nil {
				return err
			}
			return unix.Mount("/proc/thread-self/ns/net", name, "", unix.MS_BIND, "")
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(name, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return name
}

// TestZonesApart has two zones look for each other.
func TestZonesApart(t *testing.T) {
	d := newDriver(t)
	a, b := withProbe(t, machine(t)), withProbe(t, machine(t))
	b.IDs.First += b.IDs.Size
	start(t, d, a)
	start(t, d, b)
	if out, st := try(t, d, a.ID, "remember"); !st.Success() {
		t.Fatal(out, st)
	}
	if out, st := try(t, d, b.ID, "recall"); !st.Success() {
		t.Errorf("zone b finds of zone a: %s", out)
	}
	if out, st := try(t, d, a.ID, "recall"); st.Success() || !strings.Contains(out, "shared memory") || !strings.Contains(out, "/dev/shm/left") {
		t.Errorf("zone a does not find its own: %s", out)
	}
}
