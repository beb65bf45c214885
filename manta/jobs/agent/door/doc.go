// Package door is the store inside a task: the HTTP server on port 80 of a zone's loopback address, as in Marlin's agent and lackey.
//
// Programs of a task speak the store's API to it, unsigned; it forwards their requests to the front door with the job's token. What a task emits is
// told by headers of its PUT requests: x-manta-stream, x-manta-reducer, x-manta-reference. Below /my/jobs/task it is told things about the task itself.
//
// There is one Door for a stream, which is a zone that runs tasks of one phase of one job after another. Call [New], then [Door.Serve] with a listener inside
// the zone. [Door.Begin] and [Door.End] enclose each task; between them is the only time in which requests are forwarded. The first task's Begin goes before the
// phase's init program, whose requests count as that task's. What the agent itself stores for a task goes through [Door.RoundTrip].
//
// What is known about a task comes from End. Never ask the requests themselves which task they belong to: a request belongs to the task in whose time it
// came, and what is still under way when that task ends is broken off and counts for none.
//
// # Files
//
//	door.go     Config, Door: serving, and the agent's own requests
//	task.go     Begin, End, and what is known of a task
//	forward.go  the store's API
//	control.go  /my/jobs/task
//	conn.go     connections: their number and their bytes
//	answer.go   refusals
//
// Stability: experimental.
package door
