package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inNS calls f on a thread that is in the network namespace.
func inNS(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		old, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer old.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = f()
		// A thread that cannot come back must not serve anybody else: it ends with its goroutine.
		if unix.Setns(int(old.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func (n *Network) nsPath(zone string) string { return filepath.Join(n.dir, zone) }

// openNS opens a zone's namespace. There being none is fs.ErrNotExist, a file left by a crash between its making and
// its binding included.
func (n *Network) openNS(zone string) (*os.File, error) {
	f, err := os.Open(n.nsPath(zone))
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("namespace of zone %s: %w", zone, fs.ErrNotExist)
	}
	return f, nil
}

// makeNS makes a zone's namespace and binds it to its file, and opens it. The namespace belongs to the host's user
// namespace, so root inside a zone has no power over it.
func (n *Network) makeNS(zone string) (*os.File, error) {
	path := n.nsPath(zone)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return nil, err
	}
	f.Close()
	done := make(chan error, 1)
	go func() {
		// The thread is in a namespace of its own from here on and ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("new network namespace: %w", err)
			return
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			done <- fmt.Errorf("bind network namespace: %w", err)
			return
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		os.Remove(path)
		return nil, err
	}
	return n.openNS(zone)
}

// dropNS removes a zone's namespace; with it, unless something still runs in it, goes every interface in it.
func (n *Network) dropNS(zone string) error {
	path := n.nsPath(zone)
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil {
			continue // there may be several, one over the other
		}
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) {
			break
		}
		return fmt.Errorf("unbind network namespace of zone %s: %w", zone, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sysctl writes a setting of the namespace the calling thread is in. A kernel without IPv6 has none of its settings.
func sysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
