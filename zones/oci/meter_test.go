//go:build linux && cgo

package oci_test

import (
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// TestMeter compares the quick meters with all of them, around a program that uses some of everything.
func TestMeter(t *testing.T) {
	d := newDriver(t)
	m := machine(t)
	start(t, d, m)
	meter, err := d.Meter(m.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer meter.Close()
	before := meter.Read()
	st, err := zones.Run(t.Context(), d, m.ID, zones.ExecRequest{Args: []string{"bash", "-c", "x=$(head -c 20000000 /dev/zero | tr '\\0' x); i=0; while ((i < 100000)); do ((i++)); done; echo $x | wc -c"}})
	if err != nil || !st.Success() {
		t.Fatal(st, err)
	}
	after := meter.Read()
	all, err := d.Usage(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if after.CPU.User-before.CPU.User < 10*time.Millisecond || after.Memory.Peak < 20<<20 {
		t.Errorf("%+v, before that %+v", after, before)
	}
	if near := all.CPU.Total - after.CPU.Total; near < -20*time.Millisecond || near > 20*time.Millisecond {
		t.Errorf("processor time %v, by all meters %v", after.CPU.Total, all.CPU.Total)
	}
	if all.Memory.Peak != after.Memory.Peak || all.Memory.OOMKills != after.Memory.OOMKills {
		t.Errorf("memory %+v, by all meters %+v", after.Memory, all.Memory)
	}
}

func BenchmarkMeter(b *testing.B) {
	d := newDriver(b)
	m := machine(b)
	start(b, d, m)
	meter, err := d.Meter(m.ID)
	if err != nil {
		b.Fatal(err)
	}
	defer meter.Close()
	for b.Loop() {
		meter.Read()
	}
}
