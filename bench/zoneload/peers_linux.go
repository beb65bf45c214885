package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// peers are the programs found on PATH, each on a root that is ready. stop removes what they need.
func peers(dir string) (list []contestant, stop func(), err error) {
	hidden, unhide := withoutUnified(dir)
	stop = func() { unhide(); os.RemoveAll(dir) }
	root := filepath.Join(dir, "rootfs")
	if err := sparse(root); err != nil {
		return nil, stop, err
	}
	var number atomic.Int64
	name := func() string { return fmt.Sprintf("zl-%d-%d", os.Getpid(), number.Add(1)) }
	add := func(what, program string, command func(id string) []string) {
		if _, err := exec.LookPath(program); err != nil {
			return
		}
		list = append(list, contestant{what, func(ctx context.Context, _ int) (time.Duration, error) {
			args := command(name())
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Dir = dir
			return firstByte(cmd)
		}})
	}
	if err := bundle(dir); err != nil {
		return nil, stop, err
	}
	add("runc run", "runc", func(id string) []string { return []string{"runc", "run", id} })
	add("crun run", "crun", func(id string) []string { return append(hidden, "crun", "run", id) })
	add("podman run", "podman", func(id string) []string {
		return []string{"podman", "run", "--rm", "--name", id, "--runtime", "runc", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000",
			"--volume", "/usr:/usr:ro", "--rootfs", root, "/usr/bin/echo", "x"}
	})
	conf := filepath.Join(dir, "lxc.conf")
	text := "lxc.rootfs.path = dir:" + root + "\nlxc.mount.entry = /usr usr none bind,ro 0 0\nlxc.net.0.type = empty\nlxc.uts.name = x\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, stop, err
	}
	add("lxc-execute", "lxc-execute", func(id string) []string {
		return []string{"lxc-execute", "-n", id, "-f", conf, "--", "/usr/bin/echo", "x"}
	})
	return list, stop, nil
}

// bundle writes what runc's own template says, with a command that prints and the host's /usr.
func bundle(dir string) error {
	cmd := exec.Command("runc", "spec", "--bundle", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("runc spec: %w: %s", err, out)
	}
	config := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, []string{"/usr/bin/echo", "x"}
	spec["mounts"] = append(spec["mounts"].([]any), map[string]any{"destination": "/usr", "type": "bind", "source": "/usr", "options": []string{"rbind", "ro"}})
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(config, data, 0o600)
}

// withoutUnified is a command before another that hides version 2 of control groups from it where there are both, which crun refuses. It
// costs that command about a millisecond.
func withoutUnified(dir string) (before []string, stop func()) {
	if _, err := os.Stat("/sys/fs/cgroup/unified"); err != nil {
		return nil, func() {}
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "umount /sys/fs/cgroup/unified && echo && exec cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, func() {}
	}
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return nil, func() {}
	}
	_, _ = bufio.NewReader(out).ReadString('\n')
	return []string{"nsenter", "--target", strconv.Itoa(cmd.Process.Pid), "--mount", "--wd=" + dir}, func() {
		in.Close()
		_ = cmd.Wait()
	}
}
