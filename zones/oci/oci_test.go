//go:build linux && cgo

package oci_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci"
)

// newDriver makes a driver whose machines, groups and mounts are gone when the test ends.
func newDriver(t testing.TB) *oci.Driver {
	t.Helper()
	testenv.NeedRoot(t)
	d := open(t, runDir(t))
	t.Cleanup(func() { cleanUp(t, d) })
	return d
}

func open(t testing.TB, dir string) *oci.Driver { t.Helper(); return openWith(t, dir, "") }

func openWith(t testing.TB, dir, runtime string) *oci.Driver {
	t.Helper()
	d, err := oci.New(oci.Config{StateDir: dir, CgroupParent: "/mobula-test", Runtime: runtime})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func cleanUp(t testing.TB, d *oci.Driver) {
	ids, err := d.List(context.Background())
	if err != nil {
		t.Error(err)
	}
	for _, id := range ids {
		if err := d.Destroy(context.Background(), id); err != nil {
			t.Error(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// runDir is a short private path, as sockets need.
func runDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "z")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// machine is one with the host's programs and an empty root else.
func machine(t testing.TB) zones.Machine {
	t.Helper()
	return zones.Machine{
		ID:     uuid.NewString(),
		Spec:   &zones.Spec{Brand: zones.BrandMinimal, ImageUUID: zones.SparseImage},
		RunDir: runDir(t),
		Root:   zones.Root{Path: sparseRoot(t)},
		Mounts: []zones.Mount{{Source: "/usr", Target: "/usr", ReadOnly: true}},
		IDs:    zones.IDRange{First: 1 << 20, Size: 65536},
		Limits: zones.Limits{Memory: 256 << 20, Swap: 256 << 20, LWPs: 200},
	}
}

func sparseRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"usr", "proc", "dev", "sys", "etc", "root", "var", "tmp", "home", "run"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64", "lib32"} {
		if to, err := os.Readlink("/" + link); err == nil {
			if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func start(t testing.TB, d zones.Driver, m zones.Machine) zones.Handle {
	t.Helper()
	h, err := d.Start(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// sh runs a shell script inside and returns what it printed and its code.
func sh(t testing.TB, d zones.Driver, id, script string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	st, err := zones.Run(t.Context(), d, id, zones.ExecRequest{Args: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("sh -c %q: %v\n%s", script, err, out.String())
	}
	return out.String(), st.Code
}
