package diskfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func open(t *testing.T) *OS {
	o, err := OpenOS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestTemp(t *testing.T) {
	for name, create := range map[string]func(o *OS) (Temp, error){
		"native":   func(o *OS) (Temp, error) { return o.CreateTemp("d", 0o444) },
		"portable": func(o *OS) (Temp, error) { return o.createNamed("d", 0o444) },
	} {
		t.Run(name, func(t *testing.T) {
			o := open(t)
			if err := o.Mkdir("d"); err != nil {
				t.Fatal(err)
			}
			for i, want := range []error{nil, fs.ErrExist} {
				f, err := create(o)
				if err != nil {
					t.Fatal(err)
				}
				if err := f.Preallocate(1 << 20); err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte("content"), 0); err != nil {
					t.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				if err := f.Link("d/name"); !errors.Is(err, want) {
					t.Fatalf("link %d: %v, want %v", i, err, want)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := o.SyncDir("d"); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(o.Dir(), "d/name"))
			if err != nil || string(b) != "content" {
				t.Errorf("content %q, %v", b, err)
			}
			if st, err := o.Stat("d/name"); err != nil || st.Mode() != 0o444 {
				t.Errorf("mode %v, %v; want 0444", st.Mode(), err)
			}
			var names []string
			for name, err := range o.Names("d") {
				if err != nil {
					t.Fatal(err)
				}
				names = append(names, name)
			}
			if !slices.Equal(names, []string{"name"}) {
				t.Errorf("names %q, want the one that was linked", names)
			}
		})
	}
}

func TestNamesStayInside(t *testing.T) {
	o := open(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(o.Dir(), "out")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../x", "/etc/x", "out/x", "a/../../x"} {
		if f, err := o.Create(name); err == nil {
			f.Close()
			t.Errorf("Create(%q) succeeded", name)
		}
		if f, err := o.CreateTemp(".", 0o400); err != nil {
			t.Fatal(err)
		} else {
			if err := f.Link(name); err == nil {
				t.Errorf("Link(%q) succeeded", name)
			}
			f.Close()
		}
	}
}

func TestLock(t *testing.T) {
	o := open(t)
	l, err := o.Lock("LOCK")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Lock("LOCK"); !errors.Is(err, ErrLocked) {
		t.Errorf("second Lock = %v, want ErrLocked", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = o.Lock("LOCK")
	if err != nil {
		t.Fatalf("Lock after release: %v", err)
	}
	l.Close()
}

func TestSpace(t *testing.T) {
	total, free, err := open(t).Space()
	if err != nil || total <= 0 || free <= 0 || free > total {
		t.Errorf("Space = %d, %d, %v", total, free, err)
	}
}
