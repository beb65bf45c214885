package oci

import (
	"log/slog"
	"time"
)

// Name is the driver's, in capabilities and handles.
const Name = "oci"

// Config is what a driver needs. Only StateDir has no default.
type Config struct {
	// StateDir is a private directory of this driver alone, made if absent. It should not outlive a boot of the host (below /run),
	// but may.
	StateDir string
	// MountDir is where a zone's root is mounted while it starts; everybody must be able to pass through it. "/run/mobula-oci" when
	// empty; several drivers may share it.
	MountDir string
	// CgroupParent is the control group that zones' groups are made in; "/mobula" when empty.
	CgroupParent string
	// Runtime is an OCI runtime (runc, crun) to set containers up with instead of libcontainer in this process: a name on PATH or
	// a path. Process 1, exec, console and limits stay ours.
	Runtime string
	// StopGrace is what Stop waits when it is given 0; 60 s when zero, as vmadm does for OS zones.
	StopGrace time.Duration
	// Logger gets what nobody can be told by an error; nil discards.
	Logger *slog.Logger
}
