//go:build cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// Give implements zones.Giver. The file is not opened again by name and nothing is copied: a detached mount of it, read-only and
// with its owner shown as the zone's, is moved over an empty file that the zone's own init has made, as the host's root has no
// number there. Links in the way are refused, both when the file is made and when it is covered.
func (d *Driver) Give(ctx context.Context, id string, g zones.Gift) error {
	fail := func(err error) error { return zones.OpError("give", id, err) }
	m, err := d.machines.Running("give", id)
	if err != nil {
		return err
	}
	target := path.Clean(g.Path)
	if !path.IsAbs(target) || target == "/" || strings.IndexByte(target, 0) >= 0 {
		return fail(fmt.Errorf("%w: path %q", zones.ErrInvalid, g.Path))
	}
	st, err := g.File.Stat()
	if err != nil {
		return fail(err)
	}
	if !st.Mode().IsRegular() {
		return fail(fmt.Errorf("%w: not a regular file", zones.ErrInvalid))
	}
	if g.Owner.UID >= m.rec.IDs.Size {
		return fail(fmt.Errorf("%w: owner %d is outside the zone's ids", zones.ErrInvalid, g.Owner.UID))
	}
	sys := st.Sys().(*syscall.Stat_t)
	if err := m.control(ctx, zinit.Header{Type: zinit.MsgMakeFile}, []byte(target)); err != nil {
		return fail(fmt.Errorf("make %s: %w", target, err))
	}
	owner := mapping{Inside: sys.Uid, Outside: m.rec.IDs.First + g.Owner.UID, Size: 1}
	tree, err := d.userns.clone(int(g.File.Fd()), "", unix.AT_EMPTY_PATH, owner,
		unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return fail(err)
	}
	defer tree.Close()
	return fail(m.inside(func() error {
		at, err := within(target)
		if err != nil {
			return err
		}
		defer unix.Close(at)
		return unix.MoveMount(int(tree.Fd()), "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	}))
}

// Take implements zones.Giver.
func (d *Driver) Take(_ context.Context, id, name string) error {
	m, err := d.machines.Running("take", id)
	if err != nil {
		return err
	}
	target := path.Clean(name)
	if !path.IsAbs(target) || target == "/" {
		return zones.OpError("take", id, fmt.Errorf("%w: path %q", zones.ErrInvalid, name))
	}
	return zones.OpError("take", id, m.inside(func() error {
		at, err := within(target)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer unix.Close(at)
		var st unix.Stat_t
		if err := unix.Fstat(at, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			return err
		}
		err = unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // not a mount
			return nil
		}
		return err
	}))
}

// within opens what the path names inside, for a mount. No link is followed, so that nothing in the zone leads elsewhere.
func within(target string) (int, error) {
	return unix.Openat2(unix.AT_FDCWD, target, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
}

// inside runs f on a thread in the zone's mount namespace, with its root, which then ends. f may only make system calls.
func (m *machine) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and not unlocked
		done <- func() error {
			ns, err := os.Open("/proc/" + strconv.Itoa(m.rec.PID) + "/ns/mnt")
			if err != nil {
				return zones.ErrNotRunning
			}
			defer ns.Close()
			if startTime(m.rec.PID) != m.rec.Start { // the namespace held open is of the process we mean
				return zones.ErrNotRunning
			}
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil { // also moves root and directory
				return fmt.Errorf("enter mount namespace: %w", err)
			}
			return f()
		}()
	}()
	return <-done
}
