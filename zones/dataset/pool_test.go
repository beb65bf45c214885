package dataset

import (
	"errors"
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "zone-1.data_2": true, strings.Repeat("a", MaxName): true, "": false, "a/b": false, ".a": false, "..": false,
		"a:b": false, "a%b": false, "ü": false, "a\x00": false, strings.Repeat("a", MaxName+1): false,
	} {
		if err := ValidName(name); (err == nil) != ok || err != nil && !errors.Is(err, ErrBadName) {
			t.Errorf("ValidName(%q) = %v, want ok = %v", name, err, ok)
		}
	}
	for name, ok := range map[string]bool{"a:b%c": true, "-a": true, "..": false, "a/b": false, "": false} {
		if err := ValidSnapshot(name); (err == nil) != ok {
			t.Errorf("ValidSnapshot(%q) = %v, want ok = %v", name, err, ok)
		}
	}
}

func TestRootValidate(t *testing.T) {
	for _, tt := range []struct {
		root Root
		ok   bool
	}{
		{Root{Dir: "/a"}, true},
		{Root{Lower: []string{"/a"}, Upper: "/b", Work: "/c"}, true},
		{Root{Lower: []string{"/a", "/b"}}, true},
		{Root{}, false},
		{Root{Dir: "a"}, false},
		{Root{Dir: "/a", Upper: "/b", Work: "/c"}, false},
		{Root{Lower: []string{"/a"}, Upper: "/b"}, false},
		{Root{Lower: []string{"a"}}, false},
	} {
		if err := tt.root.Validate(); (err == nil) != tt.ok {
			t.Errorf("%+v.Validate() = %v, want ok = %v", tt.root, err, tt.ok)
		}
	}
}
