package dataset

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/internal/testenv"
)

// Both kinds of root show disk id 0 as the first id of the range, and keep ids on disk as they are inside.
func TestUserNS(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	for _, d := range []string{"plain", "lower", "s/upper", "s/work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"plain/f", "lower/f"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ns, err := NewUserNS(1_000_000, 65536)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	stack := Root{Lower: []string{dir + "/lower"}, Upper: dir + "/s/upper", Work: dir + "/s/work"}
	for onDisk, root := range map[string]Root{"plain": {Dir: dir + "/plain"}, "s/upper": stack} {
		target := filepath.Join(dir, "at")
		os.Mkdir(target, 0o755)
		m, err := root.Open(OpenOptions{UserNS: ns})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Attach(target); err != nil {
			t.Fatal(err)
		}
		m.Close()
		defer unix.Unmount(target, unix.MNT_DETACH)
		fi, err := os.Stat(target + "/f")
		if err != nil {
			t.Fatal(err)
		}
		if uid := fi.Sys().(*syscall.Stat_t).Uid; uid != 1_000_000 {
			t.Errorf("%s: file of id 0 shows as %d, want 1000000", onDisk, uid)
		}
		// A write by an id of the range, as the machine's user 5 does it.
		if err := os.Chown(target, 1_000_005, 1_000_005); err != nil {
			t.Fatal(err)
		}
		_, err = asFSUser(1_000_005, 1_000_005, func() (int, error) { return 0, os.WriteFile(target+"/g", nil, 0o644) })
		if err != nil {
			t.Fatalf("%s: %v", onDisk, err)
		}
		fi, err = os.Stat(filepath.Join(dir, onDisk, "g"))
		if err != nil {
			t.Fatal(err)
		}
		if uid := fi.Sys().(*syscall.Stat_t).Uid; uid != 5 {
			t.Errorf("%s: on disk the file belongs to %d, want 5", onDisk, uid)
		}
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	}
}
