package zones

import "time"

// EventType is the kind of an [Event].
type EventType string

const (
	// EventReady comes first and says that nothing after it will be missed.
	EventReady EventType = "ready"
	// EventCreate, EventModify and EventDelete are a zone's.
	EventCreate EventType = "create"
	EventModify EventType = "modify"
	EventDelete EventType = "delete"
)

// Event is something that happened to a zone (vmadm events).
type Event struct {
	Type   EventType `json:"type"`
	Date   time.Time `json:"date"`
	ZoneID string    `json:"zonename,omitempty"`
	// Zone is the zone after the event, as it was for a deletion.
	Zone *Zone `json:"vm,omitempty"`
	// Changes are what a modification changed.
	Changes []Change `json:"changes,omitempty"`
}

// Change is one property that changed.
type Change struct {
	// Path is the property and what is inside it: ["nics", "0", "ip"].
	Path []string `json:"path"`
	// From and To are the values before and after; nil means absent.
	From any `json:"from"`
	To   any `json:"to"`
	// Action is "added", "removed" or "changed".
	Action string `json:"action"`
}
