package zones_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/zones"
)

func TestMachineCheck(t *testing.T) {
	good := func() zones.Machine {
		return zones.Machine{ID: "6b4eeebf-5d2f-4a8b-9f0e-8d1f0a3a4d55", Spec: &zones.Spec{}, RunDir: "/run/x", IDs: zones.IDRange{First: 100000, Size: 65536}}
	}
	m := good()
	if err := m.Check(); err != nil {
		t.Fatalf("Check() = %v", err)
	}
	for name, spoil := range map[string]func(*zones.Machine){
		"id":            func(m *zones.Machine) { m.ID = "6B4EEEBF-5d2f-4a8b-9f0e-8d1f0a3a4d55" },
		"run_dir":       func(m *zones.Machine) { m.RunDir = "/" + strings.Repeat("x", 80) },
		"ids":           func(m *zones.Machine) { m.IDs = zones.IDRange{First: 1<<32 - 10, Size: 11} },
		"root of hosts": func(m *zones.Machine) { m.IDs.First = 0 },
		"target":        func(m *zones.Machine) { m.Mounts = []zones.Mount{{Source: "/x", Target: "/a/.."}} },
		"source":        func(m *zones.Machine) { m.Mounts = []zones.Mount{{Source: "x", Target: "/a"}} },
		"type":          func(m *zones.Machine) { m.Mounts = []zones.Mount{{Type: "ext4", Target: "/a"}} },
		"own":           func(m *zones.Machine) { m.Init.Own = true },
		"env":           func(m *zones.Machine) { m.Init.Env = []string{"=x"} },
		"services":      func(m *zones.Machine) { m.Init.Services = []zones.Service{{Name: "x"}} },
		"limits":        func(m *zones.Machine) { m.Limits.IOPriority = 1001 },
		"swap":          func(m *zones.Machine) { m.Limits = zones.Limits{Memory: 2, Swap: 1} },
	} {
		m := good()
		spoil(&m)
		if err := m.Check(); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("Check with bad %s = %v, want ErrInvalid", name, err)
		}
	}
}

type plain struct{ zones.Driver }

type wrapped struct{ zones.Driver }

func (w wrapped) Unwrap() zones.Driver { return w.Driver }

type withConsole struct{ zones.Driver }

func (withConsole) Console(context.Context, string) (io.ReadWriteCloser, error) { return nil, nil }

func TestAs(t *testing.T) {
	var inner zones.Driver = withConsole{}
	for name, tt := range map[string]struct {
		d    zones.Driver
		want bool
	}{
		"itself": {inner, true}, "one layer": {wrapped{inner}, true}, "two layers": {wrapped{wrapped{inner}}, true},
		"a layer that hides": {plain{inner}, false}, "none": {wrapped{plain{}}, false}, "nil": {nil, false},
	} {
		if _, ok := zones.As[zones.Consoler](tt.d); ok != tt.want {
			t.Errorf("%s: found %v, want %v", name, ok, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	err := zones.OpError("start", "z", zones.OpError("exec", "y", zones.ErrBusy))
	if err.Error() != "exec zone y: busy" || !errors.Is(err, zones.ErrBusy) || !zones.Temporary(err) {
		t.Errorf("%v", err)
	}
	if zones.OpError("start", "z", nil) != nil {
		t.Error("OpError of nil is not nil")
	}
}
