//go:build cgo

package oci

import (
	"os"
	"runtime"
	"runtime/debug"

	_ "github.com/opencontainers/cgroups/devices" // lets the cgroup manager set device rules
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters the namespaces before the Go runtime starts

	_ "github.com/mobulacloud/mobula/zones/oci/internal/zinit" // the in-zone init
)

// libcontainer starts this same program again with argument "init" to set a container up. The pipe it passes
// tells that from a user who calls the program's own subcommand of that name.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		debug.SetGCPercent(-1) // it lives for milliseconds
		libcontainer.Init()    // does not return
	}
	// libcontainer and we enter zones' namespaces on threads that end afterwards. The process's first thread cannot end: it would
	// sit in the namespace for good, hold a zone's mounts, and change what /proc/self shows. Kept for main, it is never picked.
	runtime.LockOSThread()
}
