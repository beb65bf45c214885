package supervisor

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

const someID = "8689ccef-b3ce-4068-9dd7-2db89df6dca2"

func TestAnonymous(t *testing.T) {
	for base, want := range map[string]bool{
		"a.0." + someID:                        true,
		"a.b.1." + someID:                      true,
		"reduce.1." + someID:                   true,
		"a.1.err." + someID:                    true,
		"a.2." + someID:                        false, // there is no such phase
		"a.-1." + someID:                       false,
		"a.01." + someID:                       false,
		"a." + someID:                          false,
		".0." + someID:                         false,
		someID:                                 false,
		"a.0." + someID + "x":                  false,
		"a.0.x" + someID:                       false,
		"a.0." + strings.Repeat("z", 36):       false,
		"a.0.core." + someID:                   false,
		"a.0.{" + someID[1:35] + "}":           false,
		"a.err." + someID:                      false,
		"a.0.err.err." + someID:                false,
		"a.0." + strings.ToUpper(someID) + "":  false,
		"a.0." + strings.ToUpper(someID) + ".": false,
	} {
		if id, ok := anonymous(base, 2); ok != want || ok && id.String() != someID {
			t.Errorf("anonymous(%q) = %v, %v, want %v", base, id, ok, want)
		}
	}
}

// FuzzAnonymous holds that nothing is taken for an anonymous output but what ends in a phase and a uuid as tasks write them.
func FuzzAnonymous(f *testing.F) {
	f.Add("a.0." + someID)
	f.Add("a.0.err." + someID)
	f.Add("x")
	f.Fuzz(func(t *testing.T, base string) {
		id, ok := anonymous(base, 3)
		if !ok {
			return
		}
		if !strings.HasSuffix(base, "."+id.String()) || id == uuid.Nil && !strings.HasSuffix(base, uuid.Nil.String()) {
			t.Errorf("anonymous(%q) = %v", base, id)
		}
	})
}
