//go:build cgo

package oci

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// masked are parts of /proc that are empty inside, as they tell of the host to everybody. What only the host's root may open (kcore,
// kmsg, sysrq-trigger, kpage*, timer_list) needs no mask: a zone's root is not that.
var masked = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/keys", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_stats"}

// present are those of the paths that this host has. Each mask costs a mount.
func present(paths []string) []string {
	var out []string
	for _, p := range paths {
		if _, err := os.Lstat(p); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// readOnly parts of /proc can be looked at. Some settings below are a zone's own to the kernel, and still not for it to change.
var readOnly = []string{"/proc/sys"}

// rlimit is the limit wanted, or as near as this process may go: without CAP_SYS_RESOURCE no higher than its own.
func rlimit(kind int, soft, hard uint64) configs.Rlimit {
	if kind == unix.RLIMIT_NOFILE {
		hard = min(hard, maxFiles())
	}
	var own unix.Rlimit
	if !mayRaise() && unix.Getrlimit(kind, &own) == nil {
		hard = min(hard, own.Max)
	}
	return configs.Rlimit{Type: kind, Soft: min(soft, hard), Hard: hard}
}

// processLimits are what every process of a zone begins with.
func processLimits() []configs.Rlimit {
	return []configs.Rlimit{
		rlimit(unix.RLIMIT_NOFILE, 65536, 1<<20),
		rlimit(unix.RLIMIT_CORE, 0, unix.RLIM_INFINITY),
		// Process 1 lowers it for what it starts; nothing inside can raise it again.
		rlimit(unix.RLIMIT_MEMLOCK, unix.RLIM_INFINITY, unix.RLIM_INFINITY),
	}
}

// mayRaise reports CAP_SYS_RESOURCE.
var mayRaise = sync.OnceValue(func() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
})

// maxFiles is the most descriptors that the kernel lets a process have.
var maxFiles = sync.OnceValue(func() uint64 {
	b, _ := os.ReadFile("/proc/sys/fs/nr_open")
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		n = 65536
	}
	return n
})

// initDir is where the in-zone init and the libraries it needs are inside.
const initDir = "/dev/.mobula"

// config turns a machine into libcontainer's terms, which both launchers read.
func (d *Driver) config(m *zones.Machine) (*configs.Config, error) {
	ids := []configs.IDMap{{ContainerID: 0, HostID: int64(m.IDs.First), Size: int64(m.IDs.Size)}}
	priv, err := capabilitiesOf(m.Spec.LimitPriv)
	if err != nil {
		return nil, err
	}
	caps := capabilityNames(priv | whileStarting)
	rootfs := d.mountPoint(m.ID)
	if d.rootless {
		rootfs, ids[0] = m.Root.Path, configs.IDMap{HostID: int64(os.Geteuid()), Size: 1}
	}
	c := &configs.Config{
		Rootfs:          rootfs,
		Readonlyfs:      m.Root.ReadOnly,
		RootPropagation: unix.MS_PRIVATE | unix.MS_REC,
		Hostname:        m.Hostname,
		Domainname:      m.Domain,
		Namespaces: configs.Namespaces{{Type: configs.NEWNS}, {Type: configs.NEWUTS}, {Type: configs.NEWIPC},
			{Type: configs.NEWPID}, {Type: configs.NEWUSER}, {Type: configs.NEWCGROUP}, {Type: configs.NEWNET, Path: m.NetNS}},
		UIDMappings:   ids,
		GIDMappings:   ids,
		Capabilities:  &configs.Capabilities{Bounding: caps, Effective: caps, Permitted: caps},
		MaskPaths:     d.masks,
		ReadonlyPaths: readOnly,
		Sysctl:        sysctls(m.Spec),
		Devices:       specconv.AllowedDevices,
		Cgroups:       &cgroups.Cgroup{Path: path.Join(d.cfg.CgroupParent, m.ID), Resources: d.ctl.Resources(m.Limits)},
		Rlimits:       processLimits(),
		Version:       "1.3.0",
	}
	if c.Hostname == "" {
		c.Hostname = m.ID
	}
	if c.Domainname == "" {
		c.Domainname = "local"
	}
	if m.NetNS == "" {
		c.Networks = []*configs.Network{{Type: "loopback"}}
	}
	for _, dev := range specconv.AllowedDevices {
		rule := dev.Rule
		c.Cgroups.Resources.Devices = append(c.Cgroups.Resources.Devices, &rule)
	}
	c.Mounts = d.mounts(m)
	for i, mt := range m.Mounts {
		cm, err := mount(m, mt)
		if err != nil {
			return nil, fmt.Errorf("mounts[%d]: %w", i, err)
		}
		if cm != nil {
			c.Mounts = append(c.Mounts, cm)
		}
	}
	return c, nil
}

