package zones

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Machine is all a driver needs to start one zone, already prepared by the caller: a driver makes no dataset, image or
// interface itself. Plain data; it can be stored and compared.
type Machine struct {
	// ID is the zone's uuid; a driver may use it in names of files, control groups and sockets.
	ID string `json:"id"`

	// Spec is what was asked for. A driver reads brand and machine properties from it (init_name, vcpus, cpu_type,
	// vnc_port, …) but not disks, nics, filesystems, quotas and limits, which are below in their prepared form.
	// Read only.
	Spec *Spec `json:"spec"`

	// RunDir is an existing private directory (0700, the caller's) for the driver's sockets and records of this
	// machine. It is the machine's alone from Start to Destroy, need not outlive a boot of the host, and its path
	// has at most 80 bytes, so that socket names fit. Destroy empties it, and works if it is already gone.
	RunDir string `json:"run_dir"`

	// Root is the root file system of an OS container; empty for a VM.
	Root Root `json:"root,omitzero"`
	// Mounts are further file systems of an OS container, in order. Targets are made by the driver if absent.
	Mounts []Mount `json:"mounts,omitempty"`
	// Disks are a VM's drives, in boot order unless one says Boot.
	Disks []Disk `json:"disks,omitempty"`
	// NVRAM is a file in which a VM's UEFI firmware keeps its variables; the driver fills one that is empty. Without one they are forgotten
	// at every boot.
	NVRAM string `json:"nvram,omitempty"`

	// NetNS is the path of the network namespace of an OS container, with its interfaces, addresses and routes in
	// place. The caller keeps it; zone root has no power over it. The driver sets two things in it: ports below
	// 1024 and ping sockets are open to all in the zone. Empty: a new one with only a loopback.
	NetNS string `json:"netns,omitempty"`
	// Interfaces are a VM's NICs, first is first; each is a tap or macvtap that exists and is up.
	Interfaces []Interface `json:"interfaces,omitempty"`

	// IDs is the range of host user and group ids that is this zone's (or its owner's) alone. Inside, they are 0 to
	// Size-1. A VM's emulator runs as the first of them. Required.
	IDs IDRange `json:"ids"`

	// Limits are in force before the first program runs.
	Limits Limits `json:"limits"`

	// Init is what runs as the first program of an OS container.
	Init Init `json:"init,omitzero"`

	// Hostname and Domain are what the machine calls itself; empty means the ID and "local".
	Hostname string `json:"hostname,omitempty"`
	Domain   string `json:"domain,omitempty"`

	// Boot holds for this start only (vmadm start order= once= cdrom= disk=). VMs.
	Boot Boot `json:"boot,omitzero"`

	// NoNewPrivileges forbids gaining privileges by set-uid programs; compute jobs run so.
	NoNewPrivileges bool `json:"no_new_privileges,omitempty"`
}

// IDRange is a run of host user ids and of group ids with the same numbers.
type IDRange struct {
	// First is the host id that the machine's id 0 is; never 0.
	First uint32 `json:"first"`
	// Size is how many; 65536 is usual.
	Size uint32 `json:"size"`
}

// Root is a prepared root file system.
type Root struct {
	// Path is a directory of the host, writable, in use by nobody else.
	Path string `json:"path"`
	// Mapped says whose numbers the files carry as seen at Path. False: the zone's own, from 0 (a btrfs subvolume, a plain
	// directory); the driver shows them through an id-mapped mount and nothing is changed on disk. True: host ids
	// from IDs.First (an overlay mount cannot be id-mapped, so whoever mounted it has mapped its layers already).
	Mapped bool `json:"mapped,omitempty"`
	// ReadOnly shows all of it read-only.
	ReadOnly bool `json:"read_only,omitempty"`
}

// MountType is the kind of a [Mount].
type MountType string

const (
	// MountBind shows a directory or file of the host. Set-uid programs work on it, as an image may need; ask for
	// NoSUID where the source is a tenant's.
	MountBind MountType = "bind"
	// MountTmpfs is memory, charged to the zone; Size limits it.
	MountTmpfs MountType = "tmpfs"
)

