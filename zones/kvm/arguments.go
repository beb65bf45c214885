package kvm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/zones"
)

// Numbers of the open files that QEMU inherits. Disks follow, then taps, the kernel with its initial file system, and firmware.
const (
	qmpFD = 3 + iota
	consoleFD
	metadataFD
	firstDiskFD
)

// Kernel boots machines from a kernel of the host rather than from their disks, for appliances and tests. The files must
// be readable by everybody.
type Kernel struct {
	Path    string
	Initrd  string
	Cmdline string
}

// checkMachine reports everything in a machine that this driver cannot do, all at once.
func checkMachine(m *zones.Machine) error {
	if err := m.Check(); err != nil {
		return err
	}
	var invalid, unsupported []error
	bad := func(format string, args ...any) { invalid = append(invalid, fmt.Errorf(format, args...)) }
	cannot := func(format string, args ...any) { unsupported = append(unsupported, fmt.Errorf(format, args...)) }
	s := m.Spec
	if !s.Brand.HVM() {
		cannot("brand %q", s.Brand)
	}
	if s.VCPUs < 0 || s.VCPUs > 64 {
		bad("vcpus %d", s.VCPUs)
	}
	if s.RAM < 0 || s.RAM > 1<<24 {
		bad("ram %d", s.RAM)
	}
	if s.QEMUOpts != "" || s.QEMUExtraOpts != "" || s.BhyveExtraOpts != "" {
		cannot("qemu_opts, qemu_extra_opts and bhyve_extra_opts: they could reach anything of the host's")
	}
	if s.CPUType != "" && s.CPUType != "qemu64" && s.CPUType != "host" {
		bad("cpu_type %q", s.CPUType)
	}
	if s.Bootrom != "" && s.Bootrom != "bios" && s.Bootrom != "uefi" {
		cannot("bootrom %q", s.Bootrom)
	}
	switch s.VGA {
	case "", "std", "cirrus", "none", "vmware", "qxl", "xenfb":
	default:
		bad("vga %q", s.VGA)
	}
	for _, o := range []string{m.Boot.Order, m.Boot.Once, strings.TrimPrefix(s.Boot, "order=")} {
		if strings.Trim(o, "cdn") != "" {
			bad("boot order %q has letters other than c, d, n", o)
		}
	}
	for i, d := range append(append([]zones.Disk(nil), m.Disks...), m.Boot.Extra...) {
		if !strings.HasPrefix(d.Path, "/") {
			bad("disks[%d]: path %q is not absolute", i, d.Path)
		}
		if d.Format != "raw" && d.Format != "qcow2" {
			bad("disks[%d]: format %q", i, d.Format)
		}
		if m := d.Media; m != "" && m != "disk" && m != "cdrom" {
			bad("disks[%d]: media %q", i, m)
		}
		switch d.Model {
		case "", "virtio", "ide", "scsi":
		default:
			bad("disks[%d]: model %q", i, d.Model)
		}
		if len(d.Serial) > 20 || strings.ContainsAny(d.Serial, ",\x00") {
			bad("disks[%d]: serial", i)
		}
		if b := d.BlockSize; b != 0 && (b < 512 || b > 32768 || b&(b-1) != 0) {
			bad("disks[%d]: block size %d", i, b)
		}
		if d.PCISlot != "" {
			if _, err := pciAddress(d.PCISlot); err != nil {
				bad("disks[%d]: %w", i, err)
			}
		}
	}
	for i, n := range m.Interfaces {
		if mac, err := net.ParseMAC(n.MAC); err != nil || len(mac) != 6 {
			bad("interfaces[%d]: mac %q", i, n.MAC)
		}
		if n.Host == "" || len(n.Host) > 15 || strings.ContainsAny(n.Host, "/ ,") {
			bad("interfaces[%d]: host %q", i, n.Host)
		}
		if _, ok := nicModels[n.Model]; !ok {
			bad("interfaces[%d]: model %q", i, n.Model)
		}
		if n.MTU != 0 && (n.MTU < 576 || n.MTU > 65535) {
			bad("interfaces[%d]: mtu %d", i, n.MTU)
		}
	}
	if len(m.Disks)+len(m.Boot.Extra) > 24 || len(m.Interfaces) > 16 {
		bad("more than 24 disks or 16 interfaces")
	}
	switch {
	case len(invalid) > 0:
		return fmt.Errorf("%w: %w", zones.ErrInvalid, errors.Join(append(invalid, unsupported...)...))
	case len(unsupported) > 0:
		return fmt.Errorf("%w: %w", zones.ErrNotSupported, errors.Join(unsupported...))
	}
	return nil
}

var nicModels = map[string]string{"": "virtio-net-pci", "virtio": "virtio-net-pci", "e1000": "e1000", "rtl8139": "rtl8139"}

// pciAddress turns "0:4:1" into QEMU's "4.1" on the first bus.
func pciAddress(slot string) (string, error) {
	var bus, dev, fn int
	if n, err := fmt.Sscanf(slot+" ", "%d:%d:%d ", &bus, &dev, &fn); n != 3 || err != nil || bus != 0 || dev < 0 || dev > 31 || fn < 0 || fn > 7 {
		return "", fmt.Errorf("pci_slot %q is not 0:device:function", slot)
	}
	return fmt.Sprintf("%x.%x", dev, fn), nil
}

