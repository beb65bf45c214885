// Package sessions joins a user's terminal and a program in a compute job (Medusa in the original): what "mlogin" speaks to.
//
// Both sides come in by the front door, since neither a user nor a task can be called: the user's client as master, the program in the task as slave (package
// slave). A [Reflector] holds the session of a job and passes frames between the two. Make one with [New], call [Reflector.Define], put its [Reflector.Routes]
// into webapi.Config.Routes, and keep [Reflector.Run] running. Where there are several front doors, each has a Reflector with an Address of its own, at which the others
// reach its [Reflector.Handler]: a record says which has the session of a job, and a door whose Reflector does not have it is a pipe to the one that does.
//
// The Handler asks nobody who he is: never show it but to other front doors.
//
// # The protocol
//
// GET /LOGIN/medusa/attach/JOB/master (or slave) with the headers of a WebSocket upgrade, of which Sec-WebSocket-Version may be missing. Who may: the action
// "mlogin" on the job. Errors are plain answers: no upgrade (400 ExpectedUpgrade), neither master nor slave (400 InvalidParameter), a job that has
// ended (409 InvalidJobState), a slave without a session (404 ResourceNotFound), a second master or slave (409 EntityAlreadyExists), too many sessions (503
// ThrottledError). Messages are single frames of at most 1 MiB.
//
//	reflector -> master   text   medusa:{"type":"wait"}       every two seconds until there is a slave
//	reflector -> both     text   medusa:{"type":"linkup"}     from here on all messages are passed on
//	master -> slave       text   mlogin:{"type":"start","command":…,"arguments":[…],"term":…,"columns":…,"lines":…,"cwd":…}
//	slave -> master       text   mlogin:{"type":"started","pid":…}
//	master -> slave       text   mlogin:{"type":"resize","columns":…,"lines":…}
//	slave -> master       text   mlogin:{"type":"exit"} or {"type":"error","error":…}
//	both                  binary bytes of the terminal
//	master                text   ping
//
// Messages that come before the linkup are dropped. When a side ends, the other one is closed with its reason; when one breaks off, with "remote connection reset" or
// "remote connection error". A side of which nothing is heard for 30 seconds, not even the answer to a ping frame, has broken off.
//
// # For other clients
//
// A master that asks for the subprotocol "tty.mobula" gets the same without the prefixes: text frames are the JSON objects alone, in both directions, and
// binary frames are bytes of the terminal. A browser uses a pre-signed URL.
//
//	sessions.go  Config, Reflector              door.go    the route
//	session.go   one session                    remote.go  sessions of other front doors
//	peer.go      one side of it                 record.go  where sessions are
//	message.go   messages                       slave/     the side in the task
//
// Stability: experimental.
package sessions
