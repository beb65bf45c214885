//go:build cgo

package oci

import (
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// mapping is one run of ids: those from Inside on disk are those from Outside on the host.
type mapping struct {
	Inside, Outside, Size uint32
}

// userNamespaces keeps a user namespace open for each mapping in use, as an id-mapped mount takes its mapping from one. Making
// one costs a process, keeping it a descriptor.
type userNamespaces struct {
	starter *starter

	mu   sync.Mutex
	open map[mapping]*os.File
}

// maxUserNamespaces bounds the descriptors. Beyond it the store starts anew; mounts keep what they need.
const maxUserNamespaces = 1024

// use calls f with a descriptor of a user namespace with the mapping for users and groups.
func (u *userNamespaces) use(m mapping, f func(fd int) error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	ns := u.open[m]
	if ns == nil {
		var err error
		if ns, err = u.starter.userNamespace(m); err != nil {
			return err
		}
		if u.open == nil || len(u.open) >= maxUserNamespaces {
			u.closeAll()
			u.open = map[mapping]*os.File{}
		}
		u.open[m] = ns
	}
	return f(int(ns.Fd()))
}

func (u *userNamespaces) closeAll() {
	for _, f := range u.open {
		f.Close()
	}
	u.open = nil
}

func (u *userNamespaces) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closeAll()
}

// userNamespace has a short-lived process make the namespace, as a program of several threads cannot.
func (s *starter) userNamespace(m mapping) (*os.File, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p, err := s.begin(zinit.Order{Type: zinit.OrderUserNS, Inside: m.Inside, First: m.Outside, Size: m.Size}, null, null, null)
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	defer reap(p.pid)
	defer p.abandon()
	return os.Open("/proc/" + strconv.Itoa(p.pid) + "/ns/user")
}

// UserNamespace returns a user namespace in which the range's ids are those from 0, for id-mapped mounts. Nothing lives in it. The
// caller closes it.
func (d *Driver) UserNamespace(r zones.IDRange) (*os.File, error) {
	var f *os.File
	err := d.userns.use(mapping{Outside: r.First, Size: r.Size}, func(fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			f = os.NewFile(uintptr(dup), "user namespace")
		}
		return err
	})
	return f, err
}

// mappedClone is a detached, private copy of the mount at path, seen through the mapping. The caller closes it.
func (u *userNamespaces) mappedClone(path string, m mapping, attr uint64) (*os.File, error) {
	return u.clone(unix.AT_FDCWD, path, 0, m, attr)
}

// clone is open_tree and mount_setattr. With an empty path and AT_EMPTY_PATH it takes dirfd itself.
func (u *userNamespaces) clone(dirfd int, path string, flags uint, m mapping, attr uint64) (*os.File, error) {
	fd, err := unix.OpenTree(dirfd, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return nil, fmt.Errorf("clone mount %s: %w", path, err)
	}
	tree := os.NewFile(uintptr(fd), path)
	err = u.use(m, func(ns int) error {
		return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
			Attr_set: attr | unix.MOUNT_ATTR_IDMAP, Propagation: unix.MS_PRIVATE, Userns_fd: uint64(ns)})
	})
	if err != nil {
		tree.Close()
		return nil, fmt.Errorf("map ids of mount %s: %w", path, err)
	}
	return tree, nil
}
