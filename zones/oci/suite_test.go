//go:build linux

package oci_test

import (
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci"
	"github.com/mobulacloud/mobula/zones/zonestest"
)

func TestDriver(t *testing.T) {
	testenv.NeedRoot(t)
	zonestest.TestDriver(t, func(t *testing.T) zonestest.Subject {
		dir := runDir(t)
		d := open(t, dir)
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
				last = open(t, dir)
				return last
			},
		}
	})
}

var _ zones.Driver = (*oci.Driver)(nil)
