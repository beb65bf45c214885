// Package host runs all machines of one server: vmadm of SmartOS.
//
// [Open] takes a dataset pool, an image store, drivers and, if wanted, a network, and gives a [Host] with vmadm's verbs: Create, Get, List,
// Start, Stop, Reboot, Kill, Delete, Update, CreateSnapshot and its kin, Reprovision, Send and Receive, Exec, Console, Info, Sysrq, Metrics and
// Events. PROPERTIES.md of package zones says which properties of a spec do what. A program that stays (an agent) also calls [Host.Run], which boots zones after the machine came up, watches for ends and
// answers guests' metadata; a program that goes again (a command) need not, and zones run on without it.
//
// Every verb writes down what it is about to do before it does it. A process that dies at any step leaves a record from which the next
// one to touch the zone, or the next Open, finishes the verb or undoes it: the zone is as before or as asked, and nothing leaks.
// Several processes may have one directory open; verbs on one zone take turns. Never edit records by hand while anything has them open.
// After a power cut each record is as it was last acknowledged or as it was being written, whatever the disk lost of the rest.
//
// Errors are *zones.Error with the verb and the zone, and match what package zones has for what a caller acts on: ErrNotExist, ErrExist,
// ErrRunning, ErrNotRunning, ErrBusy (in use, or being received), ErrInvalid (with a ValidationError that names every problem), ErrNotSupported (with
// an UnsupportedError that names every property), ErrNoSpace, ErrPermission (marked indestructible) and ErrFailed (provisioning failed). A context that
// ends while a verb waits for its turn, or for a shutdown, ends the verb with its own error; undoing what was begun is not cut short.
//
// Files: host_linux.go (opening), record_linux.go and lock_linux.go (what is stored, whose turn it is), create, boot, update, snapshot,
// reprovision, send, receive and wire (verbs), provision (a zone's first boot), machine, disks, files (what a driver is handed), repair (after a
// crash), view and match.go (what a caller sees), exec, run, watch, events, network, metadata.
//
// Stability: experimental.
package host
