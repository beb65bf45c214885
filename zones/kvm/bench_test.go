//go:build linux

package kvm

import (
	"testing"

	"github.com/mobulacloud/mobula/zones"
)

// From Start to firmware running, and away again.
func BenchmarkStartDestroy(b *testing.B) {
	d := newDriver(b)
	m := newMachine(b)
	m.Spec = &zones.Spec{UUID: m.ID, Brand: zones.BrandKVM, RAM: 64, VCPUs: 1}
	addDisk(b, &m, "raw", 8)
	for b.Loop() {
		if _, err := d.Start(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		if err := d.Destroy(b.Context(), m.ID); err != nil {
			b.Fatal(err)
		}
	}
}
