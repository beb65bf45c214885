package storage

import (
	"context"
	"io"
	"iter"
	"os"
)

// A Node stores whole objects on one server. All methods may be called by any number of goroutines at once.
//
// # Durability
//
// A nil error from [Writer.Commit], Assemble or Delete means that the change is on stable storage. An object is either there with all its
// bytes or not there: a writer that was cancelled, abandoned or killed leaves nothing that a later call can see.
//
// # Integrity
//
// No byte is handed out before the check sum stored with it has been verified. Where the stored bytes are damaged, the copy is moved
// to quarantine: the read ends with [ErrCorrupt] at the last good byte, and the id then behaves as absent, so that
// the copy can be written anew from another node.
//
// # Errors
//
// [ErrNotFound], [ErrExist], [ErrCorrupt], [ErrChecksum], [ErrNoSpace], [ErrReadOnly], [ErrUnavailable], [ErrInvalid], or the context's error;
// anything else is a fault of the node. After ErrUnavailable from a change, it may or may not have happened: every change may be repeated safely.
type Node interface {
	// Create begins a new object. It fails at once when the node cannot take it (no space for Size, read-only,
	// unreachable); nothing is visible before Commit. An id that exists is found out at Commit. ctx governs the writer
	// until it ends.
	Create(ctx context.Context, id ObjectID, o CreateOptions) (Writer, error)

	// Open returns the n bytes from off on, to be read and closed by the caller; n < 0 means to the end. A range that is not
	// inside the object is [ErrInvalid]. The reader honours ctx.
	Open(ctx context.Context, id ObjectID, off, n int64) (io.ReadCloser, Info, error)

	// Stat describes an object without reading its content.
	Stat(ctx context.Context, id ObjectID) (Info, error)

	// Delete takes an object away. Its bytes stay behind a tombstone for the node's grace period, during which Undelete brings them
	// back. Deleting what is not there is no error.
	Delete(ctx context.Context, id ObjectID) error

	// Undelete brings a deleted object back within its grace period; later it is ErrNotFound. Undeleting a live object is no error.
	Undelete(ctx context.Context, id ObjectID) error

	// List yields the live objects after an id (the zero id for all), in order of id.
	List(ctx context.Context, after ObjectID) iter.Seq2[Info, error]

	// Verify reads all of an object and checks it.
	Verify(ctx context.Context, id ObjectID) (Info, error)

	// Assemble makes a new object out of the concatenation of others on the same node, in order, without moving the
	// bytes through the caller. The sources stay. A target that exists with the same size and sources' content is
	// accepted, so that a repetition is safe. size must be the sum of the sources ([ErrChecksum]).
	Assemble(ctx context.Context, target ObjectID, sources []ObjectID, size int64) (Info, error)

	// Usage reports capacity and health.
	Usage(ctx context.Context) (Usage, error)
}

// A FileOpener is a Node on this very server that can hand out the files of its objects, for programs that want an object as a file. OpenFile returns a
// file with exactly the object's bytes, open for reading; it stays readable after a Delete for as long as it is open. The bytes are not verified on this way;
// call Verify before where that matters. An object that has no file of its own is errors.ErrUnsupported.
type FileOpener interface {
	Node
	OpenFile(ctx context.Context, id ObjectID) (*os.File, Info, error)
}

// CreateOptions tell a node about the object to come.
type CreateOptions struct {
	// Size in bytes, or -1 when unknown. A writer that sends another number of bytes fails at Commit with ErrChecksum.
	Size int64
}

// A Writer receives the content of one new object. It belongs to one goroutine. Exactly one of Commit and Cancel ends it; Cancel after Commit does nothing, so it can be
// deferred.
type Writer interface {
	// Write takes the next bytes. It does not keep p. After an error only Cancel makes sense.
	io.Writer

	// Commit makes the object durable and visible. The node compares what it received with sums: a difference is [ErrChecksum] and nothing
	// is kept. If the id is there already with the same sums, that is success; with others, [ErrExist].
	Commit(ctx context.Context, sums Sums) (Info, error)

	// Cancel throws away what was written.
	Cancel()
}
