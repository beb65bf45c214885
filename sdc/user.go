package sdc

import "time"

// AnonymousUser is the login of the user whose default roles say what callers without credentials may do with an account's
// things. An account without such a user gives them nothing but its public directory.
const AnonymousUser = "anonymous"

// A User is a person below an account (a subuser): it owns nothing, signs with keys of its own and has the rights that its roles give.
type User struct {
	UUID    string `json:"uuid"`    // canonical lower case; never changes
	Account string `json:"account"` // uuid of the account; never changes
	Login   string `json:"login"`   // 3 to 32 characters; unique within the account, regardless of case
	Email   string `json:"email,omitzero"`

	Person

	// Disabled shuts the user out.
	Disabled bool `json:"disabled,omitzero"`

	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}
