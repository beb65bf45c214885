package benchkit

import (
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	var s Spread
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			s.Add(time.Now().Add(-3 * time.Millisecond))
		}
		s.Report(b)
	})
	if got := r.Extra["p50-ms"]; got < 3 || got > 1000 {
		t.Errorf("the median is %v ms, want 3 or a little more", got)
	}
	if r.Extra["p99-ms"] < r.Extra["p50-ms"] {
		t.Errorf("the 99th percentile is below the median: %v", r.Extra)
	}
}
