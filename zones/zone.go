package zones

import "time"

// State is a zone's state. zone_state takes the first seven, state all.
type State string

// The states, and what leads from one to the next:
//
//	configured → incomplete → installed ⇄ ready → running → shutting_down → down → installed
//
// provisioning hides all of them until the guest is done; then running, stopped (autoboot false) or failed, which is
// the end. state says stopped where zone_state says installed.
const (
	StateConfigured   State = "configured"
	StateIncomplete   State = "incomplete"
	StateInstalled    State = "installed"
	StateReady        State = "ready"
	StateRunning      State = "running"
	StateShuttingDown State = "shutting_down"
	StateDown         State = "down"

	StateProvisioning State = "provisioning"
	StateFailed       State = "failed"
	StateReceiving    State = "receiving"
	StateStopped      State = "stopped"
	StateStopping     State = "stopping"
	StateUnknown      State = "unknown"
)

// Zone is a zone as vmadm get shows it: what was asked for and what only the host can know.
type Zone struct {
	Spec

	Type      string `json:"type"`
	HVM       bool   `json:"hvm"`
	State     State  `json:"state"`
	ZoneState State  `json:"zone_state"`
	// PID is the first process as the host sees it, 0 when there is none.
	PID        int    `json:"pid,omitempty"`
	ZoneID     int    `json:"zoneid,omitempty"`
	ZoneDID    int    `json:"zonedid,omitempty"`
	ZonePath   string `json:"zonepath,omitempty"`
	ServerUUID string `json:"server_uuid,omitempty"`

	CreateTimestamp time.Time `json:"create_timestamp,omitzero"`
	LastModified    time.Time `json:"last_modified,omitzero"`
	BootTimestamp   time.Time `json:"boot_timestamp,omitzero"`
	// ExitStatus and ExitTimestamp are of the last end, absent while it runs.
	ExitStatus    *int      `json:"exit_status,omitempty"`
	ExitTimestamp time.Time `json:"exit_timestamp,omitzero"`

	Datasets  []string   `json:"datasets,omitempty"`
	Snapshots []Snapshot `json:"snapshots,omitempty"`
	// FreeSpace is what a flexible disk has left, in MiB.
	FreeSpace          int64     `json:"free_space,omitempty"`
	PlatformBuildstamp string    `json:"platform_buildstamp,omitempty"`
	TransitionTo       State     `json:"transition_to,omitempty"`
	TransitionExpire   time.Time `json:"transition_expire,omitzero"`
	// Failure says why state is failed, for people.
	Failure string `json:"failure,omitempty"`
}

// Snapshot is one of a zone's snapshots.
type Snapshot struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	// Size in bytes, as far as the pool knows.
	Size int64 `json:"size,omitempty"`
}

// ValidSnapshotName reports whether the name can be a snapshot's: 1 to 64 of A-Z a-z 0-9 - _ . : %.
func ValidSnapshotName(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '%':
		default:
			return false
		}
	}
	return name != "." && name != ".."
}
