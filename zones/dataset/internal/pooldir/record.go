package pooldir

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/internal/statefile"
)

// Version is the newest format of mobula.json and record.json.
const Version = 1

// Record is a dataset as it is stored. Ids stay when names change.
type Record struct {
	Version   int        `json:"version"`
	ID        string     `json:"id"`
	Created   time.Time  `json:"created"`
	Quota     int64      `json:"quota,omitzero"`
	Group     uint64     `json:"group,omitzero"` // btrfs: its quota group
	Volatile  bool       `json:"volatile,omitempty"`
	Origin    Origin     `json:"origin,omitzero"`
	Snapshots []Snapshot `json:"snapshots,omitempty"`
	Lower     []string   `json:"lower,omitempty"` // overlay: layer ids, topmost first
	// Pending is a change of several steps that the next Open finishes or undoes; the driver says which.
	Pending *Pending `json:"pending,omitempty"`
}

// Origin is the snapshot that a dataset was cloned from.
type Origin struct {
	Dataset  string `json:"dataset"`
	Name     string `json:"name"` // as it was called then; a hint
	Snapshot string `json:"snapshot"`
}

// Snapshot is one snapshot as it is stored.
type Snapshot struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Stream  string    `json:"stream,omitempty"` // the sender's uuid, if it was received
	Lower   []string  `json:"lower,omitempty"`  // overlay: its layers
}

// Pending says which verb is under way.
type Pending struct {
	Verb     string `json:"verb"`
	Snapshot string `json:"snapshot,omitempty"`
	Layer    string `json:"layer,omitempty"`
}

// Find gives the index of a snapshot by name, -1 if it is not there.
func (r *Record) Find(name string) int {
	for i, s := range r.Snapshots {
		if s.Name == name {
			return i
		}
	}
	return -1
}

// Load reads the record in a dataset's directory.
func Load(dir string) (Record, error) {
	b, err := os.ReadFile(filepath.Join(dir, "record.json"))
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("record of dataset %s: %w", filepath.Base(dir), err)
	}
	if r.Version > Version {
		return Record{}, fmt.Errorf("record of dataset %s has version %d: %w", filepath.Base(dir), r.Version, dataset.ErrNewerFormat)
	}
	return r, nil
}

// Save writes the record into a dataset's directory, atomically and durably, unless the dataset is volatile.
func Save(dir string, r Record) error {
	r.Version = Version
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "record.json"), b, !r.Volatile)
}

func writeFile(path string, b []byte, durable bool) error {
	write := statefile.Write
	if !durable {
		write = statefile.WriteVolatile
	}
	return write(statefile.OS{}, statefile.TempFor(path), path, b)
}

// SyncDir makes the names in a directory durable.
func SyncDir(path string) error { return statefile.OS{}.SyncDir(path) }
