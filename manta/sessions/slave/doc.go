// Package slave is the side of an interactive session that runs in a task: it starts a program on a terminal of its own and carries the terminal's bytes to
// the user (the Medusa agent in the original).
//
// A session's job has [Script] as its program, an object that is known to clients by [Object]; it does no more than to call [Main], which tools inside zones
// have under the name [Name]. The job has one other asset, which says what to connect to. It is taken away at once, here and in the store; then [Run]
// connects through the task's own door to the store, waits for the user's side, and does what the messages of package sessions say.
//
// Nothing but the path is taken of the address in that asset: a task reaches the store only through its door, which adds the job's token. So whoever can write
// the asset cannot make a task call somebody else.
//
// Stability: experimental.
package slave
