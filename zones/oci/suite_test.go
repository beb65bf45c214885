//go:build linux && cgo

package oci_test

import (
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/zonestest"
)

func TestDriver(t *testing.T) {
	testenv.NeedRoot(t)
	conform(t, "")
}

// TestRuntime is the same with a runtime of the operator's choice.
func TestRuntime(t *testing.T) {
	testenv.NeedRoot(t)
	runc := testenv.NeedTool(t, "runc", "runc")
	if !testenv.Long() {
		t.Skip("as long again as TestDriver: set MOBULA_LONG=1")
	}
	conform(t, runc)
}

func conform(t *testing.T, runtime string) {
	zonestest.TestDriver(t, func(t *testing.T) zonestest.Subject {
		dir := runDir(t)
		d := openWith(t, dir, runtime)
		last := d
		t.Cleanup(func() { cleanUp(t, last) })
		return zonestest.Subject{
			Driver:   d,
			Machine:  func(t *testing.T) zones.Machine { return machine(t) },
			Programs: true,
			Reopen: func(t *testing.T) zones.Driver {
				if err := last.Close(); err != nil {
					t.Error(err)
				}
				last = openWith(t, dir, runtime)
				return last
			},
		}
	})
}