// sysctls are the limits of System V's shared memory, queues and semaphores, which are the zone's own to the kernel. The other three
// numbers of semaphores are the kernel's defaults.
func sysctls(s *zones.Spec) map[string]string {
	out := map[string]string{}
	set := func(name string, n int64, format string) {
		if n > 0 {
			out[name] = fmt.Sprintf(format, n)
		}
	}
	set("kernel.shmmni", s.MaxShmIDs, "%d")
	set("kernel.shmall", s.MaxShmMemory<<20/int64(os.Getpagesize()), "%d")
	set("kernel.msgmni", s.MaxMsgIDs, "%d")
	set("kernel.sem", s.MaxSemIDs, "32000 1024000000 500 %d")
	return out
}

const hardened = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mounts are those that every zone has.
func (d *Driver) mounts(m *zones.Machine) []*configs.Mount {
	list := []*configs.Mount{
		{Device: "proc", Source: "proc", Destination: "/proc", Flags: hardened},
		{Device: "tmpfs", Source: "tmpfs", Destination: "/dev", Flags: unix.MS_NOSUID | unix.MS_STRICTATIME, Data: "mode=755,size=1m"},
		{Device: "devpts", Source: "devpts", Destination: "/dev/pts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC,
			Data: "newinstance,ptmxmode=0666,mode=0620" + d.ttyGroup(m.IDs)},
		{Device: "tmpfs", Source: "shm", Destination: "/dev/shm", Flags: hardened, Data: "mode=1777" + shmSize(m.Limits)},
		{Device: "mqueue", Source: "mqueue", Destination: "/dev/mqueue", Flags: hardened},
		// The network namespace need not be the zone's, so sysfs cannot be mounted; what programs read of it is here.
		{Device: "tmpfs", Source: "sys", Destination: "/sys", Flags: hardened | unix.MS_RDONLY, Data: "mode=755,size=64k"},
		{Device: "bind", Source: "/sys/devices/system/cpu", Destination: "/sys/devices/system/cpu",
			Flags: unix.MS_BIND | unix.MS_RDONLY | hardened},
	}
	if d.cfg.Runtime != "" { // our starter needs no file inside
		list = append(list, &configs.Mount{Device: "bind", Source: d.init.dir, Destination: initDir,
			Flags: unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV})
	}
	if d.ctl.V2 { // one mount, from which programs learn their limits; version 1 would take a dozen
		list = append(list, &configs.Mount{Device: "cgroup", Source: "cgroup", Destination: "/sys/fs/cgroup", Flags: hardened | unix.MS_RDONLY})
	}
	if s := m.Limits.TmpFS; s > 0 {
		list = append(list, &configs.Mount{Device: "tmpfs", Source: "tmp", Destination: "/tmp",
			Flags: unix.MS_NOSUID | unix.MS_NODEV, Data: "mode=1777,size=" + strconv.FormatInt(s, 10)})
	}
	return list
}

// ttyGroup is the usual group of terminals, if the zone has that many ids.
func (d *Driver) ttyGroup(r zones.IDRange) string {
	if r.Size > 5 && !d.rootless {
		return ",gid=5"
	}
	return ""
}

func shmSize(l zones.Limits) string {
	if l.Memory == 0 {
		return ",size=64m"
	}
	return ",size=" + strconv.FormatInt(max(l.Memory/2, 1<<20), 10)
}

// mount is one of the caller's; nil for an optional one whose source is missing.
func mount(m *zones.Machine, mt zones.Mount) (*configs.Mount, error) {
	flags := unix.MS_NODEV
	if mt.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	if mt.NoSUID {
		flags |= unix.MS_NOSUID
	}
	if mt.NoExec {
		flags |= unix.MS_NOEXEC
	}
	if mt.Type == zones.MountTmpfs {
		mode := mt.Mode
		if mode == 0 {
			mode = 0o1777
		}
		data := fmt.Sprintf("mode=%o", mode)
		if mt.Size > 0 {
			data += ",size=" + strconv.FormatInt(mt.Size, 10)
		}
		return &configs.Mount{Device: "tmpfs", Source: "tmpfs", Destination: path.Clean(mt.Target), Flags: flags, Data: data}, nil
	}
	if _, err := os.Stat(mt.Source); err != nil {
		if mt.Optional && os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	cm := &configs.Mount{Device: "bind", Source: mt.Source, Destination: path.Clean(mt.Target), Flags: flags | unix.MS_BIND | unix.MS_REC,
		PropagationFlags: []int{unix.MS_PRIVATE | unix.MS_REC}}
	if mt.Mapped {
		ids := []configs.IDMap{{ContainerID: 0, HostID: int64(m.IDs.First), Size: int64(m.IDs.Size)}}
		cm.Flags &^= unix.MS_REC // what is mounted below need not allow it
		cm.IDMapping = &configs.MountIDMapping{UIDMappings: ids, GIDMappings: ids}
	}
	return cm, nil
}
