package statefile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/mobulacloud/mobula/zones/internal/statefile"
	"github.com/mobulacloud/mobula/zones/internal/statefile/statefiletest"
)

// A power cut, or a call that fails, at every operation of a write and of a removal: the file is as it was or as it is to be, and what was
// acknowledged stays.
func TestEveryOperation(t *testing.T) {
	const path = "/s/a.json"
	for _, cause := range []error{statefiletest.ErrPowerCut, errors.New("input/output error")} {
		for chance := range uint64(50) {
			for at := 1; ; at++ {
				fsys := statefiletest.New()
				if err := statefile.Write(fsys, statefile.Temp(path), path, []byte("one")); err != nil {
					t.Fatal(err)
				}
				base := fsys.Ops()
				fsys.OnOp(func(op int) error {
					if op == base+at {
						return cause
					}
					return nil
				})
				want := []string{"one", "two"}
				err := statefile.Write(fsys, statefile.Temp(path), path, []byte("two"))
				if err == nil {
					want = []string{"two", ""}
					if err = statefile.Remove(fsys, path); err == nil {
						want = []string{""}
					}
				}
				done := err == nil
				for name, fsys := range map[string]*statefiletest.FS{"": fsys, " and a power cut": fsys.Restart(rand.New(rand.NewPCG(chance, 1)))} {
					if name == "" && errors.Is(cause, statefiletest.ErrPowerCut) && !done {
						continue
					}
					b, err := fsys.ReadFile(path)
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Fatal(err)
					}
					if got := string(b); got != want[0] && got != want[len(want)-1] {
						t.Errorf("%v at operation %d%s: %q, want one of %q", cause, at, name, got, want)
					}
				}
				if done {
					break
				}
			}
		}
	}
}

func TestOS(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	for i := range 3 {
		tmp, write := statefile.Temp(path), statefile.Write
		if i == 2 {
			tmp, write = statefile.TempFor(path), statefile.WriteVolatile
		}
		if err := write(statefile.OS{}, tmp, path, []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if b, err := (statefile.OS{}).ReadFile(path); err != nil || string(b) != fmt.Sprint(i) {
			t.Errorf("read %q, %v", b, err)
		}
	}
	if names, err := (statefile.OS{}).Names(dir); err != nil || len(names) != 1 {
		t.Errorf("names %q, %v", names, err)
	}
	for range 2 {
		if err := statefile.Remove(statefile.OS{}, path); err != nil {
			t.Error(err)
		}
	}
	if err := statefile.Write(statefile.OS{}, filepath.Join(dir, "no", "tmp"), path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("write by way of a directory that is not there: %v", err)
	}
}
