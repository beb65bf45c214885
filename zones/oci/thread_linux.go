//go:build cgo

package oci

import (
	"runtime"

	_ "github.com/opencontainers/cgroups/devices" // lets the cgroup manager set device rules

	_ "github.com/mobulacloud/mobula/zones/oci/internal/zinit" // the starter and the in-zone init
)

// We enter zones' namespaces on threads that end afterwards. The process's first thread cannot end: it would sit in the
// namespace for good, hold a zone's mounts, and change what /proc/self shows. Kept for main, it is never picked.
func init() { runtime.LockOSThread() }
