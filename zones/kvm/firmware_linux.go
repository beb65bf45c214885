package kvm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mobulacloud/mobula/zones"
)

// Firmware is UEFI firmware: its code, which all machines share, and what a new machine's variables are.
type Firmware struct {
	Code, Vars string
}

// firmwares are where distributions put OVMF.
var firmwares = []Firmware{
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
	{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
	{"/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"},
}

// findFirmware answers the first that is there, or nil.
func findFirmware() *Firmware {
	for _, f := range firmwares {
		if exists(f.Code) && exists(f.Vars) {
			return &f
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// uefi reports whether a machine starts from UEFI firmware.
func uefi(m *zones.Machine) bool { return m.Spec.Bootrom == "uefi" }

// checkFirmware refuses a machine whose firmware is not here.
func (d *Driver) checkFirmware(m *zones.Machine) error {
	if uefi(m) && d.firmware == nil {
		return fmt.Errorf("%w: bootrom uefi: no UEFI firmware is installed (ovmf)", zones.ErrNotSupported)
	}
	return nil
}

// openFirmware opens the firmware's code and the machine's variables. Those are made from the firmware's own where the machine has none yet; a
// machine without a place for them has new ones at every boot.
func (d *Driver) openFirmware(m *zones.Machine) (files []*os.File, err error) {
	code, err := os.Open(d.firmware.Code)
	if err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
	files = append(files, code)
	var vars *os.File
	if m.NVRAM != "" {
		vars, err = os.OpenFile(m.NVRAM, os.O_RDWR, 0)
	} else if vars, err = os.CreateTemp(m.RunDir, "nvram-"); err == nil {
		err = os.Remove(vars.Name())
	}
	if err != nil {
		return files, fmt.Errorf("firmware's variables: %w", err)
	}
	files = append(files, vars)
	st, err := vars.Stat()
	if err != nil {
		return files, err
	}
	from, err := os.Open(d.firmware.Vars)
	if err != nil {
		return files, fmt.Errorf("firmware: %w", err)
	}
	defer from.Close()
	want, err := from.Stat()
	switch {
	case err != nil:
		return files, err
	case st.Size() == want.Size():
		return files, nil
	case st.Size() != 0:
		return files, fmt.Errorf("%w: %s has %d bytes and is of other firmware than %s", zones.ErrInvalid, filepath.Base(m.NVRAM), st.Size(), d.firmware.Code)
	}
	_, err = io.Copy(vars, from)
	return files, errors.Join(err, vars.Sync())
}

// firmwareArguments hand over the two files, which have these numbers in QEMU.
func firmwareArguments(code, vars int) (args []string, machine string) {
	for _, f := range []struct {
		name     string
		fd       int
		readOnly string
	}{{"firmware", code, "on"}, {"nvram", vars, "off"}} {
		args = append(args, "-add-fd", fmt.Sprintf("fd=%d,set=%d", f.fd, f.fd), "-blockdev",
			fmt.Sprintf("driver=raw,node-name=%s,read-only=%s,file.driver=file,file.locking=off,file.filename=/dev/fdset/%d", f.name, f.readOnly, f.fd))
	}
	return args, ",pflash0=firmware,pflash1=nvram"
}
