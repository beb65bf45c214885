package jobs

import (
	"cmp"
	"fmt"
	"strconv"
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
	what := fmt.Sprintf("phase %d: input %s", f.Phase, quote(f.Input))
	if f.Phase > 0 && f.Origin != "" {
		what += fmt.Sprintf(" (from job input %s)", quote(f.Origin))
	}
	return what
}

// JobInput returns the input of the job that the failure is of, or "" where that cannot be told: a line of live/fail and fail.txt.
func (f *Failure) JobInput() string {
	if f.Origin == "" && f.Phase == 0 {
		return f.Input
	}
	return f.Origin
}

// quote writes a string as JSON.
func quote(s string) string {
	b, err := Encode(s)
	if err != nil {
		panic(err) // a string
	}
	return string(b)
}

// An ErrorLine is a failure as live/err shows it to users.
type ErrorLine struct {
	Phase   string `json:"phase"`
	What    string `json:"what"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Stderr  string `json:"stderr,omitempty"`
	Core    string `json:"core,omitempty"`
	Input   string `json:"input,omitempty"`
	Origin  string `json:"p0input,omitempty"`
}

// Line returns the failure as live/err shows it.
func (f *Failure) Line() ErrorLine {
	return ErrorLine{
		Phase: strconv.Itoa(f.Phase), What: f.What(), Code: f.Code, Message: f.message(),
		Stderr: f.Stderr, Core: f.Core, Input: f.Input, Origin: f.Origin,
	}
}

// An ArchiveLine is a failure as err.txt in a job's archive has it.
type ArchiveLine struct {
	Task    string `json:"taskId,omitempty"`
	Phase   string `json:"phaseNum"`
	Server  string `json:"server,omitempty"`
	Machine string `json:"machine,omitempty"`
	Input   string `json:"input,omitempty"`
	Origin  string `json:"p0input,omitempty"`
	What    string `json:"what"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Stderr  string `json:"stderr,omitempty"`
	Core    string `json:"core,omitempty"`
}

// ArchiveLine returns the failure as err.txt has it.
func (f *Failure) ArchiveLine() ArchiveLine {
	return ArchiveLine{
		Task: f.Task, Phase: strconv.Itoa(f.Phase), Server: f.Server, Machine: f.Machine, Input: f.Input, Origin: f.Origin,
		What: f.What(), Code: f.Code, Message: f.message(), Stderr: f.Stderr, Core: f.Core,
	}
}

func (f *Failure) message() string { return cmp.Or(f.Message, "unknown error") }
