package metastore

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// A Store keeps typed records in buckets. All methods may be called by any number of goroutines at once.
//
// # Vocabulary
//
// A bucket is a named set of records with a schema (see [Bucket]). A record is a JSON object under a [Key]: a partition
// and a name in it. All records of one partition, in every bucket, live together on one shard, ordered by name; a directory
// of the object store is one partition, so a page of a listing is one run of an ordered iterator. The partition "" is
// an ordinary one, which small buckets (accounts, servers) use for everything.
//
// An etag identifies one state of a record: it changes with every put or update, even to an equal value, and is never used
// twice for the same key. A version orders the commits of one shard.
//
// # Durability and isolation
//
// A nil error from Commit means that all of the batch is on stable storage. After any other outcome, a lost
// process included, all of it is there or nothing of it is. A batch is atomic and isolated: conditions are
// evaluated and changes applied at one point in time. A Get or Find that starts after Commit has returned sees its changes. A reader may
// see a change a moment before it is durable, never a part of a batch.
//
// # Ownership
//
// Values passed in are not kept after a method returns and values handed out belong to the caller.
type Store interface {
	// Define creates a bucket, or changes its schema when b.Version is higher than the stored one. The same schema
	// again is no change; a lower version is [ErrBucketVersion], and another schema under the stored version [ErrInvalid].
	// An index that is new to a bucket with records, or whose type changed, answers no query
	// ([ErrNotIndexed]) until Reindex has reported nothing left. A sharded store refuses less: it may answer a query of a partition
	// whose shard has its part of the index complete.
	Define(ctx context.Context, b Bucket) error

	// Buckets returns all schemas, by name.
	Buckets(ctx context.Context) ([]Bucket, error)

	// Drop removes a bucket with its records, counters and changes. A bucket that is not there is no error.
	Drop(ctx context.Context, bucket string) error

	// Reindex brings up to n records of the bucket to its newest schema and returns about how many are left; 0 means
	// exactly none. It may be interrupted and repeated at will. A stored value that does not fit a new index is left out of it. One
	// that is not unique where it has to be is [ErrNotUnique]: mend the record, then go on.
	Reindex(ctx context.Context, bucket string, n int) (left int, err error)

	// Get returns the record, or [ErrNotFound].
	Get(ctx context.Context, bucket string, key Key) (Record, error)

	// Commit carries out a batch: see [Batch]. If a condition does not hold, the error is a [*ConditionError] (which is
	// [ErrConflict]) that names the first operation refused, and nothing was changed.
	Commit(ctx context.Context, b Batch) (Result, error)

	// Find yields the records that a query selects, in its order, without holding more than a page in memory. The sequence
	// ends after an error, which is its last element. A record that changes while the query runs may be yielded in
	// its older or newer state; one that is untouched is yielded exactly once.
	Find(ctx context.Context, bucket string, q Query) iter.Seq2[Record, error]

	// Counter returns the value of a counter; one never added to is 0.
	Counter(ctx context.Context, bucket string, key Key) (int64, error)

	// Position returns the present end of the change log.
	Position(ctx context.Context) (Position, error)

	// Watch yields the changes of the named buckets after a position, then waits for more, until ctx ends (its error is then the last
	// element). Every change of a watched bucket is followed by at least one notice for its key: notices of the same key may be merged, and the
	// order is that of commits for one key. If the log no longer reaches back to the position the error is
	// [ErrPositionGone]: take Position, list, then watch from there. Only buckets defined with Watched may be named.
	// The changes of one batch to different keys may come apart, and keys changed at the same time in either order.
	Watch(ctx context.Context, after Position, buckets ...string) iter.Seq2[Change, error]

	// Colocated reports whether one batch may touch all these partitions.
	// It is always true for one partition, and for any on a store that is not sharded.
	Colocated(partitions ...string) bool

	// Close releases the store. Calls under way end with an error or complete; later ones fail with [ErrClosed].
	Close() error
}

// A Key is the address of a record within its bucket. Both parts are UTF-8 without NUL, at most [MaxKeyPart] bytes each;
// Name orders bytewise within Partition (see [Key.Compare] for names beyond [OrderedPrefix]).
type Key struct {
	Partition string `json:"partition"`
	Name      string `json:"name"`
}

// MaxKeyPart is the greatest length of a partition or a name, in bytes. It leaves room for paths of 4 KiB.
const MaxKeyPart = 8 << 10

// MaxValue is the greatest length of a record's value, in bytes.
const MaxValue = 1 << 20

// MaxBatchOps is the greatest number of operations in one batch.
const MaxBatchOps = 10000

// MaxIndexed is the greatest length of a string in an index, in bytes; a longer one refuses the put with [ErrInvalid].
const MaxIndexed = 1 << 10

// MaxElements is the greatest number of elements of an indexed array.
const MaxElements = 4096

// A Record is one stored value.
type Record struct {
	Bucket   string
	Key      Key
	Value    json.RawMessage // a JSON object
	Etag     string          // opaque; changes with every put
	Modified time.Time       // when the record was last put, by the store's clock
}

// A Batch is a list of operations that are carried out all together or not at all. Conditions and counter checks
// are evaluated against the state before the batch; the operations then apply in order. A batch touches one partition, or several that are [Store.Colocated];
// otherwise it is [ErrCrossShard]. A key may be written once in a batch.
type Batch []Op

