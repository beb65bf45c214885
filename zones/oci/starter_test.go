//go:build linux && cgo

package oci_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// starters are the starters among this process's children.
func starters(t testing.TB) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		data, _ := os.ReadFile(name)
		if f := strings.Fields(string(data)); len(f) > 3 && f[1] == "(zstarter)" && f[2] != "Z" && f[3] == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(f[0])
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestStarterKilled kills and stops the starter between two starts, and looks for it when its driver is gone.
func TestStarterKilled(t *testing.T) {
	testenv.NeedRoot(t)
	d := open(t, runDir(t))
	t.Cleanup(func() {
		cleanUp(t, d)
		if left := starters(t); len(left) > 0 {
			t.Errorf("starters %v are left", left)
		}
	})
	m := machine(t)
	start(t, d, m)
	for range 2 {
		pids := starters(t)
		if len(pids) != 1 {
			t.Fatalf("starters = %v, want one", pids)
		}
		if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if out, code := sh(t, d, m.ID, "echo on"); code != 0 {
			t.Errorf("the zone ended with its starter: %s", out)
		}
		start(t, d, machine(t))
	}
}

// TestNoExec starts a zone of a driver whose directory lies where nothing may be executed, as /run does on many hosts.
func TestNoExec(t *testing.T) {
	testenv.NeedRoot(t)
	dir := runDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d := open(t, dir)
	t.Cleanup(func() { cleanUp(t, d) })
	m := machine(t)
	start(t, d, m)
	if out, code := sh(t, d, m.ID, "echo on"); code != 0 {
		t.Error(out)
	}
}

// TestLinksInRoot starts zones whose image has put links where things are mounted. They lead nowhere outside.
func TestLinksInRoot(t *testing.T) {
	d := newDriver(t)
	for _, name := range []string{"proc", "dev", "sys", "usr", "data"} {
		t.Run(name, func(t *testing.T) {
			m := machine(t)
			outside := t.TempDir()
			if err := os.WriteFile(filepath.Join(outside, "file"), []byte("host"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(outside, 0o777); err != nil {
				t.Fatal(err)
			}
			at := filepath.Join(m.Root.Path, name)
			_ = os.Remove(at)
			if err := os.Symlink(outside, at); err != nil {
				t.Fatal(err)
			}
			m.Limits.TmpFS = 1 << 20
			m.Mounts = append(m.Mounts, zones.Mount{Type: zones.MountTmpfs, Target: "/data/deep/er", Size: 1 << 20})
			if _, err := d.Start(t.Context(), m); err == nil {
				if err := d.Destroy(t.Context(), m.ID); err != nil {
					t.Error(err)
				}
			}
			entries, err := os.ReadDir(outside)
			if err != nil || len(entries) != 1 {
				t.Errorf("the host's directory has %v, %v", entries, err)
			}
			noTrace(t, m)
		})
	}
}

// TestManyMounts is about those that are more than one message can carry.
func TestManyMounts(t *testing.T) {
	d := newDriver(t)
	for n, fits := range map[int]bool{200: true, 300: false} {
		m := machine(t)
		for i := range n {
			m.Mounts = append(m.Mounts, zones.Mount{Source: "/usr/share", Target: "/mnt/" + strconv.Itoa(i), ReadOnly: true})
		}
		_, err := d.Start(t.Context(), m)
		if (err == nil) != fits {
			t.Errorf("Start with %d mounts = %v", n, err)
		}
		if err := d.Destroy(t.Context(), m.ID); err != nil {
			t.Error(err)
		}
		noTrace(t, m)
	}
}
