package oci

import (
	"os"

	_ "github.com/opencontainers/cgroups/devices" // lets the cgroup manager set device rules
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters the namespaces before the Go runtime starts

	_ "github.com/mobulacloud/mobula/zones/oci/internal/zinit" // the in-zone init
)

// libcontainer starts this same program again with argument "init" to set a container up. The pipe it passes
// tells that from a user who calls the program's own subcommand of that name.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		libcontainer.Init() // does not return
	}
}
