package metastore

import (
	"context"
	"iter"
)

// A Mover is a store that can hand records over as they are, and take them: what metastore/shard needs to move partitions from one
// store to another. It is for that alone. Implementing it is optional; all stores of this module do.
type Mover interface {
	Store

	// Counters yields the bucket's counters that are not 0, in key order. One that changes meanwhile may be in its older or newer state.
	Counters(ctx context.Context, bucket string) iter.Seq2[CounterItem, error]

	// Import replaces records and counters all together, if the check holds; else it is a [*ConditionError]. Records keep their etag and time.
	// Nothing of it goes to the change log. It is durable and atomic as Commit is, and keeps indexes and unique values.
	Import(ctx context.Context, check Check, items []MoveItem) error
}

// A CounterItem is a counter with its value.
type CounterItem struct {
	Key   Key
	Value int64
}

// A MoveItem says what is to be under a key: a record, or none if it is nil; or for a counter its value.
type MoveItem struct {
	Bucket  string
	Key     Key
	Counter bool
	Value   int64   // of a counter
	Record  *Record // of a record
}