// arguments is the command line of a machine that checkMachine has passed. Everything in it is either a constant, a number, or
// a value that was checked; QEMU takes commas for separators, so none may come from outside.
func arguments(m *zones.Machine, accel string, kernel *Kernel) []string {
	s := m.Spec
	disks := allDisks(m)
	next := firstDiskFD + len(disks) + len(m.Interfaces)
	var boots []string
	if kernel != nil {
		boots = append(boots, "-kernel", fmt.Sprintf("/proc/self/fd/%d", next))
		next++
		if kernel.Initrd != "" {
			boots = append(boots, "-initrd", fmt.Sprintf("/proc/self/fd/%d", next))
			next++
		}
		boots = append(boots, "-append", kernel.Cmdline)
	}
	flash := ""
	if uefi(m) {
		var more []string
		more, flash = firmwareArguments(next, next+1)
		boots = append(boots, more...)
	}
	args := []string{
		"-name", "mobula-" + m.ID, "-uuid", m.ID,
		"-nodefaults", "-no-user-config", "-S",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", "pc,usb=off,vmport=off,accel=" + accel + flash,
		"-cpu", cpu(s.CPUType, accel),
		"-smp", strconv.Itoa(max(s.VCPUs, 1)),
		"-m", strconv.FormatInt(ram(s), 10),
		"-rtc", "base=utc",
		"-smbios", "type=1,manufacturer=Joyent,product=SmartDC HVM,uuid=" + m.ID,
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d,server=on,wait=off", qmpFD), "-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d,server=on,wait=off", consoleFD), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=metadata,fd=%d,server=on,wait=off", metadataFD), "-serial", "chardev:metadata",
		"-display", "none", "-vnc", "none",
		"-vga", vga(s.VGA),
		"-device", "virtio-rng-pci",
	}
	boot := "strict=off"
	if order := firstOf(m.Boot.Order, strings.TrimPrefix(s.Boot, "order=")); order != "" {
		boot += ",order=" + order
	}
	if m.Boot.Once != "" {
		boot += ",once=" + m.Boot.Once
	}
	args = append(append(args, "-boot", boot), boots...)
	scsi := false
	for i, d := range disks {
		if d.Model == "scsi" && !scsi {
			scsi = true
			args = append(args, "-device", "virtio-scsi-pci,id=scsi")
		}
		args = append(args, diskArguments(i, d)...)
	}
	for i, n := range m.Interfaces {
		args = append(args,
			"-netdev", fmt.Sprintf("tap,id=net%d,fd=%d,vhost=off", i, firstDiskFD+len(disks)+i),
			"-device", nicArgument(i, n))
	}
	return args
}

func allDisks(m *zones.Machine) []zones.Disk {
	return append(append([]zones.Disk(nil), m.Disks...), m.Boot.Extra...)
}

// cpu: emulation knows no host processor, but has one with all it can do.
func cpu(kind, accel string) string {
	switch {
	case kind == "host" && accel == "tcg":
		return "max"
	case kind == "":
		return "qemu64"
	}
	return kind
}

func ram(s *zones.Spec) int64 {
	if s.RAM == 0 {
		return 256
	}
	return s.RAM
}

func vga(kind string) string {
	if kind == "" || kind == "xenfb" {
		return "std"
	}
	return kind
}

func diskName(i int) string { return fmt.Sprintf("disk%d", i) }

func diskArguments(i int, d zones.Disk) []string {
	fd := firstDiskFD + i
	discard := "unmap"
	if d.NoTrim {
		discard = "ignore"
	}
	node := map[string]any{
		"node-name": diskName(i), "driver": d.Format, "read-only": readOnly(d), "discard": discard,
		"file": map[string]any{
			"driver": "file", "filename": fmt.Sprintf("/dev/fdset/%d", fd), "node-name": diskName(i) + "-file",
			"read-only": readOnly(d), "discard": discard,
			// The file is ours alone by the contract, and a lock would be on our own open file anyway.
			"locking": "off",
		},
	}
	if d.Format == "qcow2" {
		node["backing"] = nil
	}
	blockdev, _ := json.Marshal(node)
	device := map[string]string{"": "virtio-blk-pci", "virtio": "virtio-blk-pci", "ide": "ide-hd", "scsi": "scsi-hd,bus=scsi.0"}[d.Model]
	if d.Media == "cdrom" {
		device = "ide-cd"
		if d.Model == "scsi" {
			device = "scsi-cd,bus=scsi.0"
		}
	}
	device += fmt.Sprintf(",id=dev-%s,drive=%s", diskName(i), diskName(i))
	if d.Serial != "" {
		device += ",serial=" + d.Serial
	}
	if d.BlockSize != 0 && d.Media != "cdrom" {
		device += fmt.Sprintf(",logical_block_size=%d,physical_block_size=%d", d.BlockSize, d.BlockSize)
	}
	if d.Boot {
		device += fmt.Sprintf(",bootindex=%d", i+1)
	}
	if addr, err := pciAddress(d.PCISlot); err == nil && strings.HasPrefix(device, "virtio-blk") {
		device += ",addr=" + addr
	}
	return []string{
		"-add-fd", fmt.Sprintf("fd=%d,set=%d", fd, fd), "-blockdev", string(blockdev), "-device", device,
	}
}

func nicArgument(i int, n zones.Interface) string {
	model := nicModels[n.Model]
	mac, _ := net.ParseMAC(n.MAC)
	arg := fmt.Sprintf("%s,id=nic%d,netdev=net%d,mac=%s,romfile=", model, i, i, mac)
	if model == "virtio-net-pci" && n.MTU != 0 {
		arg += fmt.Sprintf(",host_mtu=%d", n.MTU)
	}
	return arg
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
