package durable

import "sync/atomic"

// Metrics counts what a Store has done since it was made.
type Metrics struct {
	Uploads          uint64 // begun
	UploadsFailed    uint64 // ended by an error of Commit
	UploadsCancelled uint64 // ended by Cancel
	Busy             uint64 // refused for want of memory
	Replaced         uint64 // copies that another node took over
	Discarded        uint64 // copies deleted because their upload failed or went elsewhere
	BytesWritten     uint64 // of all committed copies
	BytesInFlight    int64  // that uploads hold now

	Reads       uint64 // begun
	ReadsFailed uint64 // that no copy could satisfy
	BytesRead   uint64
	Failovers   uint64 // reads that went on from another copy
	Hedges      uint64 // second copies asked because the first was slow
	HedgesWon   uint64 // and that answered first
	Damaged     uint64 // copies found missing or damaged by reads
	Repaired    uint64 // copies re-created
}

type counters struct {
	uploads, uploadsFailed, uploadsCancelled, busy, replaced, discarded, bytesWritten atomic.Uint64
	reads, readsFailed, bytesRead, failovers, hedges, hedgesWon, damaged, repaired    atomic.Uint64
}

// Metrics returns the counters as they stand.
func (s *Store) Metrics() Metrics {
	m := &s.met
	return Metrics{
		Uploads: m.uploads.Load(), UploadsFailed: m.uploadsFailed.Load(), UploadsCancelled: m.uploadsCancelled.Load(),
		Busy: m.busy.Load(), Replaced: m.replaced.Load(), Discarded: m.discarded.Load(),
		BytesWritten: m.bytesWritten.Load(), BytesInFlight: s.budget.used.Load(),
		Reads: m.reads.Load(), ReadsFailed: m.readsFailed.Load(), BytesRead: m.bytesRead.Load(),
		Failovers: m.failovers.Load(), Hedges: m.hedges.Load(), HedgesWon: m.hedgesWon.Load(),
		Damaged: m.damaged.Load(), Repaired: m.repaired.Load(),
	}
}
