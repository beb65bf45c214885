package benchkit

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// Spread collects how long each round took. Its methods may be called from several goroutines.
type Spread struct {
	mu   sync.Mutex
	took []time.Duration
}

// Add notes a round that began then.
func (s *Spread) Add(begin time.Time) {
	d := time.Since(begin)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, d)
}

// Report adds the median and the 99th percentile to the benchmark, in milliseconds.
func (s *Spread) Report(b *testing.B) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.took) == 0 {
		return
	}
	slices.Sort(s.took)
	ms := func(i int) float64 { return float64(s.took[i].Microseconds()) / 1000 }
	b.ReportMetric(ms(len(s.took)/2), "p50-ms")
	b.ReportMetric(ms(len(s.took)*99/100), "p99-ms")
}
