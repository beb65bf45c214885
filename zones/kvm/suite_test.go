//go:build linux

package kvm

import (
	"testing"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/zonestest"
)

func TestDriver(t *testing.T) {
	guest := withGuest(t)
	zonestest.TestDriver(t, func(t *testing.T) zonestest.Subject {
		cfg := Config{StateDir: t.TempDir(), CgroupParent: "/mobula-kvm-test"}
		guest(&cfg)
		open := func(t *testing.T) *Driver {
			d, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		d := open(t)
		last := d
		t.Cleanup(func() { // after the suite's own clean-up, whichever driver is the last
			if err := last.Close(); err != nil {
				t.Error(err)
			}
		})
		return zonestest.Subject{
			Driver:  d,
			Machine: func(t *testing.T) zones.Machine { return newMachine(t) },
			Reopen: func(t *testing.T) zones.Driver {
				if err := last.Close(); err != nil {
					t.Error(err)
				}
				last = open(t)
				return last
			},
		}
	})
}
