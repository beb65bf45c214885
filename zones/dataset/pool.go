package dataset

import (
	"context"
	"io"
	"time"
)

// Pool holds datasets: trees of files with a name, that can be limited, snapshot, cloned and moved.
//
// A dataset is created empty, cloned from a snapshot, or received; it exists in whole or not at all, whatever
// happens to the process: a verb that was killed at any step is undone or finished when the pool is next opened. A verb that returned
// nil has its outcome on stable storage, unless [Options.Volatile] was asked for. A verb that returned an error left the pool as
// it was, but for verbs that say otherwise.
//
// Files that users write into a dataset are theirs to sync.
//
// User ids on disk are those seen inside a machine (root is 0); a mapping is a matter of the mount, see [Root.Open].
//
// All methods may be called from several goroutines, and several processes may have one pool open: verbs on
// one dataset take turns. Errors match the sentinels of this package.
type Pool interface {
	// Capabilities says what the pool can keep. It does not change while the pool is open.
	Capabilities() Capabilities

	// Create makes an empty dataset: one directory, owner 0:0, mode 0755. [ErrExist] if the name is taken.
	Create(ctx context.Context, name string, o Options) (Info, error)

	// Clone makes a dataset whose content is that of a snapshot, sharing its blocks. As long as the clone
	// lives, its origin cannot be deleted ([ErrDependents]).
	Clone(ctx context.Context, origin Ref, name string, o Options) (Info, error)

	// Get describes one dataset; [ErrNotExist] if it is not there.
	Get(ctx context.Context, name string) (Info, error)

	// List describes all datasets, sorted by name.
	List(ctx context.Context) ([]Info, error)

	// Rename gives a dataset another name, atomically; snapshots, quota and clones go with it. [ErrExist] if the new name is taken.
	Rename(ctx context.Context, from, to string) error

	// Delete removes a dataset with its snapshots. [ErrDependents] if a clone stands on one of them, [ErrNotExist] if
	// it is not there. The name is free at once; space may come back a little later.
	Delete(ctx context.Context, name string) error

	// SetQuota limits the bytes of a dataset and its snapshots; 0 lifts the limit. A limit below what is used stops
	// further writes and loses nothing.
	SetQuota(ctx context.Context, name string, bytes int64) error

	// Snapshot freezes a dataset's content under a name of its own. See Capabilities.LiveSnapshot.
	Snapshot(ctx context.Context, name, snap string) (Snapshot, error)

	// DeleteSnapshot forgets a snapshot; the dataset and other snapshots stay as they are.
	DeleteSnapshot(ctx context.Context, name, snap string) error

	// Rollback makes the dataset what it was at the snapshot and deletes newer snapshots. The caller has stopped
	// whatever uses the dataset. [ErrDependents] if a clone stands on a newer snapshot.
	Rollback(ctx context.Context, name, snap string) error

	// Send writes a snapshot as a stream that Receive takes. With a base, which is an older snapshot of the same dataset, only what changed
	// since. An error may leave a part of the stream written; Receive refuses it.
	Send(ctx context.Context, w io.Writer, from Ref, base string) error

	// Receive makes a dataset from a stream, with a snapshot of the name snap; an incremental stream needs the dataset to exist
	// with the base as its newest snapshot, loses what was written since, and adds the snapshot. The stream is not trusted.
	// Receive reads to the stream's end mark and no further.
	Receive(ctx context.Context, r io.Reader, name, snap string, o Options) (Info, error)

	// Usage says how many bytes a dataset takes. Its cost is a walk over the files unless Capabilities.FastUsage.
	Usage(ctx context.Context, name string) (Usage, error)

	// Stats says how full the pool is.
	Stats(ctx context.Context) (Stats, error)

	// Root says where a dataset's tree is.
	Root(ctx context.Context, name string) (Root, error)

	// SnapshotRoot says where a snapshot's tree is. It is read-only.
	SnapshotRoot(ctx context.Context, ref Ref) (Root, error)

	// Close releases what the open pool holds in this process. Datasets stay mounted wherever they are in use.
	Close() error
}

// Options is how a new dataset is to be kept.
type Options struct {
	// Quota limits the bytes of the dataset with its snapshots; 0 is no limit. What a clone shares with its origin does not count where the
	// pool can tell it apart.
	Quota int64
	// Within names a dataset in whose quota this one is counted; needs Capabilities.SharedQuota, excludes Quota.
	Within string
	// Volatile: the dataset need not survive a power cut, so the pool need not wait for the disk. It does survive the death
	// of the process.
	Volatile bool
}

// Ref names a snapshot of a dataset.
type Ref struct {
	Dataset  string `json:"dataset"`
	Snapshot string `json:"snapshot"`
}

// String gives dataset@snapshot, and "" for the zero Ref.
func (r Ref) String() string {
	if r == (Ref{}) {
		return ""
	}
	return r.Dataset + "@" + r.Snapshot
}

// Info describes a dataset.
type Info struct {
	Name string `json:"name"`
	// Origin is the snapshot that the dataset was cloned from, or zero. It follows a rename of the origin.
	Origin  Ref       `json:"origin,omitzero"`
	Created time.Time `json:"created"`
	// Quota is the limit in bytes, 0 for none.
	Quota int64 `json:"quota,omitzero"`
	// Snapshots are in the order in which they were made.
	Snapshots []Snapshot `json:"snapshots,omitempty"`
}

// Find gives the snapshot of that name.
func (i Info) Find(snap string) (Snapshot, bool) {
	for _, s := range i.Snapshots {
		if s.Name == snap {
			return s, true
		}
	}
	return Snapshot{}, false
}

// Snapshot describes one frozen state of a dataset.
type Snapshot struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// Usage is the space a dataset takes.
type Usage struct {
	// Used are the bytes charged to the dataset and its snapshots.
	Used int64 `json:"used"`
	// Quota is the limit that Used is held against, 0 for none.
	Quota int64 `json:"quota,omitzero"`
}

// Stats is the space of a pool, in bytes.
type Stats struct {
	Size int64 `json:"size"`
	Free int64 `json:"free"`
	// Datasets counts what List would give.
	Datasets int `json:"datasets"`
}
