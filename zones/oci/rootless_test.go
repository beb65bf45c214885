//go:build linux && cgo

package oci_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/zonestest"
)

// rootlessEnv makes this test program run its tests of an ordinary user.
const rootlessEnv = "MOBULA_ROOTLESS"

// TestWithoutRoot runs the tests below as a user who owns nothing but a directory.
func TestWithoutRoot(t *testing.T) {
	testenv.NeedRoot(t)
	const user = 47110
	dir, err := os.MkdirTemp("", "u")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(os.Chown(dir, user, user), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestRootless", "-test.v", "-test.timeout", "60s")
	cmd.Dir = dir
	cmd.Env = []string{rootlessEnv + "=1", "TMPDIR=" + dir, "HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	// Groups that cannot be given up in a user namespace are what users have.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: []uint32{user, 47111}}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "\n--- PASS: TestRootless"); n < 2 {
		t.Errorf("%d tests ran:\n%s", n, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func needUser(t testing.TB) {
	t.Helper()
	if os.Getenv(rootlessEnv) == "" {
		t.Skip("TestWithoutRoot runs it as an ordinary user")
	}
}

// TestRootlessDriver is the suite, as far as the driver declares to go.
func TestRootlessDriver(t *testing.T) {
	needUser(t)
	zonestest.TestDriver(t, func(t *testing.T) zonestest.Subject {
		dir := runDir(t)
		last := open(t, dir)
		t.Cleanup(func() { cleanUp(t, last) })
		return zonestest.Subject{
			Driver:   last,
			Machine:  func(t *testing.T) zones.Machine { return machine(t) },
			Programs: true,
			Reopen: func(t *testing.T) zones.Driver {
				if err := last.Close(); err != nil {
					t.Error(err)
				}
				last = open(t, dir)
				return last
			},
		}
	})
}

// TestRootlessIsolation has the probe try what it can do in a zone of a user's.
func TestRootlessIsolation(t *testing.T) {
	needUser(t)
	d := open(t, runDir(t))
	t.Cleanup(func() { cleanUp(t, d) })
	m := machine(t)
	// The test program itself lies where only root gets to it.
	probe := filepath.Join(t.TempDir(), "probe")
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(probe, data, 0o755); err != nil {
		t.Fatal(err)
	}
	m.Mounts = append(m.Mounts, zones.Mount{Source: probe, Target: "/opt/probe", ReadOnly: true})
	if err := os.WriteFile(filepath.Join(m.Root.Path, "etc/this-zone"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, d, m)
	for name, args := range map[string][]string{"processes": {"1"}, "files": nil, "mounts": nil, "namespaces": nil, "kernel": nil, "init": nil, "descriptors": nil} {
		t.Run(name, func(t *testing.T) {
			if name == "processes" {
				args = []string{"47110471"}
			}
			if out, st := try(t, d, m.ID, name, args...); !st.Success() {
				t.Errorf("%+v\n%s", st, out)
			}
		})
	}
	m2 := machine(t)
	m2.NetNS = "/proc/self/ns/net"
	if _, err := d.Start(t.Context(), m2); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("Start with a network = %v, want ErrNotSupported", err)
	}
	if c := d.Capabilities(); c.Enforces("memory") || c.Give || !c.OneUser || len(c.Missing) == 0 {
		t.Errorf("Capabilities = %+v", c)
	}
}
