package kvm

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// openTap opens an existing tap, in the network namespace it is in.
func openTap(n zones.Interface) (f *os.File, err error) {
	err = inNetNS(n.NetNS, func() error {
		// A name that is not there would make a new one; that a tap goes away in between is the caller's doing.
		if _, err := os.Stat("/proc/thread-self/net"); err != nil {
			return err
		}
		if !hasInterface(n.Host) {
			return fmt.Errorf("tap %s: %w", n.Host, zones.ErrNotExist)
		}
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq(n.Host)
		if err == nil {
			req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			unix.Close(fd)
			if errors.Is(err, unix.EBUSY) {
				err = zones.ErrBusy
			}
			return fmt.Errorf("tap %s: %w", n.Host, err)
		}
		f = os.NewFile(uintptr(fd), n.Host)
		return nil
	})
	return f, err
}

func hasInterface(name string) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	return err == nil && unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req) == nil
}

// inNetNS calls f on a thread in the namespace at the path; an empty path is our own.
func inNetNS(path string, f func() error) error {
	if path == "" {
		return f()
	}
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		// The thread stays in the namespace and ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
