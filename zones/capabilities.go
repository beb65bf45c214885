package zones

import "slices"

// Capabilities say what a driver can do here, so that a caller decides before it tries, a placement rule can read
// them and a conformance suite can skip by them.
type Capabilities struct {
	// Name is the driver's, as in [Handle.Driver]: "oci", "kvm".
	Name string `json:"name"`
	// Brands are those it serves.
	Brands []Brand `json:"brands"`
	// Exec, Console, Give, Reset and Snapshot: it can, and has the matching method or optional interface.
	Exec     bool `json:"exec"`
	Console  bool `json:"console"`
	Give     bool `json:"give"`
	Reset    bool `json:"reset"`
	Snapshot bool `json:"snapshot"`
	// Survives: machines run on when this process ends.
	Survives bool `json:"survives"`
	// Isolation says how machines are kept apart: "userns", "kvm", "tcg", "none".
	Isolation string `json:"isolation"`
	// OneUser: programs in a machine run as its root only; another user cannot be asked for.
	OneUser bool `json:"one_user,omitempty"`
	// Limits are the names of the [Limits] fields it enforces, by their JSON names.
	Limits []string `json:"limits"`
	// Properties are the optional properties of a spec that it acts on ([EffectOptional]); a host refuses the others.
	Properties []string `json:"properties,omitempty"`
	// Missing says in one line each what this host lacks and what that takes away; for people.
	Missing []string `json:"missing,omitempty"`
}

// Serves reports whether the driver runs machines of the brand.
func (c Capabilities) Serves(b Brand) bool { return slices.Contains(c.Brands, b) }

// Enforces reports whether the driver enforces the limit with the JSON name.
func (c Capabilities) Enforces(limit string) bool { return slices.Contains(c.Limits, limit) }
