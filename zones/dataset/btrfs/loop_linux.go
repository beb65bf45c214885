package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
)

const minSize = 256 << 20

// mountFile brings the loop file's file system to dir, making the file if it is not there. It gives the loop device.
func mountFile(ctx context.Context, cfg Config) (device string, err error) {
	lock, err := os.OpenFile(cfg.File+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", cfg.File, err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return "", err
	}
	if _, err := os.Stat(cfg.File); errors.Is(err, fs.ErrNotExist) {
		if err := makeFile(ctx, cfg); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	// A file that two loop devices show is a file system mounted twice, so one that is attached is used as it is.
	device, err = attached(cfg.File)
	if err != nil {
		return "", err
	}
	if device != "" && mountedAt(cfg.Dir, device) {
		return device, nil
	}
	var hold *os.File
	if device == "" {
		if device, hold, err = attach(cfg.File); err != nil {
			return "", err
		}
	} else if hold, err = os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return "", err
	}
	defer hold.Close() // until then the device clears itself if the mount does not come about
	if err := unix.Mount(device, cfg.Dir, "btrfs", unix.MS_NODEV|unix.MS_NOATIME, "skip_balance"); err != nil {
		return "", fmt.Errorf("mount %s at %s: %w", cfg.File, cfg.Dir, err)
	}
	// The mount stays here: copies in the namespaces of machines would keep the file busy.
	if err := unix.Mount("", cfg.Dir, "", unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("make mount %s private: %w", cfg.Dir, err)
	}
	return device, nil
}

func makeFile(ctx context.Context, cfg Config) error {
	mkfs, err := exec.LookPath("mkfs.btrfs")
	if err != nil {
		return fmt.Errorf("a new loop file needs mkfs.btrfs (package btrfs-progs): %w", dataset.ErrUnsupported)
	}
	f, err := os.CreateTemp(filepath.Dir(cfg.File), ".new-pool-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(cfg.Size); err != nil {
		return fmt.Errorf("make %s: %w", cfg.File, err)
	}
	out, err := exec.CommandContext(ctx, mkfs, "-q", f.Name()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make %s: mkfs.btrfs: %w: %s", cfg.File, err, strings.TrimSpace(string(out)))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), cfg.File); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(cfg.File))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// attached finds the loop device that shows a file, by device and inode, since names lie; "" if there is none.
func attached(file string) (string, error) {
	var want unix.Stat_t
	if err := unix.Stat(file, &want); err != nil {
		return "", fmt.Errorf("stat %s: %w", file, err)
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, b := range backing {
		dev := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(b)))
		fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		info, err := unix.IoctlLoopGetStatus64(fd)
		unix.Close(fd)
		if err == nil && info.Device == want.Dev && info.Inode == want.Ino {
			return dev, nil
		}
	}
	return "", nil
}

// attach shows a file as a loop device that clears itself after its last use, so a process that dies leaves none behind.
func attach(file string) (string, *os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", nil, fmt.Errorf("loop devices: %w", err)
	}
	defer ctl.Close()
	cfg := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 4096}
	cfg.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	copy(cfg.Info.File_name[:63], filepath.Base(file))
	for range 64 { // somebody else may take the free one before us
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", nil, fmt.Errorf("find a free loop device: %w", err)
		}
		dev := fmt.Sprintf("/dev/loop%d", n)
		l, err := os.OpenFile(dev, os.O_RDWR|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			_ = unix.Mknod(dev, unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(n)))) // no udev
			l, err = os.OpenFile(dev, os.O_RDWR|unix.O_CLOEXEC, 0)
		}
		if err != nil {
			return "", nil, fmt.Errorf("open loop device: %w", err)
		}
		err = unix.IoctlLoopConfigure(int(l.Fd()), &cfg)
		if errors.Is(err, unix.EINVAL) && cfg.Info.Flags&unix.LO_FLAGS_DIRECT_IO != 0 {
			cfg.Info.Flags &^= unix.LO_FLAGS_DIRECT_IO // the file system below has none
			err = unix.IoctlLoopConfigure(int(l.Fd()), &cfg)
		}
		if err == nil {
			return dev, l, nil
		}
		l.Close()
		if !errors.Is(err, unix.EBUSY) {
			return "", nil, fmt.Errorf("attach %s to %s: %w", file, dev, err)
		}
	}
	return "", nil, fmt.Errorf("attach %s: %w", file, unix.EBUSY)
}

func mountedAt(dir, device string) bool {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) > 9 && f[4] == real && strings.Contains(line, " - btrfs "+device+" ") {
			return true
		}
	}
	return false
}

// grow makes the loop file larger, and the device and the file system with it. Each step may be repeated.
func (p *Pool) grow(size int64) error {
	f, err := os.OpenFile(p.cfg.File, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if size > fi.Size() {
		if err := f.Truncate(size); err != nil {
			return fmt.Errorf("grow %s: %w", p.cfg.File, err)
		}
		if err := f.Sync(); err != nil {
			return fmt.Errorf("grow %s: %w", p.cfg.File, err)
		}
	}
	dev, err := os.OpenFile(p.device, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("grow %s: %w", p.device, err)
	}
	var a volArgs
	copy(a.name[:], "max")
	if err := ioctl(int(p.fs.Fd()), iocResize, unsafe.Pointer(&a)); err != nil {
		return fmt.Errorf("grow file system of %s: %w", p.cfg.File, err)
	}
	return nil
}
