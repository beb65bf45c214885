package sched

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Shares use up all zones that there is work for, and differ by one at the most among groups that are alike.
func TestSharesAddUp(t *testing.T) {
	for range 500 {
		zones, owners, each, tasks := 1+rand.IntN(40), 1+rand.IntN(6), 1+rand.IntN(5), 1+rand.IntN(60)
		s := New(Config{Zones: zones + 1})
		free := s.cfg.Zones - s.reserve
		for o := range owners {
			for j := range each {
				g := &group{key: Key{Job: fmt.Sprint(o, "/", j)}, spec: Spec{Owner: fmt.Sprint(o)}, queue: make([]string, tasks)}
				s.groups[g.key] = g
			}
		}
		s.setShares()
		sum, least, most := 0, tasks+1, 0
		for _, g := range s.groups {
			sum, least, most = sum+g.part, min(least, g.part), max(most, g.part)
		}
		groups := owners * each
		if want := max(min(free, groups*tasks), groups); sum != want || most > least+1 || least < 1 || most > tasks {
			t.Fatalf("%d zones for %d groups of %d tasks: shares add up to %d, want %d; least %d, most %d", free, groups, tasks, sum, want, least, most)
		}
	}
}
