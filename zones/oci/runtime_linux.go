//go:build cgo

package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// external has an OCI runtime set containers up. Nothing else is asked of it: the zone is ended, measured and entered by us.
type external struct {
	program string
	dir     string // a directory for each container: the runtime's state and the bundle
	mounts  string // where roots are shown
	args    []string
}

func (e *external) command(ctx context.Context, id, verb string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, e.program, append([]string{"--root", filepath.Join(e.dir, id, "state"), verb}, args...)...)
	return cmd
}

func (e *external) start(ctx context.Context, id string, cfg *configs.Config, root *os.File, files [2]*os.File) (l launched, err error) {
	if path := cfg.Namespaces.PathOf(configs.NEWNET); path != "" {
		if err := openPorts(path); err != nil {
			return l, err
		}
	}
	if err := showRoot(cfg.Rootfs, root); err != nil {
		return l, err
	}
	// The zone's own mount namespace keeps what it needs; the host's table gets it off at once.
	defer func() { _ = hideRoot(cfg.Rootfs) }()
	dir := filepath.Join(e.dir, id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return l, err
	}
	data, err := json.Marshal(bundle(cfg, e.args))
	if err != nil {
		return l, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		return l, err
	}
	// A descriptor's name below /proc is short enough for a socket, whatever the directory is called.
	at, err := os.Open(dir)
	if err != nil {
		return l, err
	}
	defer at.Close()
	socket := fmt.Sprintf("/proc/%d/fd/%d/console", os.Getpid(), at.Fd())
	console, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return l, err
	}
	defer console.Close()
	pidFile := filepath.Join(dir, "pid")
	cmd := e.command(ctx, id, "run", "--detach", "--bundle", dir, "--pid-file", pidFile, "--console-socket", socket, "--preserve-fds", "2", id)
	cmd.ExtraFiles = files[:]
	if err := quietly(cmd); err != nil {
		return l, err
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return l, err
	}
	if l.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return l, fmt.Errorf("pid file: %w", err)
	}
	_ = console.SetDeadline(time.Now().Add(patience))
	c, err := console.AcceptUnix()
	if err != nil {
		return l, fmt.Errorf("receive console: %w", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	l.console, err = receiveFile(c)
	return l, err
}

func (e *external) enter(ctx context.Context, m *machine, files [2]*os.File) error {
	// Runtimes start it in the directory where the root was mounted for a while, so there has to be one.
	at := filepath.Join(e.mounts, m.rec.ID)
	if err := makeDir(at); err != nil {
		return err
	}
	defer func() { _ = hideRoot(at) }()
	cmd := e.command(ctx, m.rec.ID, "exec", append([]string{"--detach", "--preserve-fds", "2", "--env", initEnv[0], m.rec.ID}, e.args...)...)
	cmd.ExtraFiles = files[:]
	return quietly(cmd)
}

// quietly runs a command and makes what it complains of its error. Its output is a file, as what it leaves running would hold a pipe.
func quietly(cmd *exec.Cmd) error {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), "output")
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text := make([]byte, 4096)
		n, _ := out.ReadAt(text, 0)
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, bytes.TrimSpace(text[:n]))
	}
	return nil
}

// receiveFile takes the descriptor that a runtime sends with the name of a terminal.
func receiveFile(c *net.UnixConn) (*os.File, error) {
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(name, oob)
	if err != nil {
		return nil, fmt.Errorf("receive console: %w", err)
	}
	if msgs, err := unix.ParseSocketControlMessage(oob[:n]); err == nil && len(msgs) == 1 {
		if fds, err := unix.ParseUnixRights(&msgs[0]); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			return os.NewFile(uintptr(fds[0]), "console"), nil
		}
	}
	return nil, errors.New("receive console: no descriptor")
}

