package objfile

import "sync/atomic"

// Metrics are a store's counters since Open, and some gauges.
type Metrics struct {
	Puts, PutBytes int64 // committed objects, their content
	Gets           int64 // opened readers
	Deletes        int64

	Batches      int64 // group commits, one sync each
	Changes      int64 // changes in them
	JournalBytes int64 // written to the journal

	Segments    int64 // journal segments there are
	Compactions int64 // segments compacted

	Replayed     int64 // records read at Open, beyond what the index knew
	IndexRebuilt bool  // the index was lost and has been built anew
	Skipped      int64 // damaged segments found at Open

	Scrubbed, ScrubbedBytes int64 // by Scrub and in the background
	Damaged                 int64 // copies found damaged
	Orphans                 int64 // files without a record taken away
}

type metrics struct {
	puts, putBytes, gets, deletes, batches, records, journalBytes, compactions, replayed, rebuilds, skipped, scrubbed, scrubBytes, damaged, orphans atomic.Int64
}

// Metrics returns the counters as they are now.
func (s *Store) Metrics() Metrics {
	s.mu.Lock()
	segments := int64(len(s.st.segs))
	s.mu.Unlock()
	m := &s.met
	return Metrics{
		Puts: m.puts.Load(), PutBytes: m.putBytes.Load(), Gets: m.gets.Load(), Deletes: m.deletes.Load(),
		Batches: m.batches.Load(), Changes: m.records.Load(), JournalBytes: m.journalBytes.Load(),
		Segments: segments, Compactions: m.compactions.Load(),
		Replayed: m.replayed.Load(), IndexRebuilt: m.rebuilds.Load() > 0, Skipped: m.skipped.Load(),
		Scrubbed: m.scrubbed.Load(), ScrubbedBytes: m.scrubBytes.Load(), Damaged: m.damaged.Load(), Orphans: m.orphans.Load(),
	}
}
