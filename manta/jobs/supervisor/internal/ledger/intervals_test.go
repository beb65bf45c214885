package ledger

import (
	"math/rand/v2"
	"testing"
)

func TestIntervals(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		var s intervals
		truth := map[int64]bool{}
		for range 100 {
			n := rnd.Int64N(60)
			if s.add(n) == truth[n] {
				t.Fatalf("add(%d) to %v", n, s.spans)
			}
			truth[n] = true
		}
		for n := range int64(62) {
			if s.has(n) != truth[n] {
				t.Fatalf("has(%d) of %v", n, s.spans)
			}
			next := n
			for truth[next] {
				next++
			}
			if got := s.next(n); got != next {
				t.Fatalf("next(%d) = %d of %v, want %d", n, got, s.spans, next)
			}
		}
		if s.count != int64(len(truth)) {
			t.Fatalf("count %d, want %d", s.count, len(truth))
		}
	}
}
