//go:build cgo

package oci

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// plan is what a new process 1 does, and the mounts that it needs for that: those of the host's files are made here, with
// the host's rights, so that the process needs none.
type plan struct {
	steps []zinit.Step
	trees []*os.File
}

func (p *plan) close() {
	for _, f := range p.trees {
		f.Close()
	}
}

func (p *plan) add(s zinit.Step) { p.steps = append(p.steps, s) }

// file adds a tree and gives its number.
func (p *plan) file(f *os.File) uint32 {
	p.trees = append(p.trees, f)
	return uint32(len(p.trees) - 1)
}

// makePlan follows the order in which a runtime sets a container up. It takes root, a detached mount, over. Without one, the host's rights are
// no more than the process will have, so the process makes all mounts itself.
func makePlan(c *configs.Config, root *os.File, users *userNamespaces) (p *plan, err error) {
	p = &plan{}
	if root != nil {
		p.add(zinit.Step{Kind: zinit.StepRoot, File: p.file(root)})
	} else {
		p.add(zinit.Step{Kind: zinit.StepRoot, A: c.Rootfs})
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	var protect []string
	for _, m := range c.Mounts {
		switch {
		case m.Device == "bind":
			bind := p.bind
			if root == nil {
				bind = p.bindInside
			}
			if err := bind(m, users); err != nil {
				return p, err
			}
		default:
			kind, flags := m.Device, m.Flags
			if kind == "cgroup" {
				kind = "cgroup2"
			}
			if kind == "tmpfs" && flags&unix.MS_RDONLY != 0 { // once its own mounts are on it
				protect, flags = append(protect, m.Destination), flags&^unix.MS_RDONLY
			}
			p.add(zinit.Step{Kind: zinit.StepMount, A: kind, B: m.Destination, Flags: uint64(flags), C: m.Data})
		}
		if m.Destination == "/dev" {
			p.devices(c)
		}
	}
	if len(p.trees) > zinit.MaxFiles-zinit.OrderFiles-1 {
		return p, fmt.Errorf("%w: %d mounts are more than %d", zones.ErrNotSupported, len(p.trees), zinit.MaxFiles-zinit.OrderFiles-1)
	}
	p.add(zinit.Step{Kind: zinit.StepPivot})
	for _, name := range slices.Sorted(maps.Keys(c.Sysctl)) {
		p.add(zinit.Step{Kind: zinit.StepWrite, B: "/proc/sys/" + sysctlPath(name), C: c.Sysctl[name]})
	}
	p.add(zinit.Step{Kind: zinit.StepHostname, A: c.Hostname, B: c.Domainname})
	if len(c.Networks) > 0 {
		p.add(zinit.Step{Kind: zinit.StepLoopback})
	}
	for _, name := range c.MaskPaths {
		p.add(zinit.Step{Kind: zinit.StepMask, B: name})
	}
	for _, name := range c.ReadonlyPaths {
		p.add(zinit.Step{Kind: zinit.StepProtect, B: name})
	}
	for _, name := range protect {
		p.add(zinit.Step{Kind: zinit.StepProtect, B: name, Flags: zinit.StepIsMount})
	}
	p.add(zinit.Step{Kind: zinit.StepConsole})
	if c.Readonlyfs {
		p.add(zinit.Step{Kind: zinit.StepProtect, B: "/", Flags: zinit.StepIsMount})
	}
	return p, nil
}

// sysctlPath is a setting's name as a path: those here have no dots within a part.
func sysctlPath(name string) string {
	b := []byte(name)
	for i := range b {
		if b[i] == '.' {
			b[i] = '/'
		}
	}
	return string(b)
}

// devices fills a new /dev: device nodes cannot be made in a user namespace, so the host's are mounted.
func (p *plan) devices(c *configs.Config) {
	for _, d := range c.Devices {
		if d.Path != "" {
			p.add(zinit.Step{Kind: zinit.StepBind, A: d.Path, B: d.Path, C: "0", Flags: zinit.StepIsFile})
		}
	}
	for _, l := range [][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"}} {
		p.add(zinit.Step{Kind: zinit.StepLink, A: l[0], B: l[1]})
	}
}

// attributes are a mount's flags in the terms of mount_setattr.
func attributes(m *configs.Mount) (attr uint64) {
	for _, f := range []struct {
		flag int
		attr uint64
	}{{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID}, {unix.MS_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC}} {
		if m.Flags&f.flag != 0 {
			attr |= f.attr
		}
	}
	return attr
}

// bindInside adds a mount of the host's files that the process makes.
func (p *plan) bindInside(m *configs.Mount, _ *userNamespaces) error {
	st, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	s := zinit.Step{Kind: zinit.StepBind, A: m.Source, B: m.Destination, C: strconv.FormatUint(attributes(m), 10)}
	if !st.IsDir() {
		s.Flags |= zinit.StepIsFile
	}
	p.add(s)
	return nil
}

// bind adds a mount of the host's files that is made here.
func (p *plan) bind(m *configs.Mount, users *userNamespaces) error {
	attr := attributes(m)
	var tree *os.File
	if m.IDMapping != nil {
		id := m.IDMapping.UIDMappings[0]
		var err error
		if tree, err = users.mappedClone(m.Source, mapping{Inside: uint32(id.ContainerID), Outside: uint32(id.HostID), Size: uint32(id.Size)}, attr); err != nil {
			return err
		}
	} else {
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return &os.PathError{Op: "clone mount", Path: m.Source, Err: err}
		}
		tree = os.NewFile(uintptr(fd), m.Source)
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr, Propagation: unix.MS_PRIVATE}); err != nil {
			tree.Close()
			return &os.PathError{Op: "restrict mount", Path: m.Source, Err: err}
		}
	}
	s := zinit.Step{Kind: zinit.StepFile, File: p.file(tree), B: m.Destination}
	var st unix.Stat_t
	if err := unix.Fstat(int(tree.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: m.Source, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s.Flags |= zinit.StepIsFile
	}
	p.add(s)
	return nil
}

// memory puts the plan into a file in memory.
func (p *plan) memory() (*os.File, error) {
	return memoryFile("plan", zinit.AppendPlan(make([]byte, 0, 64*len(p.steps)+4096), p.steps))
}

// memoryFile is a file in memory, to be read from its beginning.
func memoryFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("file of %s bytes in memory: %w", strconv.Itoa(len(data)), err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.Write(data); err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
