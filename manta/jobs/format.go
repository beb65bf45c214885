package jobs

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// Buckets. A job's partition is its id; in the first three there is one record, named "job".
const (
	jobBucket    = "manta_jobs"
	gateBucket   = "manta_job_gates"  // whether input is taken, and how much there is
	ownerBucket  = "manta_job_owners" // who may write commits; only Claim writes it
	inputBucket  = "manta_job_inputs" // chunks, named by the number of their first input
	commitBucket = "manta_job_commits"
	outputBucket = "manta_job_outputs" // named as the commit that they are of
	errorBucket  = "manta_job_errors"  // the same
	beatBucket   = "manta_supervisors" // one partition, named by instance
)

var buckets = []metastore.Bucket{
	{Name: jobBucket, Version: 1, Watched: true, Indexes: []metastore.Index{
		{Field: "byOwner", Type: metastore.String},
		{Field: "liveOwner", Type: metastore.String},
		{Field: "live", Type: metastore.Date},
		{Field: "unarchived", Type: metastore.Date},
		{Field: "timeArchiveDone", Type: metastore.Date},
	}},
	{Name: gateBucket, Version: 1, Watched: true},
	{Name: ownerBucket, Version: 1},
	{Name: inputBucket, Version: 1},
	{Name: commitBucket, Version: 1},
	{Name: outputBucket, Version: 1},
	{Name: errorBucket, Version: 1},
	{Name: beatBucket, Version: 1},
}

// format is in every record. That of the first version is left out; a reader refuses a later one.
type format struct {
	Format int `json:"format,omitempty"`
}

func (f format) check() error {
	if f.Format > 1 {
		return fmt.Errorf("record of a newer format %d", f.Format)
	}
	return nil
}

// jobRecord is a job and what its indexes need.
type jobRecord struct {
	format
	Job
	ByOwner    string    `json:"byOwner"`             // owner and time of creation: an account's jobs in order
	LiveOwner  string    `json:"liveOwner,omitempty"` // the same, while the job is not done
	Live       time.Time `json:"live,omitzero"`       // time of creation, while it is not done
	Unarchived time.Time `json:"unarchived,omitzero"` // the same, until its archive is complete
}

// gateRecord is what adders of input agree on.
type gateRecord struct {
	format
	Next   int64     `json:"next"`             // number of the input that comes next
	Closed string    `json:"closed,omitempty"` // why no more comes
	Time   time.Time `json:"time,omitzero"`    // when input came last
}

// Reasons why no input is taken, by the names that clients see.
const (
	closedInputDone = "inputDone"
	closedCancelled = "cancelled"
	closedDone      = "done"
)

type ownerRecord struct {
	format
	Supervisor string `json:"supervisor"`
	Assigned   int64  `json:"assigned"`
}

type inputRecord struct {
	format
	Inputs []string `json:"inputs"`
}

type commitRecord struct {
	format
	Outcomes []Outcome `json:"outcomes,omitempty"`
	Emitted  []Emitted `json:"emitted,omitempty"`
	Retries  int64     `json:"retries,omitempty"`
}

type outputRecord struct {
	format
	Outputs []string `json:"outputs"`
}

type errorRecord struct {
	format
	Errors []Failure `json:"errors"`
}

type beatRecord struct {
	format
	Time time.Time `json:"time"` // for operators
}

func jobKey(id string) metastore.Key { return metastore.Key{Partition: id, Name: "job"} }

// numberKey orders records of a job by number.
func numberKey(id string, n int64) metastore.Key {
	return metastore.Key{Partition: id, Name: fmt.Sprintf("%016x", n)}
}

func parseNumber(k metastore.Key) (n int64, err error) {
	if _, err = fmt.Sscanf(k.Name, "%016x", &n); err != nil || n < 0 {
		return 0, fmt.Errorf("name of record %q/%q is no number", k.Partition, k.Name)
	}
	return n, nil
}

// validID keeps what can be no job's id away from the store.
func validID(id string) bool {
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= 64
}

// decode fills in a record and refuses newer formats.
func decode(r metastore.Record, v interface{ check() error }) error {
	err := json.Unmarshal(r.Value, v)
	if err == nil {
		err = v.check()
	}
	if err != nil {
		return fmt.Errorf("decode record %q/%q of %s: %w", r.Key.Partition, r.Key.Name, r.Bucket, err)
	}
	return nil
}

func decodeJob(r metastore.Record) (*Job, error) {
	var rec jobRecord
	if err := decode(r, &rec); err != nil {
		return nil, err
	}
	return &rec.Job, nil
}

func put(bucket string, key metastore.Key, v any, when metastore.Condition) (metastore.Put, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return metastore.Put{}, fmt.Errorf("encode record of %s: %w", bucket, err)
	}
	if len(raw) > metastore.MaxValue {
		return metastore.Put{}, fmt.Errorf("%w: %d bytes for %s", ErrTooLarge, len(raw), bucket)
	}
	return metastore.Put{Bucket: bucket, Key: key, Value: raw, If: when}, nil
}

func putJob(j *Job, when metastore.Condition) (metastore.Put, error) {
	rec := jobRecord{Job: *j, ByOwner: j.Owner + " " + j.TimeCreated.Format("2006-01-02T15:04:05.000Z")}
	rec.TimeInput = time.Time{} // it is the gate's
	if j.State != Done {
		rec.Live, rec.LiveOwner = j.TimeCreated, rec.ByOwner
	}
	if j.TimeArchiveDone.IsZero() {
		rec.Unarchived = j.TimeCreated
	}
	return put(jobBucket, jobKey(j.ID), &rec, when)
}

func putGate(id string, g *gateRecord, when metastore.Condition) (metastore.Put, error) {
	return put(gateBucket, jobKey(id), g, when)
}
