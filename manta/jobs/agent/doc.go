// Package agent runs tasks of compute jobs in zones of a server, beside the objects that they read: Marlin's agent.
//
// [Open] prepares the server, [Agent.Run] lives until its context ends and leaves nothing behind. An [Agent] is a task.Agent: supervisors connect to it, in this process or
// through task.Handler. Never run two agents on one directory, which a lock prevents, nor give one of them a front door that asks it.
//
// # What happens to a task
//
// The scheduler (internal/sched) gives it to a stream, which is a zone (internal/cell) that runs tasks of one phase of one job, one after another, and is reset before
// anybody else has it. The first task of a stream has the phase's assets stored and its init program run. A map task's input appears at /manta and is its
// program's standard input: the very file of the storage node, read-only, or, for objects packed in the node's journal, a copy in memory. A reducer reads its
// inputs, as they come, from a pipe. When the program ends, whatever it left running is killed. Its standard output is stored as an object while the zone runs the
// next task; then outputs and end are reported. Programs reach the store through a door on the zone's loopback (agent/door).
//
// # What is kept
//
// Nothing. An agent that dies leaves zones, mounts and file systems that the next one's Open removes; its tasks have not happened.
//
// # What counts as whose
//
// A failure is the task's own (exit codes, signals, core dumps, memory, disk, assets, init programs), or it is not, and is reported with System set, so that the task runs again:
// a zone that died, an output that could not be stored, an input that could not be read, a hog that was ended. Failures have the words of the original.
//
// # Files
//
//	config.go, agent.go      configuration; opening, running, connecting
//	stream.go, job.go        what supervisors say, and are told
//	worker.go                a zone and its tasks
//	initialise.go            assets and init programs
//	input.go, reduce.go      inputs
//	environ.go, outcome.go   what a program is given; what its end means
//	plain.go                 commands that need no shell
//	output.go                storing what it wrote
//	meter.go                 metering, Metrics
//	images.go                ranges of versions
//	zone.go                  what is needed of a zone; zone_linux.go, pipe_linux.go, stocks_linux.go and zone_other.go are the host's side
//
// Stability: experimental.
package agent
