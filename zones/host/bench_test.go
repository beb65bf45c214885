//go:build linux

package host

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/benchkit"
)

// benchHost is a host of a benchmark's, quiet, on which the image has been made.
func benchHost(b *testing.B, l lab) *opened {
	b.Helper()
	l = newLab(b, l)
	o, err := l.open(b.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(o.close)
	z, err := o.Create(b.Context(), spec(b, nic(l, 5)))
	if err == nil {
		err = o.Delete(b.Context(), z.UUID)
	}
	if err != nil {
		b.Fatal(err)
	}
	return o
}

func nic(l lab, n int) string {
	if !l.network {
		return ""
	}
	return fmt.Sprintf(`"nics":[{"nic_tag":"external","ip":"10.77.0.%d","netmask":"255.255.255.0"}]`, n)
}

var benchLabs = map[string]lab{
	"overlay": {}, "overlay+net": {network: true}, "btrfs": {btrfs: true}, "btrfs+net": {btrfs: true, network: true},
}

// BenchmarkCreate is a zone from its spec to running, with a clone of the image, all records synced, and, where it says so, an interface. Its end
// is not in the time but in the processor time.
func BenchmarkCreate(b *testing.B) {
	for name, l := range benchLabs {
		b.Run(name, func(b *testing.B) {
			o := benchHost(b, l)
			s := spec(b, nic(l, 5))
			var spread benchkit.Spread
			benchkit.CPU(b)
			for b.Loop() {
				begin := time.Now()
				z, err := o.Create(b.Context(), s)
				if err != nil {
					b.Fatal(err)
				}
				spread.Add(begin)
				b.StopTimer()
				if err := o.Delete(b.Context(), z.UUID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			spread.Report(b)
		})
	}
}

// BenchmarkCreateTwo is how many zones a second two workers make, the ends of the zones before included.
func BenchmarkCreateTwo(b *testing.B) {
	for name, l := range benchLabs {
		b.Run(name, func(b *testing.B) {
			o := benchHost(b, l)
			const workers = 2
			rounds := make(chan struct{})
			errs := make([]error, workers)
			var spread benchkit.Spread
			var wg sync.WaitGroup
			for w := range workers {
				s := spec(b, nic(l, 10+w))
				wg.Go(func() {
					for range rounds {
						begin := time.Now()
						z, err := o.Create(b.Context(), s)
						if err == nil {
							spread.Add(begin)
							err = o.Delete(b.Context(), z.UUID)
						}
						errs[w] = errors.Join(errs[w], err)
					}
				})
			}
			benchkit.CPU(b)
			begin := time.Now()
			for b.Loop() {
				rounds <- struct{}{}
			}
			close(rounds)
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "zones/s")
			spread.Report(b)
			if err := errors.Join(errs...); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkExec is one program in a standing zone.
func BenchmarkExec(b *testing.B) {
	o := benchHost(b, lab{})
	z, err := o.Create(b.Context(), spec(b, ""))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if st, err := zones.Run(b.Context(), o.driver, z.UUID, zones.ExecRequest{Args: []string{"/bin/true"}}); err != nil || !st.Success() {
			b.Fatal(st, err)
		}
	}
}
