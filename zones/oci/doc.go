// Package oci is the zone driver for OS containers (SmartOS's brands joyent, joyent-minimal and lx), set up inside the
// importing process, with no runtime binary to install.
//
// Start with [New] and hand the driver to zones/host, or call its zones.Driver methods yourself. A program that imports
// this package starts itself once more, as the starter: a small process, C before the Go runtime begins, that clones itself into the
// namespaces of each new zone and becomes its process 1 without executing anything. So a start costs a fork of some hundred
// kilobytes; libcontainer's own way, a new start of the whole program for each container, cost four times as much. From libcontainer come
// the description of a container and its control groups. Nothing need be called for that in main.
//
// Each zone has user, pid, mount, network, uts, ipc and cgroup namespaces and control groups of its own. Its root is a private range
// of ids that are nobody on the host; files keep their own numbers on disk and are shown through an id-mapped mount. A
// short list of capabilities, a system-call filter that denies what is not listed, masked and read-only parts of /proc,
// and a list of eight devices do the rest. Process 1 is a small init of ours (internal/zinit), or the image's own;
// either way a server in the zone starts programs at the cost of a fork. Our init's memory stays the host's, so that nothing in the zone can
// trace it whatever its capabilities; ps shows it as nobody's for that.
//
// Without root the driver does what any user may: the zone has one id, no limits and no network but a loopback, and Capabilities says so.
//
// Of the Spec it reads brand, limit_priv and the max_*_ids and max_shm_memory of System V; fs_allowed and kernel_version have no
// counterpart here and are not read. systemd as an image's own init has not been tried: it wants to write its control group, which
// is read-only here.
//
// What must outlive the process is below Config.StateDir and each machine's RunDir. Processes that share a StateDir must take
// turns for each zone, as zones/host does.
//
// Files: config and driver (verbs), start and container (from a Machine to a container), plan, starter and launch (from there to a process), runtime
// (a runtime of the operator's choice instead), machine (its end), control, exec and console (the in-zone init's other side), limits, usage, meter,
// idmap, give, reset, rootless, seccomp, initfiles, thread. Needs Linux 5.12 and a C compiler to build.
//
// Stability: experimental.
package oci
