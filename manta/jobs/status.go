package jobs

import (
	"bytes"
	"encoding/json"
	"time"
)

// A Status is a job as users see it: what live/status answers, and job.json in its archive. It marshals as the original's does.
type Status struct {
	ID                 string      `json:"id"`
	Name               string      `json:"name"`
	State              State       `json:"state"`
	Cancelled          bool        `json:"cancelled"`
	InputDone          bool        `json:"inputDone"`
	Transient          bool        `json:"transient"`
	Stats              StatusStats `json:"stats"`
	TimeCreated        Timestamp   `json:"timeCreated"`
	TimeDone           Timestamp   `json:"timeDone,omitzero"`
	TimeArchiveStarted Timestamp   `json:"timeArchiveStarted,omitzero"`
	TimeArchiveDone    Timestamp   `json:"timeArchiveDone,omitzero"`
	Phases             []Phase     `json:"phases"`
	Options            *Options    `json:"options,omitempty"`
}

// StatusStats are counters of a job as users see them.
type StatusStats struct {
	Errors    int64 `json:"errors"`
	Outputs   int64 `json:"outputs"`
	Retries   int64 `json:"retries"`
	Tasks     int64 `json:"tasks"`
	TasksDone int64 `json:"tasksDone"`
}

// Status returns the job as users see it.
func (j *Job) Status() Status {
	s := Status{
		ID: j.ID, Name: j.Name, State: j.State, Cancelled: j.Cancelled(), InputDone: j.InputDone(), Transient: j.Transient,
		Stats: StatusStats{
			Errors: j.Stats.Errors, Outputs: j.Stats.Outputs, Retries: j.Stats.Retries,
			Tasks: j.Stats.Tasks, TasksDone: j.Stats.TasksOK + j.Stats.TasksFailed,
		},
		TimeCreated: Timestamp(j.TimeCreated), TimeDone: Timestamp(j.TimeDone),
		TimeArchiveStarted: Timestamp(j.TimeArchiveStarted), TimeArchiveDone: Timestamp(j.TimeArchiveDone),
		Phases: j.Phases,
	}
	if j.Options != (Options{}) {
		s.Options = &j.Options
	}
	return s
}

// A Timestamp is a time that marshals with milliseconds, as in all of the protocol.
type Timestamp time.Time

// IsZero reports whether it is no time.
func (t Timestamp) IsZero() bool { return time.Time(t).IsZero() }

// MarshalJSON writes the time in UTC.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// UnmarshalJSON reads a time.
func (t *Timestamp) UnmarshalJSON(b []byte) error { return (*time.Time)(t).UnmarshalJSON(b) }

// Encode returns a value as one line of JSON, without the line's end. Unlike json.Marshal it leaves characters of HTML as they are: nobody shows
// these lines as HTML, but people read them.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
