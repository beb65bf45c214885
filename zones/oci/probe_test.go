//go:build linux && cgo

package oci_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeEnv makes this test program a probe: it runs inside a zone as its root, tries what it must not be able to do, and prints what
// it could.
const probeEnv = "MOBULA_PROBE"

func TestMain(m *testing.M) {
	if name := os.Getenv(probeEnv); name != "" {
		os.Exit(probe(name, os.Args[1:]))
	}
	if dir := os.Getenv(victimEnv); dir != "" {
		victim(dir)
	}
	os.Exit(m.Run())
}

func probe(name string, args []string) int {
	f, ok := probes[name]
	if !ok {
		fmt.Println("no such probe", name)
		return 2
	}
	if breach := f(args); breach != "" {
		fmt.Println(breach)
		return 1
	}
	return 0
}

// refused says what succeeded although it must not.
func refused(what string, err error, by ...error) string {
	if err == nil {
		return what + " was allowed"
	}
	if len(by) == 0 {
		by = []error{unix.EPERM, unix.EACCES, unix.EROFS}
	}
	for _, e := range by {
		if errors.Is(err, e) {
			return ""
		}
	}
	return fmt.Sprintf("%s failed by chance: %v", what, err)
}

func all(list ...string) string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, "\n")
}

func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
		return e
	}
	return nil
}

func openForWrite(path string) string {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return refused("opening "+path+" for writing", err, unix.EPERM, unix.EACCES, unix.EROFS, unix.ETXTBSY)
}

func mount(fs, flags, target string) error {
	var f uintptr
	for _, w := range strings.Fields(flags) {
		f |= map[string]uintptr{"bind": unix.MS_BIND, "remount": unix.MS_REMOUNT}[w]
	}
	return unix.Mount(fs, target, fs, f, "")
}

