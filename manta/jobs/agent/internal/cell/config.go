package cell

import (
	"errors"
	"log/slog"
	"os"
)

// Config describes a set of cells.
type Config struct {
	// Dir holds file systems and images. Required; one process at a time has it.
	Dir string
	// RunDir holds what need not outlive a boot; "" means a directory below /run that follows from Dir.
	RunDir string
	// Zones is how many there may be, Warm how many stand ready unused. Required.
	Zones, Warm int
	// Memory and Disk in bytes are what every zone has.
	Memory, Disk int64
	// DiskSize in bytes is how large the loop file of the file systems may grow; 0 means 64 GiB.
	DiskSize int64
	// Processes is how many threads and processes a zone may have.
	Processes int64
	// Tools is a program that is shown in zones under each of Names; "" means none.
	Tools string
	Names []string
	// FirstID is the first of the user ids that zones are given, 65,536 each; 0 means one that follows from Dir.
	FirstID uint32
	// Plain keeps file systems in plain overlays even where btrfs is possible.
	Plain bool

	Logger *slog.Logger
}

// Places inside a zone.
const (
	InputDir = "/manta"
	AssetDir = "/assets"
	ToolDir  = "/opt/mobula/bin"
)

// Path is the PATH of programs in a zone.
const Path = ToolDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ErrInUse says that another process has the directory.
var ErrInUse = errors.New("another process has it")

// Core is a core dump that programs left in the root directory, which is where they begin.
type Core struct {
	File *os.File
	// Program is the name of the one that died.
	Program string
}
