package storage

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// An ObjectID names the bytes of one object. Owner is the account that created the bytes (a snaplinked object stays with
// its first owner); Object is fresh for every put. An id never names two different contents.
type ObjectID struct {
	Owner, Object uuid.UUID
}

// String returns "owner/object", which is also the object's path on a node.
func (id ObjectID) String() string { return id.Owner.String() + "/" + id.Object.String() }

// Compare orders ids by owner, then object, bytewise.
func (id ObjectID) Compare(other ObjectID) int {
	if c := strings.Compare(string(id.Owner[:]), string(other.Owner[:])); c != 0 {
		return c
	}
	return strings.Compare(string(id.Object[:]), string(other.Object[:]))
}

// ParseObjectID reads the form that String writes: two canonical lower-case UUIDs.
func ParseObjectID(s string) (ObjectID, error) {
	owner, object, ok := strings.Cut(s, "/")
	o, err1 := parseUUID(owner)
	b, err2 := parseUUID(object)
	if !ok || err1 != nil || err2 != nil {
		return ObjectID{}, fmt.Errorf("%w: object id %.80q", ErrInvalid, s)
	}
	return ObjectID{o, b}, nil
}

// parseUUID is uuid.Parse without the other spellings it accepts: one object has one name.
func parseUUID(s string) (uuid.UUID, error) {
	u, err := uuid.Parse(s)
	if err == nil && u.String() != s {
		err = fmt.Errorf("%w: uuid %.40q", ErrInvalid, s)
	}
	return u, err
}

// Info describes one stored copy.
type Info struct {
	ID       ObjectID
	Size     int64     // bytes
	MD5      [16]byte  // of the whole content, as told by the writer
	CRC32C   uint32    // of the whole content (Castagnoli), as computed by the node
	Created  time.Time // when this copy was committed
	Verified time.Time // when all of it was last read and found intact; Created at first
}

// Sums are what the writer of an object knows about all the bytes that it sent.
type Sums struct {
	Size   int64
	MD5    [16]byte
	CRC32C uint32
}

// Usage is a node's report on its capacity and health.
type Usage struct {
	Capacity   int64 // bytes of the file system that objects may use
	Available  int64 // bytes still free to objects
	Objects    int64 // live objects
	Bytes      int64 // their content
	Tombstones int64 // deleted objects that wait for their grace period
	Damaged    int64 // copies in quarantine

	// OldestUnverified is when the object that has waited longest for its verification was last known good;
	// zero when there are no objects.
	OldestUnverified time.Time

	// ReadOnly says why the node takes no writes ("" when it does).
	ReadOnly string
}

// PercentUsed returns the used share of the capacity in percent, rounded up as the original reports it.
func (u Usage) PercentUsed() int {
	if u.Capacity <= 0 {
		return 100
	}
	used := max(u.Capacity-u.Available, 0)
	return int((used*100 + u.Capacity - 1) / u.Capacity)
}

// A Shark is the place of a copy: a storage node and its datacentre. The JSON names are those of the original's
// records.
type Shark struct {
	Datacenter string `json:"datacenter"`
	Node       string `json:"manta_storage_id"`
}
