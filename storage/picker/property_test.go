package picker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mobulacloud/mobula/storage"
	"pgregory.net/rapid"
)

// TestChooseProperties holds every choice against the rules, restated here without regard to speed.
func TestChooseProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{MultiDatacenter: rapid.Bool().Draw(t, "multi"), Tuples: rapid.IntRange(0, 5).Draw(t, "tuples")}
		n := rapid.IntRange(0, 14).Draw(t, "nodes")
		reports := make([]Report, n)
		for i := range reports {
			reports[i] = Report{
				Shark:       storage.Shark{Datacenter: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "dc"), Node: fmt.Sprint("n", i)},
				Available:   rapid.Int64Range(0, 100).Draw(t, "available"),
				PercentUsed: rapid.SampledFrom([]int{0, 50, 90, 91, 92, 93, 100}).Draw(t, "used"),
				Time:        now.Add(-rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour, 2 * time.Hour}).Draw(t, "age")),
				ReadOnly:    rapid.SampledFrom([]string{"", "", "", "", "broken"}).Draw(t, "readonly"),
				Retired:     rapid.SampledFrom([]string{"", "", "", "", "lost"}).Draw(t, "retired"),
				Down:        rapid.SampledFrom([]string{"", "", "", "", "refused"}).Draw(t, "down"),
				Failures:    rapid.IntRange(0, 70).Draw(t, "failures"),
			}
		}
		req := Request{
			Size:     rapid.Int64Range(0, 100).Draw(t, "size"),
			Copies:   rapid.IntRange(1, 5).Draw(t, "copies"),
			Operator: rapid.Bool().Draw(t, "operator"),
		}
		for range rapid.IntRange(0, 2).Draw(t, "excluded") {
			req.Exclude = append(req.Exclude, fmt.Sprint("n", rapid.IntRange(0, 14).Draw(t, "exclude")))
		}
		if n > 0 && rapid.Bool().Draw(t, "beside") {
			req.Beside = append(req.Beside, reports[rapid.IntRange(0, n-1).Draw(t, "holder")].Shark)
		}
		v, err := NewView(cfg, now, reports)
		if err != nil {
			t.Fatal(err)
		}
		seed := rapid.Uint64().Draw(t, "seed")
		tuples, err := v.Choose(req, source(seed))

		limit := 90
		if req.Operator {
			limit = 92
		}
		fit := map[storage.Shark]bool{}
		dcs := map[string]bool{}
		for _, s := range req.Beside {
			dcs[s.Datacenter] = true
		}
		for _, r := range reports {
			if r.ReadOnly == "" && r.Retired == "" && r.Down == "" && r.PercentUsed <= limit && now.Sub(r.Time) <= time.Hour &&
				r.Available >= req.Size && !slices.Contains(req.Exclude, r.Node) && !slices.Contains(req.Beside, r.Shark) {
				fit[r.Shark] = true
				dcs[r.Datacenter] = true
			}
		}
		severalNeeded := cfg.MultiDatacenter && req.Copies+len(req.Beside) > 1
		possible := len(fit) >= req.Copies && (!severalNeeded || len(dcs) > 1)
		if possible != (err == nil) {
			t.Fatalf("Choose: %v, %v; possible: %v", tuples, err, possible)
		}
		if cfg.Tuples == 0 && len(tuples) > 3 || cfg.Tuples > 0 && len(tuples) > cfg.Tuples {
			t.Fatalf("%d tuples", len(tuples))
		}
		seen := map[string]bool{}
		for _, tuple := range tuples {
			if len(tuple) != req.Copies {
				t.Fatalf("tuple %v for %d copies", tuple, req.Copies)
			}
			span := map[string]bool{}
			for _, s := range req.Beside {
				span[s.Datacenter] = true
			}
			for _, s := range tuple {
				if !fit[s] || seen[s.Node] {
					t.Fatalf("%v is unfit or chosen twice in %v", s, tuples)
				}
				seen[s.Node] = true
				span[s.Datacenter] = true
			}
			if severalNeeded && len(span) < 2 {
				t.Fatalf("tuple %v beside %v spans one datacentre", tuple, req.Beside)
			}
		}
		for _, verdict := range v.Explain(req) {
			if (verdict.Rule == "") != fit[verdict.Shark] {
				t.Fatalf("verdict %+v, fit: %v", verdict, fit[verdict.Shark])
			}
		}
		if again, _ := v.Choose(req, source(seed)); !cmp.Equal(again, tuples) {
			t.Fatalf("same seed, other choice: %v, %v", tuples, again)
		}
	})
}