// probes take what they need to know as arguments and return what they could do.
var probes = map[string]func(args []string) string{
	"processes": func(args []string) string {
		// args: a process id of the host.
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return err.Error()
		}
		var seen []string
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && pid != 1 && pid != os.Getpid() {
				seen = append(seen, e.Name())
			}
		}
		var list []string
		if len(seen) > 0 {
			list = append(list, "other processes are visible: "+strings.Join(seen, " "))
		}
		pid, _ := strconv.Atoi(args[0])
		list = append(list, refused("signalling the host's process", unix.Kill(pid, 0), unix.ESRCH))
		return all(list...)
	},
	"files": func([]string) string {
		// Out of a chroot below the root by the oldest trick there is.
		if err := os.MkdirAll("/tmp/jail", 0o755); err != nil {
			return err.Error()
		}
		if err := unix.Chroot("/tmp/jail"); err != nil {
			return "chroot: " + err.Error()
		}
		for range 64 {
			_ = unix.Chdir("..")
		}
		if err := unix.Chroot("."); err != nil {
			return "chroot: " + err.Error()
		}
		var list []string
		if _, err := os.Stat("/etc/this-zone"); err != nil {
			list = append(list, "the top is not the zone's root")
		}
		for _, p := range []string{"/work", "/boot", "/etc/shadow", "/root/.ssh"} {
			if _, err := os.Stat(p); err == nil {
				list = append(list, p+" of the host is visible")
			}
		}
		return all(list...)
	},
	"mounts": func([]string) string {
		clone := func() error {
			fd, err := unix.OpenTree(unix.AT_FDCWD, "/usr", unix.OPEN_TREE_CLONE)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
		open := func() error { _, err := unix.Fsopen("tmpfs", 0); return err }
		return all(
			refused("mounting tmpfs", mount("tmpfs", "", "/tmp")),
			refused("mounting proc", mount("proc", "", "/tmp")),
			refused("mounting sysfs", mount("sysfs", "", "/tmp")),
			refused("mounting cgroup", mount("cgroup", "", "/tmp")),
			refused("mounting cgroup2", mount("cgroup2", "", "/tmp")),
			refused("bind mounting", mount("/usr", "bind", "/tmp")),
			refused("remounting /usr", mount("/usr", "bind remount", "/usr")),
			refused("remounting /proc/sys", mount("/proc/sys", "bind remount", "/proc/sys")),
			refused("unmounting /proc/sys", unix.Unmount("/proc/sys", unix.MNT_DETACH)),
			refused("open_tree", clone()),
			refused("fsopen", open()),
			refused("pivot_root", unix.PivotRoot("/tmp", "/tmp")),
			refused("writing /usr", os.WriteFile("/usr/bin/zz", nil, 0o644)),
		)
	},
	"namespaces": func([]string) string {
		enter := func(kind string) error {
			f, err := os.Open("/proc/self/ns/" + kind)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.Setns(int(f.Fd()), 0)
		}
		child := func(flags uintptr) error {
			pid, _, e := unix.RawSyscall(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0)
			if e != 0 {
				return e
			}
			if pid == 0 {
				unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
			}
			return nil
		}
		return all(
			refused("unshare of a user namespace", unix.Unshare(unix.CLONE_NEWUSER)),
			refused("unshare of a mount namespace", unix.Unshare(unix.CLONE_NEWNS)),
			refused("clone of a user namespace", child(unix.CLONE_NEWUSER)),
			refused("setns", enter("uts")),
			refused("clone3", call(unix.SYS_CLONE3, 0, 0), unix.ENOSYS),
			refused("sethostname", unix.Sethostname([]byte("x"))),
		)
	},
	"kernel": func([]string) string {
		var attr [128]byte
		p := uintptr(unsafe.Pointer(&attr))
		sock := func(family int) error {
			fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
		return all(
			refused("init_module", call(unix.SYS_INIT_MODULE, p, 1, p)),
			refused("finit_module", call(unix.SYS_FINIT_MODULE, 0, p, 0)),
			refused("delete_module", call(unix.SYS_DELETE_MODULE, p, 0)),
			refused("kexec_load", call(unix.SYS_KEXEC_LOAD, 0, 0, p, 0)),
			refused("bpf", call(unix.SYS_BPF, 5, p, 120)),
			refused("perf_event_open", call(unix.SYS_PERF_EVENT_OPEN, p, 0, 0, 0, 0)),
			refused("io_uring_setup", call(unix.SYS_IO_URING_SETUP, 8, p)),
			refused("userfaultfd", call(unix.SYS_USERFAULTFD, 1)),
			refused("keyctl", call(unix.SYS_KEYCTL, 0, 0, 0)),
			refused("add_key", call(unix.SYS_ADD_KEY, p, p, p, 1, 0)),
			refused("syslog", call(unix.SYS_SYSLOG, 3, p, 100)),
			refused("swapon", call(unix.SYS_SWAPON, p, 0)),
			refused("reboot", call(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, 0x89abcdef), unix.EINVAL), // of the host; the zone's own is allowed
			refused("settimeofday", unix.Settimeofday(&unix.Timeval{Sec: 1})),
			refused("open_by_handle_at", call(unix.SYS_OPEN_BY_HANDLE_AT, 0, p, 0)),
			refused("vsock", sock(unix.AF_VSOCK)),
			refused("af_alg", sock(unix.AF_ALG)),
			refused("a block device", unix.Mknod("/tmp/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0)))),
			refused("a character device", unix.Mknod("/tmp/mem", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1)))),
			openForWrite("/proc/sys/kernel/core_pattern"), openForWrite("/proc/sysrq-trigger"), openForWrite("/proc/sys/vm/panic_on_oom"),
			openForWrite("/proc/irq/default_smp_affinity"),
			openForWrite("/sys/devices/system/cpu/cpu1/online"), openForWrite("/sys/kernel/uevent_helper"),
			reading("/proc/kcore"), reading("/proc/kmsg"), reading("/dev/mem"), reading("/dev/kmsg"), reading("/dev/vda"), reading("/dev/fuse"),
		)
	},
	"init": func([]string) string {
		mem := func() error { _, err := os.ReadFile("/proc/1/environ"); return err }
		return all(
			openForWrite("/proc/1/exe"), openForWrite("/proc/self/exe"), openForWrite("/dev/.mobula/init"), openForWrite("/dev/.mobula/ld.so"),
			openForWrite("/proc/1/mem"),
			refused("reading the environment of process 1", mem()),
			refused("tracing process 1", unix.PtraceAttach(1)),
		)
	},
	"descriptors": func([]string) string {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return err.Error()
		}
		var list []string
		for _, e := range entries {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			n, _ := strconv.Atoi(e.Name())
			own := strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "/proc/") || strings.HasPrefix(to, "/sys/fs/cgroup/") // Go's
			if n > 2 && !own && to != "" {
				list = append(list, "descriptor "+e.Name()+" is "+to)
			}
		}
		return all(list...)
	},
	"cgroups": func([]string) string {
		own, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return err.Error()
		}
		var list []string
		if strings.Contains(string(own), "mobula") {
			list = append(list, "the group's place on the host is told: "+string(own))
		}
		for _, name := range []string{"cgroup.procs", "memory.max", "pids.max", "cgroup.kill"} {
			list = append(list, openForWrite("/sys/fs/cgroup/"+name))
		}
		if err := os.Mkdir("/sys/fs/cgroup/mine", 0o755); err == nil {
			list = append(list, "making a group was allowed")
		}
		if procs, err := os.ReadFile("/sys/fs/cgroup/cgroup.procs"); err == nil && !strings.HasPrefix(string(procs), "1\n") {
			list = append(list, "the groups at /sys/fs/cgroup are not the zone's own")
		}
		return all(list...)
	},
	"network": func([]string) string {
		raw := func(family, kind, proto int) error {
			fd, err := unix.Socket(family, kind, proto)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
		// One address more, by the oldest interface there is.
		address := func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			var req struct {
				name [16]byte
				addr syscall.RawSockaddrInet4
				_    [8]byte
			}
			copy(req.name[:], "lo")
			req.addr = syscall.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte{10, 9, 8, 7}}
			return call(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&req)))
		}
		var list []string
		if l, err := net.Listen("tcp", "127.0.0.1:80"); err != nil {
			list = append(list, "port 80 is refused: "+err.Error()) // it is the zone's own
		} else {
			l.Close()
		}
		return all(append(list,
			refused("a raw socket", raw(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)),
			refused("a packet socket", raw(unix.AF_PACKET, unix.SOCK_RAW, 0)),
			refused("another address", address()))...)
	},
	"memory": func([]string) string {
		var keep [][]byte
		for range 64 { // 512 MiB, touched
			b := make([]byte, 8<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			keep = append(keep, b)
		}
		return fmt.Sprint("had ", len(keep)*8, " MiB")
	},
	"fork": func([]string) string {
		var children []int
		defer func() {
			for _, pid := range children {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}()
		for range 1000 {
			p, err := os.StartProcess("/usr/bin/sleep", []string{"sleep", "100"}, &os.ProcAttr{})
			if err != nil {
				return refused("forking", err, unix.EAGAIN)
			}
			children = append(children, p.Pid)
		}
		return "a thousand processes were started"
	},
	"spin": func([]string) string {
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		}
		return ""
	},
	"remember": func([]string) string { // leaves what the next tenant must not find
		id, err := unix.SysvShmGet(4711, 4096, unix.IPC_CREAT|0o666)
		if err != nil {
			return err.Error()
		}
		b, err := unix.SysvShmAttach(id, 0, 0)
		if err != nil {
			return err.Error()
		}
		copy(b, "secret")
		for _, p := range []string{"/tmp/left", "/etc/left", "/dev/shm/left", "/dev/left", "/root/left", "/var/left"} {
			if err := os.WriteFile(p, []byte("secret"), 0o644); err != nil {
				return err.Error()
			}
		}
		return ""
	},
	"recall": func([]string) string {
		var list []string
		if _, err := unix.SysvShmGet(4711, 4096, 0o666); err == nil {
			list = append(list, "shared memory of before is there")
		}
		for _, dir := range []string{"/tmp", "/etc", "/dev/shm", "/dev", "/root", "/var", "/tmp/given"} {
			if _, err := os.Stat(dir + "/left"); err == nil {
				list = append(list, dir+"/left is there")
			}
		}
		return all(list...)
	},
}

func reading(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if n, err := f.Read(make([]byte, 16)); err == nil && n > 0 {
		return "reading " + path + " was allowed"
	}
	return ""
}
