package jobs

import (
	"fmt"
	"time"
)

// Codes of failures.
const (
	CodeAuthorization      = "AuthorizationError"
	CodeInternal           = "InternalError"
	CodeInvalidArgument    = "InvalidArgumentError"
	CodeResourceNotFound   = "ResourceNotFoundError"
	CodeServiceUnavailable = "ServiceUnavailableError"
	CodeTaskInit           = "TaskInitError"
	CodeTaskKilled         = "TaskKilledError"
	CodeUserTask           = "UserTaskError"
	CodeJobCancelled       = "JobCancelledError"
)

// A Failure is why an input came to nothing: a line of a job's errors.
type Failure struct {
	Phase   int    `json:"phaseNum"`
	Code    string `json:"errorCode"`
	Message string `json:"errorMessage"`
	// Internal is for operators.
	Internal string `json:"errorMessageInternal,omitempty"`

	Input  string `json:"input,omitempty"`   // of the phase; "" for a reducer
	Origin string `json:"p0input,omitempty"` // the job's input that it came of
	Task   string `json:"taskId,omitempty"`
	// Server is the storage id of the node, Machine the zone.
	Server  string `json:"mantaComputeId,omitempty"`
	Machine string `json:"machine,omitempty"`
	// Stderr and Core are paths of objects; "" when there are none.
	Stderr string `json:"stderr,omitempty"`
	Core   string `json:"core,omitempty"`

	Time time.Time `json:"timeCommitted"`
}

// What says in words what failed.
func (f *Failure) What() string {
	if f.Input == "" {
		return fmt.Sprintf("phase %d: reduce", f.Phase)
	}
	what := fmt.Sprintf("phase %d: input %q", f.Phase, f.Input)
	if f.Phase > 0 && f.Origin != "" {
		what += fmt.Sprintf(" (from job input %q)", f.Origin)
	}
	return what
}
