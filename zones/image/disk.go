package image

import (
	"encoding/binary"
	"fmt"
)

// DiskName is what an installed disk image is called in its dataset, with its format as ending: "disk.raw", "disk.qcow2".
const DiskName = "disk"

// diskFormat tells a disk image's format by its first bytes, and refuses a qcow2 image that leads to other files of the host:
// whoever opened it would show them to the guest.
func diskFormat(head []byte) (string, error) {
	if len(head) < 32 || string(head[:4]) != "QFI\xfb" {
		return "raw", nil
	}
	version := binary.BigEndian.Uint32(head[4:])
	if version != 2 && version != 3 {
		return "", fmt.Errorf("%w: qcow2 version %d", ErrRefused, version)
	}
	if binary.BigEndian.Uint64(head[8:]) != 0 {
		return "", fmt.Errorf("%w: the qcow2 image stands on another file", ErrRefused)
	}
	if version == 3 {
		if len(head) < 104 {
			return "", fmt.Errorf("%w: qcow2 header cut short", ErrRefused)
		}
		const externalData = 1 << 2
		if binary.BigEndian.Uint64(head[72:])&externalData != 0 {
			return "", fmt.Errorf("%w: the qcow2 image has its data in another file", ErrRefused)
		}
	}
	return "qcow2", nil
}

// qcow2Size is the size of the disk that a qcow2 image holds, in bytes.
func qcow2Size(head []byte) int64 {
	if len(head) < 32 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(head[24:]))
}
