//go:build linux

package host

import (
	"testing"

	"github.com/mobulacloud/mobula/zones"
)

// BenchmarkZone is a zone from create to running and gone again, with clone and, on btrfs, an interface.
func BenchmarkZone(b *testing.B) {
	for name, l := range map[string]lab{"overlay": {}, "btrfs": {btrfs: true, network: true}} {
		b.Run(name, func(b *testing.B) {
			o := newLab(b, l).must(b)
			extra := ""
			if l.network {
				extra = `"nics":[{"nic_tag":"external","ip":"10.77.0.5","netmask":"255.255.255.0"}]`
			}
			s := spec(b, extra)
			if z, err := o.Create(b.Context(), s); err != nil { // the image is made once
				b.Fatal(err)
			} else if err := o.Delete(b.Context(), z.UUID); err != nil {
				b.Fatal(err)
			}
			var z *zones.Zone
			for b.Loop() {
				var err error
				if z, err = o.Create(b.Context(), s); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := o.Delete(b.Context(), z.UUID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkExec is one program in a standing zone.
func BenchmarkExec(b *testing.B) {
	o := newLab(b, lab{}).must(b)
	z, err := o.Create(b.Context(), spec(b, ""))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := o.try(b.Context(), z.UUID, "exit 0"); err != nil {
			b.Fatal(err)
		}
	}
}
