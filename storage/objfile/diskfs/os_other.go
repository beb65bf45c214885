//go:build !linux

package diskfs

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// CreateTemp implements [FS] with a temporary name.
func (o *OS) CreateTemp(dir string, perm fs.FileMode) (Temp, error) { return o.createNamed(dir, perm) }

// Space implements [FS].
func (o *OS) Space() (total, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(o.dir, &st); err != nil {
		return 0, 0, os.NewSyscallError("statfs", err)
	}
	return int64(st.Blocks) * int64(st.Bsize), int64(st.Bavail) * int64(st.Bsize), nil
}

func (f *osFile) Preallocate(int64) error { return nil }
func (f *osFile) SetDirect(on bool) bool  { return !on }
func (f *osFile) Forget(off, n int64)     {}
