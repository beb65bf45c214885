package jobs

import (
	"errors"
	"fmt"
)

// Errors of Records; test with errors.Is.
var (
	ErrNotFound = errors.New("jobs: no such job")
	ErrLost     = errors.New("jobs: another supervisor has the job")
	ErrTooLarge = errors.New("jobs: too large for a record")
)

// A StateError refuses what a job's state does not allow.
type StateError struct {
	ID    string // of the job
	State string // "inputDone", "cancelled" or "done"; "running" where only a job that is done will do
}

func (e *StateError) Error() string { return fmt.Sprintf("job %s is in state '%s'", e.ID, e.State) }
