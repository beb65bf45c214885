package zonestest_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/zonestest"
)

var nextID atomic.Int64

func machine(t *testing.T) zones.Machine {
	return zones.Machine{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", nextID.Add(1)), Spec: &zones.Spec{Brand: zones.BrandMinimal},
		RunDir: "/run/x", IDs: zones.IDRange{First: 100000, Size: 65536}, Limits: zones.Limits{Memory: 128 << 20}}
}

func TestFake(t *testing.T) {
	zonestest.TestDriver(t, func(t *testing.T) zonestest.Subject {
		w := new(zonestest.World)
		return zonestest.Subject{Driver: w.Driver(), Machine: machine, Programs: true,
			Reopen: func(*testing.T) zones.Driver { return w.Driver() }}
	})
}

// layer hides every optional interface.
type layer struct{ zones.Driver }

func (l layer) Unwrap() zones.Driver { return l.Driver }

func TestFakeBehindLayer(t *testing.T) {
	zonestest.TestDriver(t, func(t *testing.T) zonestest.Subject {
		w := new(zonestest.World)
		return zonestest.Subject{Driver: layer{w.Driver()}, Machine: machine, Programs: true,
			Reopen: func(*testing.T) zones.Driver { return layer{w.Driver()} }}
	})
}

func TestFakeFaults(t *testing.T) {
	w := new(zonestest.World)
	d := w.Driver()
	oops := errors.New("oops")
	w.Fail("start", oops)
	w.FailAfter("start", oops)
	m := machine(t)
	if _, err := d.Start(t.Context(), m); !errors.Is(err, oops) || len(w.Running()) != 0 {
		t.Errorf("Start = %v with %v running, want the fault and nothing", err, w.Running())
	}
	if _, err := d.Start(t.Context(), m); !errors.Is(err, oops) || len(w.Running()) != 1 {
		t.Errorf("Start = %v with %v running, want the fault and a machine", err, w.Running())
	}
	if err := d.Destroy(t.Context(), m.ID); err != nil || len(w.Running()) != 0 {
		t.Errorf("Destroy = %v with %v running", err, w.Running())
	}
	if n := w.Calls("start"); n != 2 {
		t.Errorf("Calls = %d", n)
	}
}

func TestFakeInBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := zonestest.NewFake()
		m := machine(t)
		m.Init.Args = []string{"sleep", "3600"}
		begin := time.Now()
		if _, err := d.Start(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		st, err := d.Wait(t.Context(), m.ID)
		if err != nil || !st.Success() || time.Since(begin) != time.Hour {
			t.Errorf("Wait = %+v, %v after %v", st, err, time.Since(begin))
		}
	})
}

func ExampleWorld() {
	w := new(zonestest.World)
	d := w.Driver()
	w.Fail("start", zones.ErrBusy)
	_, err := d.Start(context.Background(), zones.Machine{ID: "x"})
	fmt.Println(errors.Is(err, zones.ErrBusy))
	// Output: true
}
