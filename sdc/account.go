package sdc

import (
	"slices"
	"time"
)

// Groups of accounts that services act on.
const (
	// GroupOperators makes an account an operator: it passes every authorisation check.
	GroupOperators = "operators"

	// GroupReaders lets an account read every object and directory of every account.
	GroupReaders = "readers"

	// GroupRoleOperators makes an account an operator for requests that ask for the role [OperatorRole] and for no others,
	// even when it is in [GroupOperators] too.
	GroupRoleOperators = "role-operators"

	// GroupRegisteredDevelopers marks accounts that may register applications.
	GroupRegisteredDevelopers = "registered_developers"
)

// An Account owns things and pays for them. It is what the first component of a path and of a key id names.
type Account struct {
	UUID  string `json:"uuid"`  // canonical lower case; never changes
	Login string `json:"login"` // 3 to 32 characters; unique in the data centre, regardless of case
	Email string `json:"email,omitzero"`

	Person

	// ApprovedForProvisioning must be set for the account to be let in anywhere; only operators are let in without.
	ApprovedForProvisioning bool `json:"approved_for_provisioning"`

	// Disabled shuts the account and its users out, operator or not.
	Disabled bool `json:"disabled,omitzero"`

	// Groups the account is in, sorted: [GroupOperators] and its like.
	Groups []string `json:"groups,omitempty"`

	// TritonCNSEnabled publishes the account's instances in the name service.
	TritonCNSEnabled bool `json:"triton_cns_enabled,omitzero"`

	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

// A Person is what accounts and users say about themselves. Every field may be empty, and none of them gives a right.
type Person struct {
	CommonName string `json:"cn,omitzero"`
	Surname    string `json:"sn,omitzero"`
	GivenName  string `json:"givenname,omitzero"`
	Company    string `json:"company,omitzero"`
	Address    string `json:"address,omitzero"`
	City       string `json:"city,omitzero"`
	State      string `json:"state,omitzero"`
	PostalCode string `json:"postalcode,omitzero"`
	Country    string `json:"country,omitzero"`
	Phone      string `json:"phone,omitzero"`
}

// InGroup reports whether the account is in the group.
func (a *Account) InGroup(group string) bool { return slices.Contains(a.Groups, group) }

// Operator reports whether the account is in [GroupOperators] and not disabled. What that means for one request is for sdc/authcache to say:
// members of [GroupRoleOperators] must ask for it.
func (a *Account) Operator() bool { return !a.Disabled && a.InGroup(GroupOperators) }

// Active reports whether the account is let in: it is not disabled, and approved for provisioning unless it is an operator's.
func (a *Account) Active() bool {
	return !a.Disabled && (a.ApprovedForProvisioning || a.InGroup(GroupOperators))
}
