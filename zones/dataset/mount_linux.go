package dataset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenOptions is how a tree is mounted.
type OpenOptions struct {
	// UserNS is a user namespace whose ids the tree is shown in (id-mapped mount); nil shows it as it is on disk.
	// The file stays the caller's.
	UserNS *os.File
	// ReadOnly mounts without writing, even if the root could be written.
	ReadOnly bool
	// NoSUID, NoDev, NoExec are the mount's flags of these names.
	NoSUID, NoDev, NoExec bool
}

// Mount is a mounted tree that is attached nowhere: it vanishes when it is closed, or when the process dies, unless
// Attach gave it a place.
type Mount struct{ fd int }

// Open mounts a root without attaching it. It needs root's rights (CAP_SYS_ADMIN).
//
// Id-mapping an overlay: every layer is id-mapped on its own, since overlayfs itself cannot be, and the mount is created
// with the mapped root as the file system user, whose credentials overlayfs keeps for its own work. So ids
// on disk are the same as in a plain directory, and nothing is ever chowned.
func (r Root) Open(o OpenOptions) (*Mount, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	var fd int
	var err error
	if r.Dir != "" {
		fd, err = cloneTree(r.Dir, o.UserNS)
	} else {
		fd, err = openOverlay(r, o)
	}
	if err != nil {
		return nil, err
	}
	attr := unix.MountAttr{}
	for _, f := range []struct {
		on   bool
		flag uint64
	}{
		{r.ReadOnly || o.ReadOnly, unix.MOUNT_ATTR_RDONLY}, {o.NoSUID, unix.MOUNT_ATTR_NOSUID},
		{o.NoDev, unix.MOUNT_ATTR_NODEV}, {o.NoExec, unix.MOUNT_ATTR_NOEXEC},
	} {
		if f.on {
			attr.Attr_set |= f.flag
		}
	}
	if attr.Attr_set != 0 {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("set mount attributes: %w", err)
		}
	}
	return &Mount{fd: fd}, nil
}

// Fd gives the mount's descriptor, which stays the Mount's.
func (m *Mount) Fd() int { return m.fd }

// Path gives a path that leads to the tree within this process as long as the Mount is open.
func (m *Mount) Path() string { return fmt.Sprintf("/proc/thread-self/fd/%d", m.fd) }

// OpenRoot opens the tree for access that cannot leave it.
func (m *Mount) OpenRoot() (*os.Root, error) { return os.OpenRoot(m.Path() + "/.") }

// Attach puts the mount at a directory that exists, in the mount namespace of the caller. It stays there until it is unmounted.
func (m *Mount) Attach(target string) error {
	if err := unix.MoveMount(m.fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach mount at %s: %w", target, err)
	}
	return nil
}

// Close lets go of the mount; an attached one stays where it is. It may be repeated.
func (m *Mount) Close() error {
	if m.fd < 0 {
		return nil
	}
	fd := m.fd
	m.fd = -1
	return unix.Close(fd)
}

func cloneTree(path string, userns *os.File) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("clone mount of %s: %w", path, err)
	}
	if userns == nil {
		return fd, nil
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("id-map mount of %s: %w", path, err)
	}
	return fd, nil
}

func openOverlay(r Root, o OpenOptions) (int, error) {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	// One clone per directory that holds layers would do, but layers of one dataset live in different directories.
	show := func(path string) (string, error) {
		fd, err := cloneTree(path, o.UserNS)
		if err != nil {
			return "", err
		}
		fds = append(fds, fd)
		return fmt.Sprintf("/proc/thread-self/fd/%d", fd), nil
	}
	lower := make([]string, len(r.Lower))
	for i, p := range r.Lower {
		var err error
		if lower[i], err = show(p); err != nil {
			return -1, err
		}
	}
	var upper, work string
	if r.Upper != "" {
		// Upper and work must lie on one mount, hence one clone of the directory that holds both.
		dir := filepath.Dir(r.Upper)
		if dir != filepath.Dir(r.Work) {
			return -1, errors.New("overlay: upper and work are not in one directory")
		}
		base, err := show(dir)
		if err != nil {
			return -1, err
		}
		upper, work = base+"/"+filepath.Base(r.Upper), base+"/"+filepath.Base(r.Work)
	}
	uid, gid := 0, 0
	if o.UserNS != nil {
		st, err := mappedRoot(fds[0], r.Lower[0])
		if err != nil {
			return -1, err
		}
		uid, gid = st.uid, st.gid
	}
	return asFSUser(uid, gid, func() (int, error) { return createOverlay(lower, upper, work) })
}

type ids struct{ uid, gid int }

