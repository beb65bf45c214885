package metastore

import (
	"errors"
	"fmt"
)

// Errors that callers act on; test with errors.Is.
var (
	ErrNotFound      = errors.New("metastore: no such record")
	ErrConflict      = errors.New("metastore: condition does not hold")
	ErrNotUnique     = errors.New("metastore: value of a unique field is taken")
	ErrNotIndexed    = errors.New("metastore: no index answers the query")
	ErrNoBucket      = errors.New("metastore: no such bucket")
	ErrBucketVersion = errors.New("metastore: a newer schema is stored")
	ErrCrossShard    = errors.New("metastore: batch spans shards")
	ErrInvalid       = errors.New("metastore: invalid argument")
	ErrPositionGone  = errors.New("metastore: change log no longer reaches back to the position")
	ErrUnavailable   = errors.New("metastore: store cannot be reached")               // a retry later may succeed
	ErrReadOnly      = errors.New("metastore: partition is read-only while it moves") // a retry in a moment will succeed
	ErrClosed        = errors.New("metastore: store is closed")
)

// A ConditionError says which operation of a batch was refused, and why. It is [ErrConflict].
type ConditionError struct {
	Op     int // index in the batch
	Bucket string
	Key    Key
	Want   Condition // of a Put, Delete or Check; the zero value for a CheckCounter
	Got    string    // the record's etag, "" for none; for a CheckCounter the value in decimal
}

func (e *ConditionError) Error() string {
	return fmt.Sprintf("metastore: operation %d on %s %q/%q: want %v, got %q", e.Op, e.Bucket, e.Key.Partition, e.Key.Name, e.Want, e.Got)
}

// Is makes the error match [ErrConflict].
func (e *ConditionError) Is(target error) bool { return target == ErrConflict }

// A UniqueError says which unique field of which operation's record was taken. It is [ErrNotUnique].
type UniqueError struct {
	Op     int // index in the batch; -1 for Reindex
	Bucket string
	Field  string
	Key    Key // the record that was refused
}

func (e *UniqueError) Error() string {
	return fmt.Sprintf("metastore: operation %d on %s %q/%q: value of unique field %s is taken", e.Op, e.Bucket, e.Key.Partition, e.Key.Name, e.Field)
}

// Is makes the error match [ErrNotUnique].
func (e *UniqueError) Is(target error) bool { return target == ErrNotUnique }
