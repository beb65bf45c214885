package sdc

import "time"

// Names of roles with a meaning of their own.
const (
	// AdministratorRole is the name of the role whose holders may do anything in its account. It has no policies.
	AdministratorRole = "administrator"

	// OperatorRole is what an account in [GroupRoleOperators] asks for to act as an operator. No role may have this name.
	OperatorRole = "_operator"
)

// A Role gives its members what its policies allow, on things of its account. Members may be users of the account, or accounts and users
// from elsewhere (a cross-account role).
type Role struct {
	UUID    string `json:"uuid"`    // canonical lower case; never changes
	Account string `json:"account"` // uuid of the account; never changes
	Name    string `json:"name"`    // unique within the account

	// Members are the uuids of users and accounts that may take up the role, sorted.
	Members []string `json:"members,omitempty"`

	// DefaultMembers, a part of Members, hold the role when a request asks for no role by name.
	DefaultMembers []string `json:"default_members,omitempty"`

	// Policies are the uuids of policies of the same account, sorted.
	Policies []string `json:"policies,omitempty"`

	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}
