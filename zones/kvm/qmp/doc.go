// Package qmp is a client of QEMU's machine protocol: commands with typed answers, events as they come.
//
// [Connect] takes a connection to a monitor's socket; [Client.Execute] runs a command and waits for its answer. A monitor serves
// one client at a time: a second connection is accepted by the kernel and hears nothing, so give ctx a deadline. Never
// block in the event function; answers wait behind it.
//
// Stability: experimental.
package qmp
