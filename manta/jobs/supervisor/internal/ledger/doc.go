// Package ledger keeps the books of one compute job: which inputs of which phase are where, and what the next commit says.
//
// A [Ledger] does no I/O and starts nothing. Its owner tells it what happened (inputs read, found or refused, tasks emitted, ended, lost) and asks it what
// there is to do: inputs to look up ([Ledger.Locate]), map tasks and reducers to run ([Ledger.Ready], [Ledger.Idle]), input to feed ([Ledger.Feeds]), a commit to write
// ([Ledger.Commit]), objects to delete ([Ledger.Deletes]). The same calls in the same order give the same answers.
//
// What a commit said is all that survives: a new Ledger to which every commit is applied in order ([Ledger.Apply]) knows as much as the one that wrote them,
// but for what was under way, which it has done again.
//
// # What it remembers
//
// Inputs of phase 0 come by a cursor, a window of them at a time; those that are done are kept as intervals of their numbers. Inputs of later map phases are
// kept while they are open; nothing of an earlier phase is handed out while too many of a later one wait. Inputs of reducers are not kept beyond a short tail: a
// reducer that starts late or again has them read again from where they are stored ([Ledger.Replay]). Of objects that may have to be deleted it has a count by hash.
//
//	ledger.go    the state, Apply and what follows from it    commit.go   what the next commit says
//	inputs.go    the cursor of phase 0, looking up            reduce.go   reducers and their feed
//	tasks.go     attempts and their ends                      objects.go  intermediate objects
//	intervals.go sets of numbers                              cancel.go   the end by request
//
// Stability: experimental.
package ledger
