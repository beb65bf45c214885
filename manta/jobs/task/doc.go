// Package task is what a supervisor and an agent say to each other about the tasks of compute jobs.
//
// An [Agent] runs tasks on one server. A supervisor connects to it and has a [Stream], on which it sends [Order]s and receives [Report]s, both pushed
// as they come and many at a time. manta/jobs/agent is the agent itself, [Client] the same over the network, served by [Handler];
// tasktest has an agent for tests, and the suite that all of them pass.
//
// Nothing that is said here is stored. A stream that ends takes its tasks with it: the agent ends them, and whatever they did that was not reported and
// committed has not happened. The supervisor gives such tasks to somebody else, but not before the agent can no longer act for them: either a new
// stream to the same agent has begun, or [Silence] has passed twice since the old one was last heard of.
//
// Stability: experimental.
package task
