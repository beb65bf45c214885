// Package kvm is the zone driver for hardware VMs (SmartOS's brands kvm and bhyve), run on QEMU: with KVM where that works,
// and by emulation (TCG) where it does not.
//
// Start with [Open] and hand the driver to zones/host, or call its zones.Driver methods yourself. Whether KVM works is found
// out by running a few instructions under it with a time limit, as there are hosts where it opens and then hangs;
// Capabilities().Isolation and each machine's Status say which it is.
//
// The emulator has no privileges: it runs as the first of the machine's ids, behind QEMU's system-call filter, in a network
// namespace with nothing in it. Disks, taps and sockets are opened by the driver and handed over as open files, so the
// emulator needs no path of the host. A disk image that refers to another file is refused.
//
// QEMU runs on when this process ends. Its sockets are in the machine's RunDir: the monitor (qmp.sock), the first serial port,
// which is the console (console.sock), and the second, over which the guest asks for metadata (metadata.sock). There is
// no listening VNC; [Driver.VNC] makes a connection, unless vnc_port is -1. Output of the console from before
// [Driver.Recover] is lost, as keeping it would let a guest fill the host's disk. SPICE is not served. A machine whose
// bootrom is "uefi" starts from OVMF, where that is installed, and keeps the firmware's variables in Machine.NVRAM.
//
// Several processes may have the same machine at once, as a command and an agent do. QEMU's monitor serves one connection at a
// time, so each command connects, under a lock file, for as long as it takes; the console is read by one process, which
// shares it with the others (tty.sock), and another takes over when that one goes.
//
// Never change a running machine's disk files from outside, except under [Driver.Quiesce], which holds them still, and to grow
// them before [Driver.ResizeDisk].
//
// Files: driver (verbs), start and arguments (from a Machine to a process), accel (KVM or not), machine (its end), monitor,
// console, disk, tap, firmware, limits, usage, snapshot, info, sysrq. Needs Linux on amd64, root and qemu-system-x86.
//
// Stability: experimental.
package kvm
