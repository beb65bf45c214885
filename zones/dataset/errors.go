package dataset

import (
	"errors"
	"fmt"
	"io/fs"
)

// The states a caller can act on. Test with errors.Is; pools wrap them with the verb and the dataset.
var (
	// ErrNotExist says that no such dataset or snapshot is in the pool. It matches fs.ErrNotExist.
	ErrNotExist = fmt.Errorf("no such dataset: %w", fs.ErrNotExist)
	// ErrExist says that the name is taken. It matches fs.ErrExist.
	ErrExist = fmt.Errorf("dataset exists: %w", fs.ErrExist)
	// ErrBadName says that a dataset's or snapshot's name is not of the form [ValidName] takes.
	ErrBadName = errors.New("bad dataset name")
	// ErrDependents says that clones stand on the dataset or on a snapshot that would vanish.
	ErrDependents = errors.New("dataset has dependents")
	// ErrBusy says that somebody uses the dataset and the pool cannot do the verb beside him.
	ErrBusy = errors.New("dataset is in use")
	// ErrUnsupported says that the pool cannot keep what was asked; [Capabilities] says so beforehand. It matches
	// errors.ErrUnsupported.
	ErrUnsupported = fmt.Errorf("pool cannot do that: %w", errors.ErrUnsupported)
	// ErrNoSpace says that the pool, or the quota, has no room.
	ErrNoSpace = errors.New("no space in pool")
	// ErrBadStream says that what Receive read is not a whole stream that the pool understands.
	ErrBadStream = errors.New("bad dataset stream")
	// ErrNewerFormat says that a newer program wrote the pool's directory.
	ErrNewerFormat = errors.New("pool was written by a newer program")
)
