// Package zinit is the in-zone init of zones/oci: process 1 of an OS container, or a server beside the zone's own.
//
// As process 1 it installs the system-call filter, gives up capabilities, starts the zone's services and its main program,
// reaps, forwards signals, and ends with the main program's status. Beside that it answers the host on a private unix
// socket that is bound outside the zone and inherited, so nothing in the zone can reach it: it starts programs (a fork
// of a tiny process), hands over terminals, keeps the console and its last 64 KiB, and makes files to mount over. As
// it belongs to the zone and not to the host's process, all of that works again after the host's process restarts.
//
// The program is C, linked into every program that imports zones/oci: a constructor takes over before the Go runtime
// starts if [Env] is set, which an external runtime does, or [StartEnv], which makes it the starter: a process that clones itself into new
// namespaces for each zone, where the clone carries out a plan of the host's (mounts, devices, console) and then is the init.
//
// wire.h is the protocol, wire.go and order.go the host's side of it; zinit_linux.c begins and loops, and takes in program.h,
// state.h, server.h, services.h, requests.h (the init), setup.h (the plan) and starter.h.
//
// Stability: experimental.
package zinit
