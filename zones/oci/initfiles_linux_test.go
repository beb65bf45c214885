//go:build cgo

package oci

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInitFiles(t *testing.T) {
	dir := t.TempDir()
	a, err := installInit(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.lock.Close()
	b, err := installInit(dir)
	if err != nil || b.dir != a.dir {
		t.Fatalf("a second process has %s, the first %s, %v", b.dir, a.dir, err)
	}
	b.lock.Close()
	for _, name := range []string{"idle", "running", "held"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	held, err := lockFile(filepath.Join(dir, "held.lock"), 1) // shared
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := sweepInits(dir, map[string]bool{"running": true}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{a.key: true, "idle": false, "running": true, "held": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}
