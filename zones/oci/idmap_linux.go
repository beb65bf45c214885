//go:build cgo

package oci

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// mapping is one run of ids: those from Inside on disk are those from Outside on the host.
type mapping struct {
	Inside, Outside, Size uint32
}

// userNamespaces keeps a user namespace open for each mapping in use, as an id-mapped mount takes its mapping from one. Making
// one costs a process start, keeping it a descriptor.
type userNamespaces struct {
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
		if ns, err = newUserNamespace(m); err != nil {
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

// newUserNamespace has a short-lived process make the namespace, as a program of several threads cannot.
func newUserNamespace(m mapping) (*os.File, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{zinit.PauseEnv + "=1"}
	ids := []syscall.SysProcIDMap{{ContainerID: int(m.Inside), HostID: int(m.Outside), Size: int(m.Size)}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	return os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/user")
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
