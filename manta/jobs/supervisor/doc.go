// Package supervisor moves compute jobs along: it owns them, finds their inputs, hands tasks to agents, commits what these report, and archives the end (Marlin's job
// supervisor, and Wrasse, in the original).
//
// Make a [Supervisor] with [New] and have it [Supervisor.Run]. Several may run over one store: a job belongs to the one that claimed it last, and when one dies the others
// take its jobs over. Give each an instance name that outlives its process, so that a restart takes its own jobs up at once.
//
// # One job
//
// A job is one goroutine with one ledger (internal/ledger), which knows what each input waits for and does no I/O. Around it run, for that job: a reader of
// inputs, lookups of objects, at most one commit, deletions. What they find comes back as events, and after each event the job asks its ledger what there is to
// do. Nothing polls. A fault in one job ends that goroutine alone; the job is claimed again and goes on from its commits.
//
// # Who runs what
//
// A map task goes to an agent that has a copy of its object, the least busy first; an empty object runs anywhere. Of one job no more than [Config.Window]
// tasks are with an agent at a time, so that memory is bounded, and an agent that shares its zones between jobs has all of them to choose from: a small job
// does not wait behind a large one. A reducer is started when all its input is known, or before that on an agent of whose zones no more than a quarter
// are with reducers that wait. (The original starts all reducers with the job; with few zones, they would hold those that their input is to be made in.)
//
// A stream to an agent that is lost takes its tasks with it. They are given out again when a new stream to the same agent has begun, or
// task.Silence has passed twice. Such losses count as retries, but not against the two that a task has when the system failed it; a task that has
// lost its agent two dozen times (a reducer: five hundred) fails.
//
//	config.go     Config and the interfaces        dispatch.go  agents for tasks, feeds
//	supervisor.go Run, who has which job           locate.go    from a path to an object that may be read
//	claims.go     beats, takeovers, deletion       objects.go   intermediate objects, the sweep after retries
//	job.go        the loop of one job              archive.go   what a job leaves in the store
//	steps.go      what it starts beside itself     metrics.go   figures
//	fleet.go      the agents, link.go one of them
//
// Never let two processes use one instance name.
//
// Stability: experimental.
package supervisor
