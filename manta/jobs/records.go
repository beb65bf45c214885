package jobs

import (
	"errors"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Errors of Records; test with errors.Is.
var (
	ErrNotFound = errors.New("jobs: no such job")
	ErrLost     = errors.New("jobs: another supervisor has the job")
)

// Records keeps jobs in a metastore. All records of a job are in one partition, named by its id. Its methods may be called by any number of goroutines
// at once, in any number of processes over one store.
type Records struct {
	store metastore.Store
}
