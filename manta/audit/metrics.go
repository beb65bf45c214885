package audit

import "time"

// Metrics tell what an Auditor has done since it was made, and where it stands.
type Metrics struct {
	Rounds  uint64 // that came to their end here
	Slices  uint64
	Copies  uint64 // looked at on nodes
	Entries uint64 // looked at in records

	Orphans       uint64 // copies without a record that were found
	Strays        uint64 // copies on nodes that the object's record does not name
	Removed       uint64 // of both
	RemovedBytes  uint64
	RemovalFailed uint64 // tries that the next round repeats
	Missing       uint64 // copies that a record names and that are not there
	Wrong         uint64 // copies of another size or sum than the record's, or damaged

	HeldBack       int // orphans of the last slice that were left because they are too many
	UncheckedNodes int // nodes that could not be listed in the last slice

	LastRound    time.Time     // when the last whole round ended, anywhere
	LastDuration time.Duration // of the last round that ended here
}