// An Op is one of [Put], [Delete], [Check], [Add], [CheckCounter], [UpdateMany] and [DeleteMany].
type Op interface{ isOp() }

// Put stores a value under a key.
type Put struct {
	Bucket string
	Key    Key
	Value  json.RawMessage
	If     Condition
}

// Delete removes a record. Removing one that is not there is no error unless If says so.
type Delete struct {
	Bucket string
	Key    Key
	If     Condition
}

// Check changes nothing and refuses the batch unless the condition holds.
type Check struct {
	Bucket string
	Key    Key
	If     Condition
}

// Add changes a counter by Delta. Counters live beside records, under keys of their own, and come into being at 0.
// Concurrent adds to one counter do not conflict.
type Add struct {
	Bucket string
	Key    Key
	Delta  int64
}

// CheckCounter refuses the batch unless Min <= value <= Max. Unlike an Add, which many batches may make to a counter at once, it has the
// counter to itself until the batch is in: on PostgreSQL until it is durable. Do not put one into every create of an entry; a limit
// that may be passed by a few is better looked up with [Store.Counter] before.
type CheckCounter struct {
	Bucket   string
	Key      Key
	Min, Max int64
}

// UpdateMany sets top-level fields in every record that the query selects, at most Query.Limit of them
// (1,000 if 0, 10,000 at most); a nil value removes the field. Query must be answerable by an index or name a partition.
//
// UpdateMany and DeleteMany select from the state before the batch, leaving out the keys that another operation of the batch
// writes: those named in a Put or Delete, and those that an earlier UpdateMany or DeleteMany has selected; the limit counts them all the same. Both hold up all other commits to
// the bucket while they run, so keep their limits small.
type UpdateMany struct {
	Bucket string
	Query  Query
	Set    map[string]any
}

// DeleteMany removes the records that the query selects; limits as [UpdateMany].
type DeleteMany struct {
	Bucket string
	Query  Query
}

func (Put) isOp()          {}
func (Delete) isOp()       {}
func (Check) isOp()        {}
func (Add) isOp()          {}
func (CheckCounter) isOp() {}
func (UpdateMany) isOp()   {}
func (DeleteMany) isOp()   {}

// A Condition says in which state a record must be for an operation to go ahead. The zero value accepts any state.
type Condition struct {
	state conditionState
	etag  string
}

type conditionState uint8

const (
	anyState conditionState = iota
	absent
	present
	etagIs
)

// Absent holds when there is no record under the key.
func Absent() Condition { return Condition{state: absent} }

// Present holds when there is a record under the key.
func Present() Condition { return Condition{state: present} }

// EtagIs holds when the record is there with this etag. EtagIs("") is [Absent], so that an etag read
// from a missing record can be passed on as it is.
func EtagIs(etag string) Condition {
	if etag == "" {
		return Absent()
	}
	return Condition{state: etagIs, etag: etag}
}

// Unconditional reports whether the condition accepts any state.
func (c Condition) Unconditional() bool { return c.state == anyState }

// Holds reports whether a record in this state ("" for none) satisfies the condition.
func (c Condition) Holds(etag string) bool {
	switch c.state {
	case absent:
		return etag == ""
	case present:
		return etag != ""
	case etagIs:
		return etag == c.etag
	}
	return true
}

// String describes the condition for errors.
func (c Condition) String() string {
	switch c.state {
	case absent:
		return "absent"
	case present:
		return "present"
	case etagIs:
		return "etag " + c.etag
	}
	return "any"
}

// A Result tells what a batch did.
type Result struct {
	Etags    []string // for each operation: the new etag of a Put, otherwise ""
	Counts   []int    // for each operation: records touched by UpdateMany and DeleteMany
	Position Position // just after this batch
}

// A Query selects records of one bucket.
//
// It must be answerable without reading everything: it names a Partition, or its Filter or OrderBy can use
// an index; else it is [ErrNotIndexed], unless Scan says that reading all is meant (background work only).
type Query struct {
	// Partition restricts the query to one partition; nil means all of them.
	Partition *string

	// Filter selects records; nil selects all. It is applied before Limit.
	Filter Filter

	// OrderBy names an indexed field that is no array to sort by; "" is key order ([Key.Compare]). Ties are in key order. Records without the
	// field are left out. With Partition the index must be [PerPartition] or global; without, it must be global.
	OrderBy    string
	Descending bool

	// From is where to begin, inclusive, in the direction of the order: in key order a name (string; needs Partition), with OrderBy
	// a value of the field (string, float64, bool or time.Time by its type). nil means at the end that comes first.
	From any

	// After continues strictly after this record, which need not exist any more; it needs the same order as the
	// query that yielded it. With After, From is ignored.
	After *Record

	// Limit is the greatest number of records; 0 means no limit (but see UpdateMany).
	Limit int

	// Scan allows a query that no index can answer.
	Scan bool
}

// In returns a pointer to a partition's name for [Query.Partition].
func In(partition string) *string { return &partition }

// A Position is a place in a store's change log. It is opaque; "" is the beginning of what the log retains.
type Position string

// A Change says that a record was put or removed.
type Change struct {
	Position Position // pass to Watch to continue after this change
	Bucket   string
	Key      Key
	Record   *Record // the record in the state that the change left or a newer one; nil when it is gone
}