// Mount is a file system shown inside an OS container. Device nodes never work on one.
type Mount struct {
	// Type is MountBind when empty.
	Type MountType `json:"type,omitempty"`
	// Source is an absolute path of the host (bind).
	Source string `json:"source,omitempty"`
	// Target is the absolute path inside. A link in the way never leads out of the zone's root.
	Target string `json:"target"`
	// ReadOnly, NoSUID and NoExec restrict it.
	ReadOnly bool `json:"read_only,omitempty"`
	NoSUID   bool `json:"nosuid,omitempty"`
	NoExec   bool `json:"noexec,omitempty"`
	// Mapped shows files with the zone's own numbers on disk through an id-mapped mount: disk id 0 is the zone's
	// root (bind, as a delegated dataset wants). Otherwise host ids hold: what root owns outside is nobody's inside and only
	// its mode bits for others count, which is right for the host's /usr.
	Mapped bool `json:"mapped,omitempty"`
	// Size in bytes and Mode (0 = 01777) are a tmpfs's.
	Size int64  `json:"size,omitempty"`
	Mode uint32 `json:"mode,omitempty"`
	// Optional: a bind whose source does not exist is left out.
	Optional bool `json:"optional,omitempty"`
}

// Disk is a VM's drive, prepared.
type Disk struct {
	// Path is a file or block device of the host that the emulator's user can be given.
	Path string `json:"path"`
	// Format is "raw" or "qcow2".
	Format string `json:"format"`
	// Media is "disk" (default) or "cdrom"; Model is "virtio" (default), "ide" or "scsi".
	Media string `json:"media,omitempty"`
	Model string `json:"model,omitempty"`
	// Boot prefers this drive.
	Boot bool `json:"boot,omitempty"`
	// ReadOnly drives cannot be written by the guest.
	ReadOnly bool `json:"read_only,omitempty"`
	// Serial is shown to the guest, at most 20 bytes.
	Serial string `json:"serial,omitempty"`
	// BlockSize is the logical block size in bytes, 0 for 512.
	BlockSize int `json:"block_size,omitempty"`
	// PCISlot asks for a place on the bus, "bus:dev:fn".
	PCISlot string `json:"pci_slot,omitempty"`
	// NoTrim keeps what the guest discards.
	NoTrim bool `json:"no_trim,omitempty"`
}

// Interface is a VM's NIC, prepared.
type Interface struct {
	// Host is the name of the tap device.
	Host string `json:"host"`
	// NetNS is where the tap is, if not in the driver's own network namespace.
	NetNS string `json:"netns,omitempty"`
	// MAC is the guest's address; Model is "virtio" (default), "e1000" or "rtl8139"; MTU 0 means 1500.
	MAC   string `json:"mac"`
	Model string `json:"model,omitempty"`
	MTU   int    `json:"mtu,omitempty"`
}

// Limits bound what a machine may use. Zero means no limit of that kind, unless said.
type Limits struct {
	// CPUCap is in percent of one CPU: 150 is one and a half (cpu_cap).
	CPUCap int `json:"cpu_cap,omitempty"`
	// CPUShares is the weight among zones when all want to run; 0 is 100 (cpu_shares).
	CPUShares int `json:"cpu_shares,omitempty"`
	// Memory is physical memory in bytes, page cache included (max_physical_memory).
	Memory int64 `json:"memory,omitempty"`
	// Swap is physical memory and swap together in bytes; equal to Memory means no swap (max_swap).
	Swap int64 `json:"swap,omitempty"`
	// LWPs is how many threads and processes there may be (max_lwps).
	LWPs int64 `json:"lwps,omitempty"`
	// LockedMemory in bytes is how much one process may lock (max_locked_memory). It holds for programs started after.
	LockedMemory int64 `json:"locked_memory,omitempty"`
	// IOPriority is the weight among zones on a busy disk, 1 to 1000; 0 is 100 (zfs_io_priority).
	IOPriority int `json:"io_priority,omitempty"`
	// TmpFS is the size of /tmp in bytes; 0 leaves /tmp on the root. It holds from the next start.
	TmpFS int64 `json:"tmpfs,omitempty"`
}

