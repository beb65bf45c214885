package diskfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// CreateTemp implements [FS] with O_TMPFILE, or with a temporary name where the file system does not know it.
func (o *OS) CreateTemp(dir string, perm fs.FileMode) (Temp, error) {
	f, err := o.root.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, perm)
	switch {
	case err == nil:
		return &unnamed{osFile: osFile{f}, o: o}, nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL):
		return o.createNamed(dir, perm)
	}
	return nil, err
}

// unnamed is a file made with O_TMPFILE: the kernel takes it back when nobody has it open.
type unnamed struct {
	osFile
	o *OS
}

// Link implements [Temp]. The directory is opened through the root, so the name cannot leave it; its last element is joined by the kernel.
func (f *unnamed) Link(name string) error {
	d, err := f.o.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	self := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, self, int(d.Fd()), path.Base(name), unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "linkat", Old: "unnamed file", New: name, Err: err}
	}
	return nil
}

// Space implements [FS].
func (o *OS) Space() (total, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(o.self.Fd()), &st); err != nil {
		return 0, 0, os.NewSyscallError("fstatfs", err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

func (f *osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func (f *osFile) Preallocate(size int64) error {
	if size <= 0 {
		return nil
	}
	for {
		switch err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size); err {
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOSYS:
			return nil
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
}

func (f *osFile) SetDirect(on bool) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	if on {
		flags |= unix.O_DIRECT
	} else {
		flags &^= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return err == nil
}

func (f *osFile) Forget(off, n int64) {
	_ = unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED) // advice: a refusal costs speed or freshness, not truth
}
