//go:build cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/utils"

	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// launcher sets containers up: libcontainer in this process, or a runtime of the operator's choice.
type launcher interface {
	// start runs the in-zone init as process 1 of a new container with the two files as descriptors 3 and 4. On error what it made
	// is left to Driver.remove.
	start(ctx context.Context, id string, cfg *configs.Config, files [2]*os.File) (launched, error)
	// enter runs the in-zone init as one more process in a running container.
	enter(id string, files [2]*os.File) (wait func(), err error)
}

// launched is a new container.
type launched struct {
	pid     int
	console *os.File
	cgroups map[string]string // where it knows them
	reap    func()            // nil if process 1 is not our child
}

var initEnv = []string{zinit.Env + "=1"}

// embedded is libcontainer in this process.
type embedded struct {
	root string // of the library's state
	args []string
}

func (e *embedded) start(_ context.Context, id string, cfg *configs.Config, files [2]*os.File) (l launched, err error) {
	container, err := libcontainer.Create(e.root, id, cfg)
	if err != nil {
		return l, err
	}
	console, consoleEnd, err := utils.NewSockPair("console")
	if err != nil {
		return l, err
	}
	defer console.Close()
	defer consoleEnd.Close()
	p := &libcontainer.Process{
		Args: e.args, Env: initEnv, Cwd: "/", Init: true, ExtraFiles: files[:], ConsoleSocket: consoleEnd, ConsoleWidth: 80, ConsoleHeight: 24,
	}
	if err := container.Run(p); err != nil {
		return l, err
	}
	if l.pid, err = p.Pid(); err != nil {
		return l, err
	}
	l.reap = func() { _, _ = p.Wait() }
	state, err := container.State()
	if err != nil {
		return l, err
	}
	l.cgroups = state.CgroupPaths
	//lint:ignore SA1019 there is nothing in its place yet that other modules may import
	if l.console, err = utils.RecvFile(console); err != nil {
		err = fmt.Errorf("receive console: %w", err)
	}
	return l, err
}

func (e *embedded) enter(id string, files [2]*os.File) (func(), error) {
	container, err := libcontainer.Load(e.root, id)
	if err != nil {
		return nil, err
	}
	p := &libcontainer.Process{Args: e.args, Env: initEnv, Cwd: "/", ExtraFiles: files[:]}
	if err := container.Start(p); err != nil {
		return nil, err
	}
	return func() { _, _ = p.Wait() }, nil
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
	// The library starts it in the directory where the root was mounted for a while, so there has to be one.
	if err := makeDir(filepath.Join(d.cfg.MountDir, m.rec.ID)); err != nil {
		return err
	}
	defer func() { _ = d.hideRoot(m.rec.ID) }()
	wait, err := d.launch.enter(m.rec.ID, [2]*os.File{listener, told})
	if err != nil {
		return err
	}
	go wait() // it lives as long as the zone does, which may be longer than this driver
	return nil
}