// Init is the first program of an OS container and how it runs.
type Init struct {
	// Args is the program and its arguments. Empty: the driver's own init with the Services below and nothing else.
	Args []string `json:"args,omitempty"`
	// Own makes Args[0] process 1 itself (an image with its own init, such as /sbin/init). Otherwise the driver's
	// init is process 1: it reaps, forwards signals, and ends the machine with Args' exit status when that ends.
	Own bool `json:"own,omitempty"`
	// Env is "NAME=value"; a PATH, HOME and TERM are added when missing.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory, "/" when empty.
	Dir string `json:"dir,omitempty"`
	// User is whose ids it has, root when zero.
	User User `json:"user,omitzero"`
	// TTY gives it the console as controlling terminal.
	TTY bool `json:"tty,omitempty"`
	// StopSignal asks it to end; SIGTERM when empty.
	StopSignal Signal `json:"stop_signal,omitempty"`
	// Services run beside it under the driver's init, in order of start (the user-script is one that runs once).
	// Not with Own.
	Services []Service `json:"services,omitempty"`
}

// Service is a program the driver's init keeps or runs once.
type Service struct {
	// Name is for the log; letters, digits, '-', '_'.
	Name string   `json:"name"`
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
	User User     `json:"user,omitzero"`
	// Restart starts it again a second after it ends, whatever its status; otherwise it runs once.
	Restart bool `json:"restart,omitempty"`
}

// User is a numeric identity inside a machine.
type User struct {
	UID    uint32   `json:"uid,omitempty"`
	GID    uint32   `json:"gid,omitempty"`
	Groups []uint32 `json:"groups,omitempty"`
}

// Boot is extra for one start of a VM.
type Boot struct {
	// Order and Once are QEMU's boot order letters: c disk, d cdrom, n network.
	Order string `json:"order,omitempty"`
	Once  string `json:"once,omitempty"`
	// Extra drives are present for this start only.
	Extra []Disk `json:"extra,omitempty"`
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// ValidID reports whether id is a lower-case uuid, the only form that names a machine, and so is safe in a file name.
func ValidID(id string) bool { return idPattern.MatchString(id) }

// Check reports everything in m that no driver could accept, joined; nil if there is nothing. Drivers call it first.
func (m *Machine) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !ValidID(m.ID) {
		bad("id %q is not a uuid", m.ID)
	}
	if m.Spec == nil {
		bad("no spec")
	}
	if !path.IsAbs(m.RunDir) || len(m.RunDir) > 80 {
		bad("run_dir must be absolute and at most 80 bytes")
	}
	if m.IDs.First == 0 || m.IDs.Size == 0 || m.IDs.First+m.IDs.Size < m.IDs.First {
		bad("ids: first must be above 0, size above 0, their sum below 2^32")
	}
	for i, mt := range m.Mounts {
		if t := path.Clean(mt.Target); !path.IsAbs(mt.Target) || t == "/" {
			bad("mounts[%d]: target %q is not an absolute path below /", i, mt.Target)
		}
		switch mt.Type {
		case MountBind, "":
			if !path.IsAbs(mt.Source) {
				bad("mounts[%d]: source %q is not absolute", i, mt.Source)
			}
		case MountTmpfs:
		default:
			bad("mounts[%d]: type %q", i, mt.Type)
		}
	}
	if m.Init.Own && (len(m.Init.Args) == 0 || len(m.Init.Services) > 0) {
		bad("init: own needs args and excludes services")
	}
	for _, e := range m.Init.Env {
		if strings.IndexByte(e, '=') <= 0 || strings.IndexByte(e, 0) >= 0 {
			bad("init: env entry is not NAME=value")
		}
	}
	for i, s := range m.Init.Services {
		if len(s.Args) == 0 || s.Name == "" {
			bad("init: services[%d] needs name and args", i)
		}
	}
	if l := m.Limits; l.CPUCap < 0 || l.CPUShares < 0 || l.Memory < 0 || l.Swap < 0 || l.LWPs < 0 ||
		l.LockedMemory < 0 || l.IOPriority < 0 || l.IOPriority > 1000 || l.TmpFS < 0 {
		bad("limits: out of range")
	}
	if l := m.Limits; l.Swap > 0 && l.Swap < l.Memory {
		bad("limits: swap counts memory too and cannot be below it")
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(errs...))
}
