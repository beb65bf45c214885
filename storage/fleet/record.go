package fleet

import (
	"fmt"
	"regexp"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Names of the buckets. The first, with its indexes, is the original's.
const (
	ReportBucket = "manta_storage"
	MemberBucket = "manta_storage_members"
)

var buckets = []metastore.Bucket{
	{Name: ReportBucket, Version: 1, Watched: true, Indexes: []metastore.Index{
		{Field: "hostname", Type: metastore.String},
		{Field: "availableMB", Type: metastore.Number},
		{Field: "percentUsed", Type: metastore.Number},
		{Field: "server_uuid", Type: metastore.String},
		{Field: "timestamp", Type: metastore.Number},
		{Field: "zone_uuid", Type: metastore.String},
		{Field: "manta_compute_id", Type: metastore.String},
		{Field: "manta_storage_id", Type: metastore.String},
	}},
	{Name: MemberBucket, Version: 1, Watched: true},
}

// A Report is what a storage node says of itself.
type Report struct {
	// Node is the id under which objects' records name it, such as "1.stor.example.com".
	Node       string `json:"manta_storage_id"`
	Datacenter string `json:"datacenter"`

	// Address is where other processes reach it: a URL, or whatever the Fleet's Dial understands.
	Address string `json:"address,omitempty"`

	// Version is that of its program.
	Version string `json:"version,omitempty"`

	// Where it runs; optional, for operators and for tools of the original.
	Hostname   string `json:"hostname,omitempty"`
	ServerUUID string `json:"server_uuid,omitempty"`
	ZoneUUID   string `json:"zone_uuid,omitempty"`
	ComputeID  string `json:"manta_compute_id,omitempty"`

	Usage storage.Usage `json:"usage"`

	// Damaged are objects of which the node found its copy damaged, on its own, and has it no more. They are passed on
	// (Registry.Damaged) and not stored. At most MaxDamaged.
	Damaged []string `json:"damaged,omitempty"`
}

// MaxDamaged is the greatest number of damaged objects in one report.
const MaxDamaged = 500

// Validate says what is wrong with a report.
func (r *Report) Validate() error {
	if err := validateNode(r.Node); err != nil {
		return err
	}
	if !namePattern.MatchString(r.Datacenter) {
		return fmt.Errorf("%w: fleet: datacenter %.80q", storage.ErrInvalid, r.Datacenter)
	}
	for _, s := range []string{r.Address, r.Version, r.Hostname, r.ServerUUID, r.ZoneUUID, r.ComputeID, r.Usage.ReadOnly} {
		if len(s) > maxText {
			return fmt.Errorf("%w: fleet: report of %s has a field of %d bytes", storage.ErrInvalid, r.Node, len(s))
		}
	}
	if u := r.Usage; u.Capacity < 0 || u.Available < 0 || u.Available > u.Capacity {
		return fmt.Errorf("%w: fleet: %s has %d of %d bytes available", storage.ErrInvalid, r.Node, u.Available, u.Capacity)
	}
	if _, err := r.damaged(); err != nil {
		return err
	}
	return nil
}

// damaged returns the ids in Damaged.
func (r *Report) damaged() ([]storage.ObjectID, error) {
	if len(r.Damaged) > MaxDamaged {
		return nil, fmt.Errorf("%w: fleet: report of %s names %d damaged objects, limit %d", storage.ErrInvalid, r.Node, len(r.Damaged), MaxDamaged)
	}
	var ids []storage.ObjectID
	for _, s := range r.Damaged {
		id, err := storage.ParseObjectID(s)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// maxText is the greatest length of a free field of a report, in bytes.
const maxText = 1 << 10

// namePattern is what ids of nodes and datacentres look like: they end up in URLs, certificates and metrics.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)

func validateNode(id string) error {
	if !namePattern.MatchString(id) {
		return fmt.Errorf("%w: fleet: node id %.80q: want letters, digits, '.', '_' and '-', at most 128", storage.ErrInvalid, id)
	}
	return nil
}

// record is the stored form of a report, with the fields of the original's and some of our own.
type record struct {
	AvailableMB int64   `json:"availableMB"`
	PercentUsed int     `json:"percentUsed"`
	Filesystem  string  `json:"filesystem"`
	Statvfs     statvfs `json:"statvfs"`
	Timestamp   int64   `json:"timestamp"` // Unix milliseconds, by the Registry's clock
	Report
}

// statvfs is the part of the system call's answer that can be told from a node's usage.
type statvfs struct {
	Bsize  int64 `json:"bsize"`
	Frsize int64 `json:"frsize"`
	Blocks int64 `json:"blocks"`
	Bfree  int64 `json:"bfree"`
	Bavail int64 `json:"bavail"`
}

func newRecord(r Report, now time.Time) record {
	const block = 4096
	u := r.Usage
	if r.Hostname == "" {
		r.Hostname = r.Node
	}
	return record{
		AvailableMB: u.Available >> 20,
		PercentUsed: u.PercentUsed(),
		Filesystem:  "/manta",
		Statvfs:     statvfs{Bsize: block, Frsize: block, Blocks: u.Capacity / block, Bfree: u.Available / block, Bavail: u.Available / block},
		Timestamp:   now.UnixMilli(),
		Report:      r,
	}
}

// A State is what the operator wants of a node.
type State string

// The states of a node.
const (
	Running  State = "running"  // takes new copies and is read
	Draining State = "draining" // is read, and takes no new copies
	Lost     State = "lost"     // given up: its copies are to be re-created elsewhere
	Removed  State = "removed"  // gone for good; its id is never used again
)

// A Member is the operator's word on a node. A node without one is Running.
type Member struct {
	Node   string    `json:"manta_storage_id"`
	State  State     `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

func key(node string) metastore.Key { return metastore.Key{Name: node} }
