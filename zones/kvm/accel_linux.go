package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// trialTime is how long a few instructions may take to run; where they run at all they take a tenth of a second, most of it
// for QEMU to start.
const trialTime = 4 * time.Second

// trials remembers what was found out, as a host's answer stays the same.
var trials struct {
	sync.Mutex
	found map[string]error
}

// try runs a few instructions under an accelerator and reports why that does not work. The emulator runs as a user with
// no rights, as machines do; group is a further group it may need.
func try(ctx context.Context, qemu, accel string, groups []uint32) error {
	trials.Lock()
	defer trials.Unlock()
	if err, ok := trials.found[qemu+accel]; ok {
		return err
	}
	err := tryOnce(ctx, qemu, accel, groups)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if trials.found == nil {
		trials.found = map[string]error{}
	}
	trials.found[qemu+accel] = err
	return err
}

func tryOnce(ctx context.Context, qemu, accel string, groups []uint32) error {
	dir, err := os.MkdirTemp("", "mobula-kvm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The first instruction after a reset is 16 bytes below the end of the firmware: write 0x15 to the port by which a
	// test ends QEMU, and halt. The exit code is then twice that and one.
	rom := make([]byte, 64<<10)
	copy(rom[len(rom)-16:], []byte{0xba, 0x01, 0x05, 0xb0, 0x15, 0xee, 0xf4, 0xeb, 0xfd})
	const code = 0x15<<1 | 1
	path := filepath.Join(dir, "rom")
	if err := errors.Join(os.WriteFile(path, rom, 0o644), os.Chmod(dir, 0o755)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-nodefaults", "-no-user-config", "-machine", "pc,accel="+accel, "-m", "16", "-display", "none",
		"-bios", path, "-device", "isa-debug-exit,iobase=0x501,iosize=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: groups}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("a guest hangs: nothing ran within %v", trialTime)
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == code {
		return nil
	}
	if len(out) > 300 {
		out = out[:300]
	}
	return fmt.Errorf("%v: %s", err, out)
}

// kvmGroups is the group by which the emulator's user may open /dev/kvm, if that is how the host has it.
func kvmGroups() []uint32 {
	st, err := os.Stat("/dev/kvm")
	if err != nil {
		return nil
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if ok && st.Mode().Perm()&0o060 == 0o060 && sys.Gid != 0 {
		return []uint32{sys.Gid}
	}
	return nil
}
