package jobs

import (
	"log/slog"
	"time"
)

// State is how far a job is.
type State string

// States of a job, by the original's names. A job that was cancelled ends as done.
const (
	Queued  State = "queued"  // no supervisor has it yet
	Running State = "running" // one has
	Done    State = "done"    // nothing more will happen to its outputs and errors
)

// A Job is the record of a compute job.
type Job struct {
	ID        string  `json:"jobId"`
	Name      string  `json:"name"`
	Owner     string  `json:"owner"` // uuid of the account that it belongs to
	Login     string  `json:"login"` // of that account when the job was made; paths of its objects begin with it
	Auth      Auth    `json:"auth"`
	Phases    []Phase `json:"phases"`
	Transient bool    `json:"transient"`
	Options   Options `json:"options,omitzero"`

	State State `json:"state"`
	// Supervisor is the instance that has it; Assigned counts how many had it so far, and orders them.
	Supervisor string `json:"worker,omitempty"`
	Stats      Stats  `json:"stats"`

	TimeCreated        time.Time `json:"timeCreated"`
	TimeAssigned       time.Time `json:"timeAssigned,omitzero"`
	TimeInputDone      time.Time `json:"timeInputDone,omitzero"`
	TimeCancelled      time.Time `json:"timeCancelled,omitzero"`
	TimeDone           time.Time `json:"timeDone,omitzero"`
	TimeArchiveStarted time.Time `json:"timeArchiveStarted,omitzero"`
	TimeArchiveDone    time.Time `json:"timeArchiveDone,omitzero"`
	// TimeInput is when input came last.
	TimeInput time.Time `json:"timeInput,omitzero"`
}

// InputDone reports whether no more input can come.
func (j *Job) InputDone() bool { return !j.TimeInputDone.IsZero() || j.Cancelled() }

// Cancelled reports whether somebody asked for the job to end.
func (j *Job) Cancelled() bool { return !j.TimeCancelled.IsZero() }

// LogValue is the job's id: a log is no place for the rest.
func (j *Job) LogValue() slog.Value { return slog.StringValue(j.ID) }

// Auth is on whose behalf a job runs.
type Auth struct {
	// Token authenticates the job's requests as its creator's, with the roles that were active when it was made. It is a secret: no
	// listing or log shows it.
	Token string `json:"token"`
	// Login is the creator's, account or account/user; UUID is the account's, User the user's or "".
	Login string `json:"login"`
	UUID  string `json:"uuid"`
	User  string `json:"user,omitempty"`
}

// String returns the login, so that no text that a job is put into shows the token.
func (a Auth) String() string { return a.Login }

// LogValue is the same for logs.
func (a Auth) LogValue() slog.Value { return slog.StringValue(a.Login) }

// Options of a job, which only operators may set.
type Options struct {
	FrequentCheckpoint bool `json:"frequentCheckpoint,omitempty"`
}

// Stats are a job's counters. They never count a task twice, and are final once the job is done.
type Stats struct {
	Assigns     int64 `json:"nAssigns"`
	InputsRead  int64 `json:"nInputsRead"`
	Tasks       int64 `json:"nTasksDispatched"`
	TasksOK     int64 `json:"nTasksCommittedOk"`
	TasksFailed int64 `json:"nTasksCommittedFail"`
	Outputs     int64 `json:"nJobOutputs"`
	Errors      int64 `json:"nErrors"`
	Retries     int64 `json:"nRetries"`
}