// bundle is libcontainer's configuration in the terms of the OCI.
func bundle(c *configs.Config, args []string) *specs.Spec {
	caps := c.Capabilities.Bounding
	s := &specs.Spec{
		Version: "1.0.2", Hostname: c.Hostname, Domainname: c.Domainname,
		Root: &specs.Root{Path: c.Rootfs, Readonly: c.Readonlyfs},
		Process: &specs.Process{Terminal: true, Args: args, Env: initEnv, Cwd: "/", ConsoleSize: &specs.Box{Height: 24, Width: 80},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Linux: &specs.Linux{MaskedPaths: c.MaskPaths, ReadonlyPaths: c.ReadonlyPaths, RootfsPropagation: "private", CgroupsPath: c.Cgroups.Path,
			Sysctl: c.Sysctl, Resources: resources(c)},
	}
	names := map[int]string{unix.RLIMIT_NOFILE: "RLIMIT_NOFILE", unix.RLIMIT_CORE: "RLIMIT_CORE", unix.RLIMIT_MEMLOCK: "RLIMIT_MEMLOCK"}
	for _, r := range c.Rlimits {
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: names[r.Type], Soft: r.Soft, Hard: r.Hard})
	}
	for _, m := range c.UIDMappings {
		id := specs.LinuxIDMapping{ContainerID: uint32(m.ContainerID), HostID: uint32(m.HostID), Size: uint32(m.Size)}
		s.Linux.UIDMappings = append(s.Linux.UIDMappings, id)
		s.Linux.GIDMappings = append(s.Linux.GIDMappings, id)
	}
	kinds := map[configs.NamespaceType]specs.LinuxNamespaceType{configs.NEWNS: specs.MountNamespace, configs.NEWUTS: specs.UTSNamespace,
		configs.NEWIPC: specs.IPCNamespace, configs.NEWPID: specs.PIDNamespace, configs.NEWUSER: specs.UserNamespace, configs.NEWCGROUP: specs.CgroupNamespace, configs.NEWNET: specs.NetworkNamespace}
	for _, ns := range c.Namespaces {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kinds[ns.Type], Path: ns.Path})
	}
	for _, m := range c.Mounts {
		s.Mounts = append(s.Mounts, specMount(m))
	}
	return s
}

func specMount(m *configs.Mount) specs.Mount {
	out := specs.Mount{Type: m.Device, Source: m.Source, Destination: m.Destination}
	for _, f := range []struct {
		bit  int
		name string
	}{{unix.MS_RDONLY, "ro"}, {unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"}, {unix.MS_STRICTATIME, "strictatime"}} {
		if m.Flags&f.bit != 0 {
			out.Options = append(out.Options, f.name)
		}
	}
	switch {
	case m.Flags&(unix.MS_BIND|unix.MS_REC) == unix.MS_BIND|unix.MS_REC:
		out.Options = append(out.Options, "rbind", "rprivate")
	case m.Flags&unix.MS_BIND != 0:
		out.Options = append(out.Options, "bind", "private")
	}
	if m.Data != "" {
		out.Options = append(out.Options, strings.Split(m.Data, ",")...)
	}
	if m.IDMapping != nil {
		for _, id := range m.IDMapping.UIDMappings {
			one := specs.LinuxIDMapping{ContainerID: uint32(id.ContainerID), HostID: uint32(id.HostID), Size: uint32(id.Size)}
			out.UIDMappings = append(out.UIDMappings, one)
			out.GIDMappings = append(out.GIDMappings, one)
		}
	}
	return out
}

func resources(c *configs.Config) *specs.LinuxResources {
	r := c.Cgroups.Resources
	out := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, // the usual eight are added by every runtime
		CPU:     &specs.LinuxCPU{Shares: &r.CpuShares, Period: &r.CpuPeriod, Quota: &r.CpuQuota},
		Memory:  &specs.LinuxMemory{Limit: &r.Memory},
		Pids:    &specs.LinuxPids{Limit: r.PidsLimit},
	}
	if r.MemorySwap != 0 {
		out.Memory.Swap = &r.MemorySwap
	}
	if r.BlkioWeight != 0 {
		out.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlkioWeight}
	}
	return out
}
