package namespace_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
)

// TestCrash stops a change of a directory after each of its steps, checks that what is left is legal, and that repetition completes it.
func TestCrash(t *testing.T) {
	ctx := t.Context()
	dir := stor.Join("d")
	file := dir.Join("f")
	for _, change := range []struct {
		name    string
		prepare func(*namespace.Namespace) error
		do      func(*namespace.Namespace) error
	}{
		{"mkdir", nil, func(ns *namespace.Namespace) error {
			_, _, err := ns.PutDirectory(ctx, dir, manta.Entry{Headers: map[string]string{"m-x": "y"}}, namespace.Options{})
			return err
		}},
		{"mkdir over object", func(ns *namespace.Namespace) error {
			_, _, err := ns.Put(ctx, dir, object(3), namespace.Options{})
			return err
		}, func(ns *namespace.Namespace) error {
			_, _, err := ns.PutDirectory(ctx, dir, manta.Entry{}, namespace.Options{})
			return err
		}},
		{"rmdir", func(ns *namespace.Namespace) error {
			_, _, err := ns.PutDirectory(ctx, dir, manta.Entry{}, namespace.Options{})
			return err
		}, func(ns *namespace.Namespace) error {
			_, err := ns.Delete(ctx, dir, namespace.Options{})
			return err
		}},
		{"metadata", func(ns *namespace.Namespace) error {
			_, _, err := ns.PutDirectory(ctx, dir, manta.Entry{}, namespace.Options{})
			return err
		}, func(ns *namespace.Namespace) error {
			_, err := ns.SetMetadata(ctx, dir, namespace.Metadata{Headers: map[string]string{"m-x": "y"}}, namespace.Options{})
			return err
		}},
	} {
		for steps := range 4 {
			for _, after := range []string{"repeat", "put", "mkdir", "rmdir"} {
				t.Run(fmt.Sprintf("%s, %d steps, then %s", change.name, steps, after), func(t *testing.T) {
					store := newSharded()
					ns := newNamespace(t, store, namespace.Config{})
					if change.prepare != nil {
						if err := change.prepare(ns); err != nil {
							t.Fatal(err)
						}
					}
					store.crashAfter(steps)
					done := change.do(ns) == nil
					store.crashAfter(-1)
					st, err := ns.Look(ctx, dir, false)
					if err != nil {
						t.Fatal(err)
					}
					there := st.Entry.IsDirectory()
					listed := len(list(t, ns, stor, namespace.ListOptions{})) == 1
					if listed != (st.Entry != nil) {
						t.Fatalf("listed %v, found %v", listed, st.Entry)
					}
					if done && there == (change.name == "rmdir") {
						t.Fatalf("acknowledged, but directory is there: %v", there)
					}
					switch after {
					case "repeat":
						err = change.do(ns)
						if change.name == "rmdir" && errors.Is(err, namespace.ErrNotFound) && !there {
							err = nil
						}
					case "put":
						_, _, err = ns.Put(ctx, file, object(1), namespace.Options{})
						switch {
						case there:
						case st.Entry != nil && errors.Is(err, namespace.ErrParentNotDirectory), st.Entry == nil && errors.Is(err, namespace.ErrNoParent):
							return
						}
					case "mkdir":
						_, _, err = ns.PutDirectory(ctx, dir, manta.Entry{}, namespace.Options{})
					case "rmdir":
						_, err = ns.Delete(ctx, dir, namespace.Options{})
						if st.Entry == nil && errors.Is(err, namespace.ErrNotFound) {
							return
						}
					}
					if err != nil {
						t.Fatal(err)
					}
					checkWhole(t, ns, dir)
				})
			}
		}
	}
}

// checkWhole makes sure that a directory, if it is there, takes an entry, and counts right.
func checkWhole(t *testing.T, ns *namespace.Namespace, dir manta.Key) {
	t.Helper()
	ctx := t.Context()
	st, err := ns.Look(ctx, dir, false)
	if err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	if st.Entry != nil {
		want = 1
	}
	if n, _ := ns.Count(ctx, dir.Dir()); n != want {
		t.Fatalf("parent counts %d entries, want %d", n, want)
	}
	if !st.Entry.IsDirectory() {
		return
	}
	if _, _, err := ns.Put(ctx, dir.Join("g"), object(1), namespace.Options{}); err != nil {
		t.Fatalf("put into %s: %v", dir, err)
	}
	if _, err := ns.Delete(ctx, dir, namespace.Options{}); !errors.Is(err, namespace.ErrNotEmpty) {
		t.Fatalf("delete of a full directory: %v", err)
	}
	for _, name := range list(t, ns, dir, namespace.ListOptions{}) {
		if _, err := ns.Delete(ctx, dir.Join(name), namespace.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ns.Delete(ctx, dir, namespace.Options{}); err != nil {
		t.Fatalf("delete of an empty directory: %v", err)
	}
	if n, _ := ns.Count(ctx, dir.Dir()); n != 0 {
		t.Fatalf("parent counts %d entries, want none", n)
	}
}
