// Package audit compares what storage nodes keep with what records name, and puts right what differs (the audit and cruft jobs of Mola in the original).
//
// Two things can differ. Bytes that no record names: a front door died between storing and recording them, a deletion passed over a node that came
// back later, a repair was cut short. The audit deletes them, which leaves a tombstone for the node's grace period. And copies that a record names but
// that are not there, or are of another size or sum: the audit hands their entries to repair.
//
// Call [New], then [Auditor.Run], or [Auditor.RunOnce] from a scheduler of your own. Any number of processes may run one over the same records: a claim
// in the records lets one work at a time, and another goes on from the last slice where it died. Never keep bytes on these nodes that neither an entry, nor the delete log,
// nor one of Config.Claims names.
//
// # How a round goes
//
// Ids are divided into slices, as many as it takes to hold what is known of one slice in bounded memory, usually one. For each slice:
//
//  1. List all nodes, and remember every copy.
//  2. Wait, longer than a request takes from its last byte to its record.
//  3. Read the claims and the puts that were announced, then all entries, then the delete log, and remember what they name. An entry's copy that was not listed is asked for; if it is
//     really not there, the entry goes to repair.
//  4. List all nodes again. What was there in step 1, is older than the grace period and is not named, is an orphan; or a stray, if its object is
//     named, but not on this node.
//  5. Delete the orphans, each after a last look for snaplinks. Delete the strays whose entries are found to have all their own copies.
//
// # Why nothing that counts is deleted
//
// Bytes get their first record once, soon after they were stored; step 2 is there for requests in flight, however wrong clocks are, and the grace
// period for those that hang. Uploads that may yet be committed are claims, and so are puts that were announced beside their bytes; both are read before the entries, so that what
// comes true meanwhile is met in one place or the other. An entry stays under its key; when it goes, the delete log has it in the same batch, and is read after the entries; when
// that line goes too, gc has dealt with the bytes or found them linked. Only snaplinks move bytes to another key, and those are looked up by their index at the end.
//
// Memory is kept by filters that may take one thing for another: then an orphan is overlooked this time, or a missing copy. With other seeds the next round sees
// it. They never err to the other side. A node that does not answer is left out. And where a node seems to hold more
// orphans than Config.MaxPercent, nothing of it is deleted: it is more likely that the records are the wrong ones.
//
// Files: audit.go (Config, Run), claim.go (one at a time), round.go (steps 1 to 3), judge.go (4 and 5), strays.go, filter.go, metrics.go.
//
// Stability: experimental.
package audit
