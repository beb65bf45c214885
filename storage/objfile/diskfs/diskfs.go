package diskfs

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"syscall"
)

// An FS is one directory tree. All methods may be called by several goroutines at once. Errors are as in package os: they match
// fs.ErrNotExist and fs.ErrExist, and a full disk is one for which [NoSpace] is true.
//
// A change to a directory (Create, Link, Rename, Remove, Mkdir) is durable after SyncDir of that directory; until then a power cut may keep
// or lose it. Rename is atomic.
type FS interface {
	// Create makes a new file, open for reading and writing. A name that is taken is fs.ErrExist.
	Create(name string) (File, error)

	// CreateTemp makes a file that has no name yet, on the file system of directory dir, open for reading and writing. Permissions are perm.
	CreateTemp(dir string, perm fs.FileMode) (Temp, error)

	// Open opens a file for reading.
	Open(name string) (File, error)

	Mkdir(name string) error
	Remove(name string) error // a file, or an empty directory
	Rename(from, to string) error
	Stat(name string) (fs.FileInfo, error)

	// Names yields the names in a directory, in no order. A name that comes or goes meanwhile may or may not be among them.
	Names(dir string) iter.Seq2[string, error]

	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error

	// Space reports the bytes of the whole file system and those still free to this process.
	Space() (total, free int64, err error)

	// Lock takes the file name, which it makes if need be, for this process alone until the closer is closed or the process ends.
	// It does not wait: a lock that is taken is ErrLocked.
	Lock(name string) (io.Closer, error)
}

// A File is an open file. ReadAt and WriteAt may be called by several goroutines at once.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Sync makes content and size durable. After an error nothing is known about what was written since the last good Sync, and
	// calling Sync again must not be taken for a repair.
	Sync() error

	Truncate(size int64) error
	Size() (int64, error)

	// Preallocate sets size bytes from the start aside, so that writes there cannot run out of space, where the file system can;
	// the size of the file stays as it is.
	Preallocate(size int64) error

	// SetDirect lets reads and writes go past the page cache, or through it again. While it is on, offset, length and the address of the buffer must be
	// multiples of [Align]. It reports whether the file now does as asked.
	SetDirect(on bool) bool

	// Forget drops n bytes from off on from the page cache, if they are clean, so that the next read sees the disk.
	Forget(off, n int64)
}

// A Temp is a new file without a name. Close without Link throws it away.
type Temp interface {
	File

	// Link gives the file its name. A name that is taken is fs.ErrExist.
	Link(name string) error
}

// Align is the alignment in bytes that [File.SetDirect] asks for.
const Align = 4096

// ErrLocked says that another process has the lock.
var ErrLocked = errors.New("diskfs: locked by another process")

// NoSpace tells whether an operation failed because the disk or a quota is full.
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
