//go:build cgo

package oci

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/internal/limits"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// launcher sets containers up: our starter, or a runtime of the operator's choice.
type launcher interface {
	// start runs the in-zone init as process 1 of a new container with the two files as descriptors 3 and 4. root, a detached mount, is
	// taken over. On error what it made is left to Driver.remove.
	start(ctx context.Context, id string, cfg *configs.Config, root *os.File, files [2]*os.File) (launched, error)
	// enter runs the in-zone init as one more process in a running container.
	enter(ctx context.Context, m *machine, files [2]*os.File) error
}

// launched is a new container.
type launched struct {
	pid     int
	console *os.File          // nil if process 1 has it already
	cgroups map[string]string // where it knows them
	reap    func()            // nil if process 1 is not our child
}

var initEnv = []string{zinit.Env + "=1"}

// embedded is the starter and libcontainer's control groups in this process.
type embedded struct {
	starter *starter
	users   *userNamespaces
	// rootless: the zone has one id, and no control groups.
	rootless bool
}

func (e *embedded) start(ctx context.Context, _ string, cfg *configs.Config, root *os.File, files [2]*os.File) (l launched, err error) {
	p, err := makePlan(cfg, root, e.users)
	if err != nil {
		return l, err
	}
	defer p.close()
	told, err := p.memory()
	if err != nil {
		return l, err
	}
	defer told.Close()
	order := zinit.Order{Type: zinit.OrderStart, First: uint32(cfg.UIDMappings[0].HostID), Size: uint32(cfg.UIDMappings[0].Size)}
	more := p.trees[:len(p.trees):len(p.trees)]
	var cg cgroups.Manager = noGroups{}
	if e.rootless {
		order.Flags |= zinit.OrderSingle
	} else if cg, err = manager.New(cfg.Cgroups); err != nil {
		return l, err
	}
	unified := unifiedPath(cg.GetPaths())
	if unified != "" {
		group, err := makeGroup(unified)
		if err != nil {
			return l, err
		}
		defer group.Close()
		order.Flags |= zinit.OrderGroup
		more = append(more, group)
	}
	if path := cfg.Namespaces.PathOf(configs.NEWNET); path != "" {
		net, err := os.Open(path)
		if err != nil {
			return l, err
		}
		defer net.Close()
		order.Flags |= zinit.OrderNetNS
		more = append(more, net)
	}
	// The groups are made beside the process.
	grouped := make(chan error, 1)
	go func() {
		err := cg.Apply(-1)
		if err == nil {
			err = limits.Set(cg, cfg.Cgroups.Resources)
		}
		grouped <- err
	}()
	proc, err := e.starter.begin(order, files[0], files[1], told, more...)
	if gerr := <-grouped; err != nil || gerr != nil {
		if proc != nil {
			proc.abandon()
			reap(proc.pid)
		}
		return l, errors.Join(err, gerr)
	}
	l.pid, l.cgroups, l.reap = proc.pid, cg.GetPaths(), func() { bury(proc.pid) }
	rest := maps.Clone(l.cgroups)
	maps.DeleteFunc(rest, func(_, dir string) bool { return dir == unified }) // it was born there
	return l, admit(ctx, proc, rest, cfg.Rlimits)
}

// unifiedPath is the one of the control groups that is of version 2, if any is.
func unifiedPath(paths map[string]string) string {
	return paths[""]
}

// makeGroup makes and opens a control group, before the library gets to it.
func makeGroup(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.Open(dir)
}

// admit gives a process that waits the zone's resource limits, and lets it go on into the zone's control groups.
func admit(ctx context.Context, p *newProcess, paths map[string]string, limits []configs.Rlimit) error {
	groups, err := groupFiles(p.pid, paths)
	for i := 0; err == nil && i < len(limits); i++ {
		r := limits[i]
		err = os.NewSyscallError("prlimit", unix.Prlimit(p.pid, r.Type, &unix.Rlimit{Cur: r.Soft, Max: r.Hard}, nil))
	}
	if err != nil {
		p.abandon()
	} else {
		err = p.settle(ctx, groups)
	}
	for _, f := range groups {
		f.Close()
	}
	return err
}

// groupFiles opens what a process of one thread writes to, to join the control groups at the paths. Version 2 has no such file, so there the
// process is moved at once.
func groupFiles(pid int, paths map[string]string) ([]*os.File, error) {
	var files []*os.File
	for _, dir := range paths {
		f, err := os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(files) == zinit.MaxGroups {
			closeFile(f)
			if err := cgroups.WriteCgroupProc(dir, pid); err != nil {
				return files, err
			}
			continue
		}
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func (e *embedded) enter(ctx context.Context, m *machine, files [2]*os.File) error {
	order := zinit.Order{Type: zinit.OrderEnter}
	if e.rootless {
		order.Flags |= zinit.OrderSingle
	}
	proc, err := e.starter.begin(order, files[0], files[1], files[1], m.pidfd)
	if err != nil {
		return err
	}
	return admit(ctx, proc, m.cg.GetPaths(), processLimits())
}

// serve starts the in-zone server again in a zone whose process 1 is its own and where somebody killed ours. The console that it held is gone.
func (d *Driver) serve(m *machine) error {
	path := filepath.Join(m.rec.RunDir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := listen(path)
	if err != nil {
		return err
	}
	defer listener.Close()
	told, err := tellServer(m.rec.Capabilities, m.rec.NoNewPrivileges)
	if err != nil {
		return err
	}
	defer told.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return d.launch.enter(ctx, m, [2]*os.File{listener, told})
}
