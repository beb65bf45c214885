package rootfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/afero"
)

func TestFs_nothingLeadsOut(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "a")
	// A neighbour whose name begins alike, and a link: what afero.BasePathFs serves.
	for _, d := range []string{base, filepath.Join(dir, "ab")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ab", "x"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../secret", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	fs, err := Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	for _, name := range []string{"link", "/link", "../secret", "../ab/x", "/../../secret", filepath.Join(dir, "secret")} {
		if b, err := afero.ReadFile(fs, name); err == nil {
			t.Errorf("ReadFile(%q) = %q, want an error", name, b)
		}
	}
	if err := afero.WriteFile(fs, "link", []byte("overwritten"), 0o600); err == nil {
		t.Error("WriteFile went through the link")
	}
	if b, err := os.ReadFile(filepath.Join(dir, "secret")); err != nil || string(b) != "secret" {
		t.Errorf("outside there is %q, %v", b, err)
	}
}

func TestFs_isAFileSystem(t *testing.T) {
	fs, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	if err := fs.MkdirAll("/d/e", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := afero.WriteFile(fs, "d/e/x", []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fs.Rename("d/e/x", "d/y"); err != nil {
		t.Fatal(err)
	}
	if b, err := afero.ReadFile(fs, "/d/y"); err != nil || string(b) != "content" {
		t.Errorf("ReadFile = %q, %v", b, err)
	}
	entries, err := afero.ReadDir(fs, ".")
	if err != nil || len(entries) != 1 || entries[0].Name() != "d" {
		t.Errorf("ReadDir = %v, %v", entries, err)
	}
	if err := fs.RemoveAll("d"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat("d"); !os.IsNotExist(err) {
		t.Errorf("Stat after RemoveAll: %v", err)
	}
}
