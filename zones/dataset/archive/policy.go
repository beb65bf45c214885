package archive

import (
	"errors"
	"fmt"
)

// ErrRefused is an archive that was not unpacked to its end because of what is in it.
var ErrRefused = errors.New("archive refused")

// Policy bounds what Extract takes. The zero value is safe and roomy.
type Policy struct {
	// MaxBytes bounds the bytes of all files together; 0 means 64 GiB.
	MaxBytes int64
	// MaxEntries bounds the number of entries; 0 means two million.
	MaxEntries int
	// MaxID is the highest user or group id; 0 means 65535. A machine has no higher ones, so such files would be nobody's.
	MaxID int
	// SkipDevices leaves device nodes out instead of refusing the archive: images made by debootstrap hold
	// some below /dev, where a machine has its own anyway.
	SkipDevices bool
	// Whiteouts reads the archive as an OCI layer: ".wh.name" deletes name, ".wh..wh..opq" what lower layers have in a directory.
	Whiteouts bool
}

func (p Policy) withDefaults() Policy {
	if p.MaxBytes == 0 {
		p.MaxBytes = 64 << 30
	}
	if p.MaxEntries == 0 {
		p.MaxEntries = 2_000_000
	}
	if p.MaxID == 0 {
		p.MaxID = 65535
	}
	return p
}

// Stats is what Extract unpacked.
type Stats struct {
	Entries int
	// Bytes are those of file contents.
	Bytes int64
}

func refuse(name, format string, args ...any) error {
	return fmt.Errorf("%w: %.200q: %s", ErrRefused, name, fmt.Sprintf(format, args...))
}
