// Package oci is the zone driver for OS containers (SmartOS's brands joyent, joyent-minimal and lx), run through libcontainer
// inside the importing process, with no runtime binary to install.
//
// Start with [New] and hand the driver to zones/host, or call its zones.Driver methods yourself. A program that imports
// this package re-executes itself to set a container up: package initialisation catches that before main, so
// nothing need be called, but no package that main imports may do slow or visible work in its own initialisation.
//
// Each zone has user, pid, mount, network, uts, ipc and cgroup namespaces and control groups of its own. Its root is a private range
// of ids that are nobody on the host; files keep their own numbers on disk and are shown through an id-mapped mount. A
// short list of capabilities, a system-call filter that denies what is not listed, masked and read-only parts of /proc,
// and a list of eight devices do the rest. Process 1 is a small init of ours (internal/zinit), or the image's own;
// either way a server in the zone starts programs at the cost of a fork.
//
// Of the Spec it reads brand, limit_priv and the max_*_ids and max_shm_memory of System V; fs_allowed and kernel_version have no
// counterpart here and are not read. systemd as an image's own init has not been tried: it wants to write its control group, which
// is read-only here.
//
// What must outlive the process is below Config.StateDir and each machine's RunDir. Processes that share a StateDir must take
// turns for each zone, as zones/host does.
//
// Files: config and driver (verbs), start and container (from a Machine to a container), launch and runtime (who sets it up), machine (its
// end), control, exec and console (the in-zone init's other side), limits, usage, idmap, give, reset, seccomp, initfiles, reexec. Needs Linux, root and a C compiler to build.
//
// Stability: experimental.
package oci
