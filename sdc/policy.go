package sdc

import "time"

// A Policy is a named list of rules. It does nothing until a role refers to it.
type Policy struct {
	UUID        string `json:"uuid"`    // canonical lower case; never changes
	Account     string `json:"account"` // uuid of the account; never changes
	Name        string `json:"name"`    // unique within the account
	Description string `json:"description,omitzero"`

	// Rules are sentences in the language of sdc/aperture, such as "CAN getobject and putobject". Each of them can only allow.
	Rules []string `json:"rules"`

	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}
