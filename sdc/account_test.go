package sdc

import "testing"

func TestAccountActive(t *testing.T) {
	operators := []string{GroupOperators}
	for _, tt := range []struct {
		name             string
		account          Account
		active, operator bool
	}{
		{"new", Account{}, false, false},
		{"approved", Account{ApprovedForProvisioning: true}, true, false},
		{"disabled", Account{ApprovedForProvisioning: true, Disabled: true}, false, false},
		{"operator", Account{Groups: operators}, true, true},
		{"disabled operator", Account{ApprovedForProvisioning: true, Groups: operators, Disabled: true}, false, false},
		{"operator when asking", Account{Groups: []string{GroupRoleOperators}}, false, false},
	} {
		if got := tt.account.Active(); got != tt.active {
			t.Errorf("%s: Active() = %v", tt.name, got)
		}
		if got := tt.account.Operator(); got != tt.operator {
			t.Errorf("%s: Operator() = %v", tt.name, got)
		}
	}
}
