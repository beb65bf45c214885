package task

import (
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/storage"
)

// Open describes a job to an agent.
type Open struct {
	Job      string       `json:"job"` // id
	Assigned int64        `json:"assigned"`
	Owner    string       `json:"owner"` // uuid of the account
	Login    string       `json:"login"` // of the account
	Token    string       `json:"token"` // for the requests of its tasks
	Phases   []jobs.Phase `json:"phases"`
	Options  jobs.Options `json:"options,omitzero"`
}

// Start describes a task.
type Start struct {
	Job   string `json:"job"`
	Phase int    `json:"phase"`
	// Task is the id of this attempt.
	Task string `json:"task"`
	// Input is a map task's; nil for a reducer.
	Input *Input `json:"input,omitempty"`
	// Reducer is a reducer's index.
	Reducer int `json:"reducer,omitempty"`
}

// An Input is an object that a task reads, found and authorised.
type Input struct {
	// Path as users know it, normalised: /login/stor/a.
	Path string `json:"path"`
	// Origin is the phase-0 input that it came of; "" below a reducer.
	Origin string `json:"p0input,omitempty"`
	// Object names its bytes on the nodes; for an empty object it names nothing.
	Object storage.ObjectID `json:"object,omitzero"`
	Size   int64            `json:"size"`
	// Copies are the ids of the storage nodes that have it.
	Copies []string `json:"copies,omitempty"`
}

// Feed is more input for a reducer, and possibly its end.
type Feed struct {
	Task   string  `json:"task"`
	Inputs []Input `json:"inputs,omitempty"`
	End    bool    `json:"end,omitempty"`
}

// Emit is an object that a task gave out.
type Emit struct {
	Task string `json:"task"`
	// Path, normalised.
	Path string `json:"path"`
	// Reducer is the index that the task asked for, -1 for none.
	Reducer int `json:"reducer"`
}

// Done is the end of a task.
type Done struct {
	Task string `json:"task"`
	// Failure is nil for a task that went well. Its Phase, Input and Origin need not be filled in. What was emitted by a task that failed does not count.
	Failure *jobs.Failure `json:"failure,omitempty"`
	// System says that the failure is none of the task's doing, so that it is worth another attempt.
	System bool `json:"system,omitempty"`
	// Usage is what it took.
	Usage Usage `json:"usage"`
}

// Usage is what a task took, for metering.
type Usage struct {
	WallNS       int64  `json:"wall_ns"`
	UserNS       int64  `json:"user_ns"`
	SystemNS     int64  `json:"system_ns"`
	MemoryMB     int    `json:"memory_mb"`  // of its zone
	PeakBytes    uint64 `json:"peak_bytes"` // of memory, of its zone so far
	ReadBytes    uint64 `json:"read_bytes"` // from disk
	WrittenBytes uint64 `json:"written_bytes"`
	InBytes      uint64 `json:"in_bytes"` // through the task's own door to the store
	OutBytes     uint64 `json:"out_bytes"`
}
