// Package jobs keeps compute jobs: programs that users run on objects where these lie (Marlin in the original).
//
// A [Job] is a chain of phases. In a map phase each input object is one task, which runs on a server that has a copy of the object; a reduce phase
// has a fixed number of reducers, each of which reads all objects that come to it. What a task emits is input of the next phase, or output of
// the job. Phases overlap in time; only a reducer's end of input waits for what comes before it.
//
// [Records] keeps jobs in a metastore, and [ParseDefinition] reads what users write down. The parts that move a job along are separate, and any of
// them may die at any moment:
//
//	jobapi      the HTTP routes: makes jobs, adds inputs, shows what came of them
//	supervisor  owns jobs, finds their inputs, hands tasks to agents, commits what they report
//	task        what a supervisor and an agent say to each other
//	agent       runs tasks in zones of a storage node
//
// # How a task counts once
//
// Each input of a phase has a number, and a task is (job, phase, number). The supervisor that owns a job is the only writer of its commits: it
// appends [Commit] records to the job's partition, each under the condition that it still owns the job. A commit says in one record which tasks
// ended and which inputs of the next phase, with their numbers, came of them. So a task is either in a commit together with all that it emitted, or it has not
// happened, and may run again. Whoever takes a job over reads its commits and knows where it stands. Nothing else is written while a job runs, but for
// its figures.
//
// Never write records of these buckets by another way than Records.
//
// Files: job.go, phase.go, commit.go and failure.go are the nouns, definition.go what users write down, status.go what they see, names.go paths; records.go,
// inputs.go, results.go, claim.go with commits.go, watch.go and beats.go are Records, format.go the buckets and the format of records.
//
// Stability: experimental.
package jobs
