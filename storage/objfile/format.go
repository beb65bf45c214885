package objfile

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile/diskfs"
)

const (
	formatName    = "FORMAT"
	formatVersion = 1
)

// openFormat reads the file that says what the directory is, and begins a store if there is nothing. The salt that binds every record to its
// store is also in every segment, so a lost or damaged FORMAT is made anew from there.
func openFormat(disk diskfs.FS) (salt uint64, err error) {
	b, err := readSmall(disk, formatName)
	switch {
	case err == nil:
		version, salt, ok := parseFormat(b)
		if ok && version != formatVersion {
			return 0, fmt.Errorf("the store has format %d, this program knows %d: use a newer program", version, formatVersion)
		}
		if ok {
			return salt, nil
		}
	case !isNotExist(err):
		return 0, fmt.Errorf("read %s: %w", formatName, err)
	}
	segs, err := segmentNumbers(disk)
	if err != nil {
		return 0, err
	}
	found := false
	for _, n := range slices.Backward(segs) {
		head, err := readSegmentHead(disk, n)
		if err == nil {
			salt, found = head.salt, true
			break
		}
		if !errors.Is(err, errRecord) {
			return 0, err
		}
	}
	if !found {
		var random [8]byte
		if _, err := rand.Read(random[:]); err != nil {
			return 0, err
		}
		salt = binary.LittleEndian.Uint64(random[:])
	}
	return salt, writeFormat(disk, salt)
}

// parseFormat reads a FORMAT file. Every version begins with the version and ends with the check sum of all before it.
func parseFormat(b []byte) (version int, salt uint64, ok bool) {
	const tail = len("crc32c 00000000\n")
	if len(b) < tail {
		return 0, 0, false
	}
	head, sum := b[:len(b)-tail], b[len(b)-tail:]
	if string(sum) != fmt.Sprintf("crc32c %08x\n", checksum(head)) {
		return 0, 0, false
	}
	n, err := fmt.Sscanf(string(head), "mobula objfile %d\nsalt %016x\n", &version, &salt)
	return version, salt, err == nil || n >= 1 && version != formatVersion
}

func formatFile(version int, salt uint64) []byte {
	b := fmt.Appendf(nil, "mobula objfile %d\nsalt %016x\n", version, salt)
	return fmt.Appendf(b, "crc32c %08x\n", checksum(b))
}

func writeFormat(disk diskfs.FS, salt uint64) error {
	const temp = formatName + ".new"
	if err := disk.Remove(temp); err != nil && !isNotExist(err) {
		return err
	}
	f, err := disk.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(formatFile(formatVersion, salt), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", formatName, err)
	}
	if err := disk.Rename(temp, formatName); err != nil {
		return err
	}
	return disk.SyncDir(".")
}

func readSmall(disk diskfs.FS, name string) ([]byte, error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 4096)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

func readSegmentHead(disk diskfs.FS, n uint64) (segmentHead, error) {
	f, err := disk.Open(segmentName(n))
	if err != nil {
		return segmentHead{}, err
	}
	defer f.Close()
	var b [segmentHeader]byte
	if k, err := f.ReadAt(b[:], 0); err != nil && err != io.EOF {
		return segmentHead{}, fmt.Errorf("%w: read segment %d: %w", storage.ErrUnavailable, n, err)
	} else if k < len(b) {
		return segmentHead{}, errRecord
	}
	head, err := parseSegmentHead(b[:])
	if err == nil && head.number != n {
		err = errRecord
	}
	return head, err
}