// mappedRoot finds how id 0 on disk shows through an id-mapped mount, by comparing one directory on both.
// Layers are owned by 0:0 at their top, as Pool's contract demands of Create; anything else shows the shift just as well.
func mappedRoot(fd int, path string) (ids, error) {
	var mapped, plain unix.Stat_t
	if err := unix.Fstat(fd, &mapped); err != nil {
		return ids{}, fmt.Errorf("stat id-mapped %s: %w", path, err)
	}
	if err := unix.Stat(path, &plain); err != nil {
		return ids{}, fmt.Errorf("stat %s: %w", path, err)
	}
	u, g := int(mapped.Uid)-int(plain.Uid), int(mapped.Gid)-int(plain.Gid)
	if mapped.Uid == overflowID || mapped.Gid == overflowID || u < 0 || g < 0 {
		return ids{}, fmt.Errorf("owner %d:%d of %s is not in the id map", plain.Uid, plain.Gid, path)
	}
	return ids{u, g}, nil
}

const overflowID = 65534

// asFSUser runs f on a thread whose file system ids are uid:gid while all of root's capabilities stay in force; setfsuid takes some
// away, capset brings them back. The thread's ids are restored after it.
func asFSUser(uid, gid int, f func() (int, error)) (int, error) {
	if uid == 0 && gid == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return -1, fmt.Errorf("read capabilities: %w", err)
	}
	oldGid, _ := unix.SetfsgidRetGid(gid)
	oldUid, _ := unix.SetfsuidRetUid(uid)
	defer func() {
		unix.Setfsuid(oldUid)
		unix.Setfsgid(oldGid)
		unix.Capset(&header, &caps[0])
	}()
	if err := unix.Capset(&header, &caps[0]); err != nil {
		return -1, fmt.Errorf("keep capabilities: %w", err)
	}
	return f()
}

func createOverlay(lower []string, upper, work string) (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open overlay: %w", err)
	}
	defer unix.Close(fs)
	if len(lower) == 1 && upper == "" {
		// The kernel wants two layers at least; a single one needs no overlay.
		return -1, errors.New("overlay: a single read-only layer is a directory")
	}
	// Layers are moved when snapshots are made, so nothing may tie them to a place or to each other.
	for _, k := range []string{"index", "redirect_dir", "metacopy", "nfs_export"} {
		if err := unix.FsconfigSetString(fs, k, "off"); err != nil {
			return -1, overlayError(fs, "set "+k, err)
		}
	}
	if err := setLower(fs, lower); err != nil {
		return -1, err
	}
	if upper != "" {
		if err := unix.FsconfigSetString(fs, "upperdir", upper); err != nil {
			return -1, overlayError(fs, "set upperdir", err)
		}
		if err := unix.FsconfigSetString(fs, "workdir", work); err != nil {
			return -1, overlayError(fs, "set workdir", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, overlayError(fs, "create", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, overlayError(fs, "mount", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err == nil && upper != "" && st.Flags&unix.ST_RDONLY != 0 {
		unix.Close(fd)
		return -1, errors.New("overlay: the kernel made it read-only; its work directory could not be used")
	}
	return fd, nil
}

// setLower names the lower layers one by one (Linux 6.7), or else all in one string, which fsconfig limits to 255 bytes.
func setLower(fs int, lower []string) error {
	err := unix.FsconfigSetString(fs, "lowerdir+", lower[0])
	if err == nil {
		for _, l := range lower[1:] {
			if err := unix.FsconfigSetString(fs, "lowerdir+", l); err != nil {
				return overlayError(fs, "add a lower layer", err)
			}
		}
		return nil
	}
	joined := strings.Join(lower, ":")
	if len(joined) > 255 {
		return fmt.Errorf("overlay: %d layers are too many for this kernel: %w", len(lower), ErrUnsupported)
	}
	if err := unix.FsconfigSetString(fs, "lowerdir", joined); err != nil {
		return overlayError(fs, "set lowerdir", err)
	}
	return nil
}

// overlayError adds what the kernel says in the context's log.
func overlayError(fs int, verb string, err error) error {
	buf := make([]byte, 512)
	n, _ := unix.Read(fs, buf)
	if n > 0 {
		return fmt.Errorf("overlay: %s: %w (%s)", verb, err, strings.TrimSpace(string(buf[:n])))
	}
	return fmt.Errorf("overlay: %s: %w", verb, err)
}

// AsUser runs f on a thread whose file system user and group are uid and gid, with all of root's capabilities, so that files it makes on an
// id-mapped mount have owners there. f must not start goroutines that make files.
func AsUser(uid, gid int, f func() error) error {
	_, err := asFSUser(uid, gid, func() (int, error) { return 0, f() })
	return err
}
