package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/zonestest"
)

// TestDriver proves that the driver of our own keeps every duty of a driver, over the fake.
func TestDriver(t *testing.T) {
	var n atomic.Int64
	zonestest.TestDriver(t, func(t *testing.T) zonestest.Subject {
		w := new(zonestest.World)
		return zonestest.Subject{
			Driver: audited{w.Driver(), t.Output()},
			Machine: func(*testing.T) zones.Machine {
				return zones.Machine{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n.Add(1)), Spec: &zones.Spec{Brand: zones.BrandMinimal},
					RunDir: "/run/x", IDs: zones.IDRange{First: 100000, Size: 65536}}
			},
			Reopen:   func(t *testing.T) zones.Driver { return audited{w.Driver(), t.Output()} },
			Programs: true,
		}
	})
}

func TestAudit(t *testing.T) {
	var log bytes.Buffer
	d := audited{zonestest.NewFake(), &log}
	m := zones.Machine{ID: "00000000-0000-4000-8000-000000000001", Spec: &zones.Spec{Brand: zones.BrandMinimal},
		RunDir: "/run/x", IDs: zones.IDRange{First: 100000, Size: 65536}}
	if _, err := d.Start(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if _, err := zones.Run(t.Context(), d, m.ID, zones.ExecRequest{Args: []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"start " + m.ID + " with 0 MiB: ok", `exec ["true"] in ` + m.ID + " as 0: ok"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log is %q, want %q in it", log.String(), want)
		}
	}
}
