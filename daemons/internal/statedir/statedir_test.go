package statedir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOpen_isExclusiveAndKnowsItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d, err := Open(path, "prog")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, "prog"); err == nil || !strings.Contains(err.Error(), "already running") {
		t.Errorf("second Open: %v, want that it is already running", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, "other"); err == nil || !strings.Contains(err.Error(), "not other's") {
		t.Errorf("Open as another program: %v, want that it is not other's", err)
	}
	if d, err = Open(path, "prog"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Remove(t.Context(), path, "prog", nil) }()
	select {
	case err := <-done:
		t.Fatalf("Remove of an open directory returned %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("stat after Remove: %v", err)
	}
}

func TestOpen_leavesOthersAlone(t *testing.T) {
	path := t.TempDir()
	file := filepath.Join(path, "thesis.txt")
	if err := os.WriteFile(file, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, "prog"); err == nil {
		t.Error("Open took a directory that is not its own")
	}
	if err := Remove(t.Context(), path, "prog", nil); err == nil {
		t.Error("Remove took a directory that is not its own")
	}
	if entries, _ := os.ReadDir(path); len(entries) != 1 {
		t.Errorf("%d entries are in the directory, want the one that was there", len(entries))
	}
}

func TestOpen_refusesNewerLayouts(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "prog.json"), []byte(`{"program":"prog","layout":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, "prog"); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("Open: %v, want that it was made by a newer version", err)
	}
}

// TestOpen_oldLayouts opens directories that older programs have made. The samples stay as they are.
func TestOpen_oldLayouts(t *testing.T) {
	for _, program := range []string{"coal", "headnode", "storagenode"} {
		path := filepath.Join(t.TempDir(), program)
		if err := os.CopyFS(path, os.DirFS(filepath.Join("testdata", "layout1", program))); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, "another"); err == nil {
			t.Errorf("%s's directory was opened as another program's", program)
		}
		d, err := Open(path, program)
		if err != nil {
			t.Errorf("%s's directory: %v", program, err)
			continue
		}
		if b, err := os.ReadFile(d.Path("kept")); err != nil || string(b) != "as it was\n" {
			t.Errorf("%s's file is %q, %v", program, b, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Remove(t.Context(), path, program, nil); err != nil {
			t.Errorf("remove %s's directory: %v", program, err)
		}
	}
}
