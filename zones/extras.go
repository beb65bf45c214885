package zones

import (
	"context"
	"io"
	"net"
	"os"
)

// Unwrapper is a driver around another one: a layer for faults, metrics, rate.
type Unwrapper interface {
	// Unwrap returns the driver beneath.
	Unwrap() Driver
}

// As finds an optional interface: it asks d, then what d wraps, and so on. Use it instead of a type assertion,
// which a wrapper would hide.
func As[T any](d Driver) (T, bool) {
	for d != nil {
		if t, ok := d.(T); ok {
			return t, true
		}
		u, ok := d.(Unwrapper)
		if !ok {
			break
		}
		d = u.Unwrap()
	}
	var none T
	return none, false
}

// Consoler is a driver whose machines have a console.
type Consoler interface {
	// Console attaches to a running machine's console. Reads give what the machine prints, beginning with the last
	// of what it printed before (at most 64 KiB), writes go to its input. Several may be attached at once, and see
	// the same. It reads EOF when the machine ends. Closing detaches and does not disturb the machine.
	Console(ctx context.Context, id string) (io.ReadWriteCloser, error)
}

// ConsoleResizer may be what Console returns.
type ConsoleResizer interface {
	Resize(s Size) error
}

// Giver is a driver that can show one file of the host inside a running machine, without a copy: in-place compute
// rests on it.
type Giver interface {
	// Give shows the open regular file read-only at the path inside. Nothing in the machine can write it or use it
	// to reach another file. The path is absolute; its directories and a file to cover are made by the machine's
	// own root if absent. The file may be closed after the call. Giving again to the same path covers what was there.
	// On error nothing is shown.
	Give(ctx context.Context, id string, g Gift) error
	// Take removes what Give showed at the path; what was not given: nil. A program that has it open keeps reading.
	Take(ctx context.Context, id, path string) error
}

// Gift is one file to show.
type Gift struct {
	// File is open for reading.
	File *os.File
	// Path is where it appears inside.
	Path string
	// Owner is the user inside who owns it and so can read it whatever its mode for others.
	Owner User
}

// Resetter is a driver that can bring a running machine back to how it started, quicker than Destroy and Start.
type Resetter interface {
	// Reset ends every program in the machine, and leaves it running with m's root, mounts, limits and network, and
	// nothing else from before: no process, file outside the old root, shared memory, given file or meter reading.
	// m.ID is the running machine's. The new handle replaces the stored one. On error the machine must be destroyed.
	Reset(ctx context.Context, m Machine) (Handle, error)
}

// Rebooter is a driver that can restart a machine in place.
type Rebooter interface {
	// Reboot restarts a running machine at once and without order, as its reset button does.
	Reboot(ctx context.Context, id string) error
}

// Informer is a driver that knows more of a running machine (vmadm info).
type Informer interface {
	// Info answers the types asked for, or all when none are: all, block, blockstats, chardev, cpus, kvm, pci, spice, version,
	// vnc. The values marshal to JSON. An unknown type gives ErrInvalid.
	Info(ctx context.Context, id string, types ...string) (map[string]any, error)
}

// MetadataSerial is a driver whose machines ask for metadata on a serial line rather than on a socket.
type MetadataSerial interface {
	// MetadataConn connects to the host's end of the line. One connection at a time; a new one replaces the last.
	MetadataConn(ctx context.Context, id string) (net.Conn, error)
}

// LiveSnapshotter is a driver that can make the disks of a running machine hold still.
type LiveSnapshotter interface {
	// Quiesce flushes and freezes writes to the machine's disks, calls f, and thaws again whatever f returns.
	// If ctx ends, the machine is thawed and ctx's error returned.
	Quiesce(ctx context.Context, id string, f func(context.Context) error) error
}

// Lister is a driver that can find its machines on this host without being told, so that an owner finds leaks.
type Lister interface {
	// List returns the ids of all machines the driver has on this host, of this and of earlier processes.
	List(ctx context.Context) ([]string, error)
}

// DiskAttacher is a driver that can change a running machine's drives.
type DiskAttacher interface {
	// ResizeDisk tells a running machine that the drive at path has grown to size bytes.
	ResizeDisk(ctx context.Context, id, path string, size int64) error
}

// Interrupter is a driver whose machines can be interrupted and looked at from outside (vmadm sysrq).
type Interrupter interface {
	// NMI raises a non-maskable interrupt in a running machine, at which most systems dump or panic.
	NMI(ctx context.Context, id string) error
	// Screenshot writes what a running machine's screen shows as a PPM picture. An error may leave a part of it written.
	Screenshot(ctx context.Context, id string, w io.Writer) error
}
