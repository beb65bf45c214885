//go:build cgo

package oci

import (
	"encoding/binary"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestFilter runs the filter over calls that must and must not be allowed.
func TestFilter(t *testing.T) {
	raw, err := filter()
	if err != nil {
		t.Fatal(err)
	}
	var insns []bpf.RawInstruction
	for b := raw; len(b) > 0; b = b[8:] {
		insns = append(insns, bpf.RawInstruction{Op: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:])})
	}
	if len(insns) > 4096 {
		t.Errorf("%d instructions, the kernel takes 4096", len(insns))
	}
	info, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	const ok, perm, nosys = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	tests := []struct {
		name string
		args [2]uint64
		want uint32
	}{
		{"read", [2]uint64{}, ok}, {"write", [2]uint64{}, ok}, {"execve", [2]uint64{}, ok}, {"uname", [2]uint64{}, ok},
		{"mount", [2]uint64{}, perm}, {"umount2", [2]uint64{}, perm}, {"move_mount", [2]uint64{}, perm}, {"open_tree", [2]uint64{}, perm},
		{"unshare", [2]uint64{}, perm}, {"setns", [2]uint64{}, perm}, {"init_module", [2]uint64{}, perm}, {"finit_module", [2]uint64{}, perm},
		{"kexec_load", [2]uint64{}, perm}, {"bpf", [2]uint64{}, perm}, {"keyctl", [2]uint64{}, perm}, {"io_uring_setup", [2]uint64{}, perm},
		{"open_by_handle_at", [2]uint64{}, perm}, {"perf_event_open", [2]uint64{}, perm},
		{"clone", [2]uint64{17}, ok}, {"clone", [2]uint64{unix.CLONE_NEWUSER | 17}, perm},
		{"clone", [2]uint64{unix.CLONE_NEWNS}, perm}, {"clone3", [2]uint64{}, nosys},
		{"ioctl", [2]uint64{0, unix.TIOCGWINSZ}, ok}, {"ioctl", [2]uint64{0, unix.TIOCSTI}, perm},
		{"ioctl", [2]uint64{0, unix.TIOCSTI | 1<<40}, perm}, {"ioctl", [2]uint64{0, unix.TIOCLINUX}, perm},
		{"socket", [2]uint64{unix.AF_INET}, ok}, {"socket", [2]uint64{unix.AF_VSOCK}, perm}, {"socket", [2]uint64{unix.AF_ALG}, perm},
		{"personality", [2]uint64{0xffffffff}, ok}, {"personality", [2]uint64{0x0400000}, perm},
	}
	run := func(arch, nr uint32, args [2]uint64) uint32 {
		// The machine of x/net/bpf reads in network order, the kernel's data is in ours.
		data := make([]byte, 64)
		put := func(off int, v uint32) { binary.BigEndian.PutUint32(data[off:], v) }
		put(offsetNumber, nr)
		put(offsetArch, arch)
		for i, a := range args {
			put(int(lowHalf(uint32(i))), uint32(a))
		}
		return interpret(t, insns, data)
	}
	for _, tt := range tests {
		n, known := info.SyscallNames[tt.name]
		if !known {
			t.Errorf("%s is not in the table", tt.name)
			continue
		}
		if got := run(uint32(info.ID), uint32(n), tt.args); got != tt.want {
			t.Errorf("%s(%#x, %#x) = %#x, want %#x", tt.name, tt.args[0], tt.args[1], got, tt.want)
		}
	}
	if got := run(uint32(arch.X86_64.ID), 0x40000000, [2]uint64{}); info.ID == arch.X86_64.ID && got != nosys {
		t.Errorf("an x32 call = %#x, want ENOSYS", got)
	}
	if got := run(0x1234, 0, [2]uint64{}); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("another architecture's call = %#x, want it killed", got)
	}
}

// interpret runs the few kinds of instruction that the filter has.
func interpret(t *testing.T, prog []bpf.RawInstruction, data []byte) uint32 {
	t.Helper()
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		switch in := prog[pc].Disassemble().(type) {
		case bpf.LoadAbsolute:
			a = binary.BigEndian.Uint32(data[in.Off:])
		case bpf.RetConstant:
			return in.Val
		case bpf.JumpIf:
			var yes bool
			switch in.Cond {
			case bpf.JumpEqual:
				yes = a == in.Val
			case bpf.JumpNotEqual:
				yes = a != in.Val
			case bpf.JumpGreaterOrEqual:
				yes = a >= in.Val
			case bpf.JumpLessThan:
				yes = a < in.Val
			case bpf.JumpBitsSet:
				yes = a&in.Val != 0
			case bpf.JumpBitsNotSet:
				yes = a&in.Val == 0
			default:
				t.Fatalf("condition %v", in.Cond)
			}
			if yes {
				pc += int(in.SkipTrue)
			} else {
				pc += int(in.SkipFalse)
			}
		default:
			t.Fatalf("instruction %v", in)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}
