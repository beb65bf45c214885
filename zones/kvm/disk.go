package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mobulacloud/mobula/zones"
)

// checkImage refuses what QEMU would follow to another file of the host: a qcow2 image may name a backing file or keep its
// data elsewhere, and images come from tenants.
func checkImage(r io.ReaderAt, format string) error {
	if format == "raw" {
		return nil
	}
	if format != "qcow2" {
		return fmt.Errorf("%w: disk format %q", zones.ErrInvalid, format)
	}
	var h [80]byte
	n, err := r.ReadAt(h[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n < 72 || string(h[:4]) != "QFI\xfb" {
		return fmt.Errorf("%w: not a qcow2 image", zones.ErrInvalid)
	}
	version := binary.BigEndian.Uint32(h[4:])
	if version != 2 && version != 3 {
		return fmt.Errorf("%w: qcow2 version %d", zones.ErrNotSupported, version)
	}
	if binary.BigEndian.Uint64(h[8:]) != 0 || binary.BigEndian.Uint32(h[16:]) != 0 {
		return fmt.Errorf("%w: qcow2 image with a backing file", zones.ErrNotSupported)
	}
	if version == 3 {
		if n < 80 {
			return fmt.Errorf("%w: qcow2 header cut off", zones.ErrInvalid)
		}
		const externalData = 1 << 2
		if binary.BigEndian.Uint64(h[72:])&externalData != 0 {
			return fmt.Errorf("%w: qcow2 image with its data in another file", zones.ErrNotSupported)
		}
	}
	return nil
}

// openDisk opens a drive as it is to be used.
func openDisk(d zones.Disk) (*os.File, error) {
	mode := os.O_RDWR
	if readOnly(d) {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(d.Path, mode, 0)
	if err != nil {
		return nil, fmt.Errorf("open disk: %w", err)
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() && st.Mode()&os.ModeDevice == 0 {
		f.Close()
		return nil, fmt.Errorf("%w: disk %s is neither a file nor a device", zones.ErrInvalid, d.Path)
	}
	if err := checkImage(f, d.Format); err != nil {
		f.Close()
		return nil, fmt.Errorf("disk %s: %w", d.Path, err)
	}
	return f, nil
}

func readOnly(d zones.Disk) bool { return d.ReadOnly || d.Media == "cdrom" }
