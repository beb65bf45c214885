package picker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mobulacloud/mobula/storage"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func report(dc, node string, edit ...func(*Report)) Report {
	r := Report{Shark: storage.Shark{Datacenter: dc, Node: node}, Available: 100 << 30, PercentUsed: 50, Time: now}
	for _, e := range edit {
		e(&r)
	}
	return r
}

func newView(t testing.TB, cfg Config, reports ...Report) *View {
	t.Helper()
	v, err := NewView(cfg, now, reports)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func TestChooseRules(t *testing.T) {
	good := []Report{report("a", "n1"), report("a", "n2")}
	used := func(p int) func(*Report) { return func(r *Report) { r.PercentUsed = p } }
	tests := []struct {
		name     string
		cfg      Config
		third    Report
		req      Request
		eligible bool
		rule     Rule
	}{
		{name: "healthy", third: report("a", "n3"), eligible: true},
		{name: "at the limit", third: report("a", "n3", used(90)), eligible: true},
		{name: "over the limit", third: report("a", "n3", used(91)), rule: Utilization},
		{name: "operator over the ordinary limit", third: report("a", "n3", used(92)), req: Request{Operator: true}, eligible: true},
		{name: "operator over the operators' limit", third: report("a", "n3", used(93)), req: Request{Operator: true}, rule: Utilization},
		{name: "configured limit", cfg: Config{MaxPercentUsed: 99}, third: report("a", "n3", used(99)), eligible: true},
		{name: "report at the lag", third: report("a", "n3", func(r *Report) { r.Time = now.Add(-time.Hour) }), eligible: true},
		{name: "report past the lag", third: report("a", "n3", func(r *Report) { r.Time = now.Add(-time.Hour - 1) }), rule: Stale},
		{name: "read-only", third: report("a", "n3", func(r *Report) { r.ReadOnly = "disk errors" }), rule: ReadOnly},
		{name: "draining", third: report("a", "n3", func(r *Report) { r.Retired = "draining" }), rule: Retired},
		{name: "down", third: report("a", "n3", func(r *Report) { r.Down = "connection refused" }), rule: Down},
		{name: "exactly enough room", third: report("a", "n3", func(r *Report) { r.Available = 7 }), req: Request{Size: 7}, eligible: true},
		{name: "one byte short", third: report("a", "n3", func(r *Report) { r.Available = 6 }), req: Request{Size: 7}, rule: Space},
		{name: "unknown size", third: report("a", "n3", func(r *Report) { r.Available = DefaultStreamingSize - 1 }), req: Request{Size: -1}, rule: Space},
		{name: "excluded", third: report("a", "n3"), req: Request{Exclude: []string{"n3"}}, rule: Excluded},
		{name: "holds a copy", third: report("a", "n3"), req: Request{Beside: []storage.Shark{{Datacenter: "a", Node: "n3"}}}, rule: Excluded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newView(t, tt.cfg, append(good[:2:2], tt.third)...)
			req := tt.req
			req.Copies = 3
			tuples, err := v.Choose(req, source(1))
			if tt.eligible != (err == nil) {
				t.Fatalf("Choose = %v, %v; want eligible %v", tuples, err, tt.eligible)
			}
			var got Verdict
			for _, verdict := range v.Explain(req) {
				if verdict.Shark.Node == "n3" {
					got = verdict
				}
			}
			if got.Rule != tt.rule || (tt.rule != "") != (got.Detail != "") {
				t.Errorf("Explain says %q (%s), want %q", got.Rule, got.Detail, tt.rule)
			}
			if err != nil {
				refusal, ok := errors.AsType[*NotEnoughSpaceError](err)
				if !ok || !errors.Is(err, storage.ErrNoSpace) {
					t.Fatalf("error %v is no NotEnoughSpaceError", err)
				}
				if refusal.Refused[tt.rule] != 1 || refusal.Eligible != 2 {
					t.Errorf("refusal %+v, want one node by %q and 2 eligible", refusal, tt.rule)
				}
				if want := tt.rule == Down || tt.rule == Stale; refusal.Unreachable != want {
					t.Errorf("Unreachable = %v, want %v", refusal.Unreachable, want)
				}
			}
		})
	}
}

func TestChooseDatacenters(t *testing.T) {
	multi := Config{MultiDatacenter: true}
	a1, a2, a3, b1, b2 := report("a", "a1"), report("a", "a2"), report("a", "a3"), report("b", "b1"), report("b", "b2")
	tests := []struct {
		name    string
		cfg     Config
		reports []Report
		req     Request
		tuples  int
	}{
		{"one datacentre will do", Config{}, []Report{a1, a2}, Request{Copies: 2}, 1},
		{"two are required", multi, []Report{a1, a2, a3}, Request{Copies: 2}, 0},
		{"a single copy needs no second", multi, []Report{a1}, Request{Copies: 1}, 1},
		{"every tuple spans two", multi, []Report{a1, a2, a3, b1}, Request{Copies: 2}, 1},
		{"two tuples", multi, []Report{a1, a2, b1, b2}, Request{Copies: 2}, 2},
		{"three copies over two", multi, []Report{a1, a2, b1}, Request{Copies: 3}, 1},
		{"a new copy beside one in the other", multi, []Report{a1, a2}, Request{Copies: 1, Beside: []storage.Shark{b1.Shark}}, 2},
		{"a new copy beside one in the same", multi, []Report{a1, a2}, Request{Copies: 1, Beside: []storage.Shark{a3.Shark}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tuples, err := newView(t, tt.cfg, tt.reports...).Choose(tt.req, source(3))
			if len(tuples) != tt.tuples || (err == nil) != (tt.tuples > 0) {
				t.Errorf("Choose = %v, %v; want %d tuples", tuples, err, tt.tuples)
			}
		})
	}
}

func TestNewCopyGoesToAnotherDatacenter(t *testing.T) {
	v := newView(t, Config{}, report("a", "a1"), report("a", "a2"), report("b", "b1", func(r *Report) { r.Available = 1 << 20 }))
	for seed := range uint64(50) {
		tuples, err := v.Choose(Request{Copies: 1, Beside: []storage.Shark{{Datacenter: "a", Node: "a1"}}}, source(seed))
		if err != nil || tuples[0][0].Node != "b1" {
			t.Fatalf("seed %d: %v, %v; want b1, in a datacentre without a copy", seed, tuples, err)
		}
	}
}

func TestChoosePrefersHealthAndSpace(t *testing.T) {
	v := newView(t, Config{}, report("a", "good"),
		report("a", "sick", func(r *Report) { r.Failures = 4 }),
		report("a", "full", func(r *Report) { r.Available /= 10 }))
	count := map[string]int{}
	for seed := range uint64(1000) {
		tuples, err := v.Choose(Request{Copies: 1}, source(seed))
		if err != nil {
			t.Fatal(err)
		}
		count[tuples[0][0].Node]++
	}
	// Expected: 1000 in proportion to 1 : 1/16 : 1/10.
	if count["good"] < 800 || count["sick"] > 110 || count["full"] > 150 || count["sick"] == 0 || count["full"] == 0 {
		t.Errorf("chosen %v", count)
	}
}

func TestInvalid(t *testing.T) {
	if _, err := newView(t, Config{}, report("a", "a1")).Choose(Request{}, source(0)); !errors.Is(err, storage.ErrInvalid) {
		t.Errorf("no copies: %v", err)
	}
	for _, cfg := range []Config{{MaxPercentUsed: 101}, {MaxPercentUsedOperator: -1}, {Lag: -1}, {Tuples: -1}, {StreamingSize: -1}} {
		if _, err := NewView(cfg, now, nil); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("NewView(%+v): %v", cfg, err)
		}
	}
	for _, reports := range [][]Report{{report("a", "")}, {report("a", "x"), report("b", "x")}} {
		if _, err := NewView(Config{}, now, reports); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("NewView(%v): %v", reports, err)
		}
	}
}

func TestRefusalMessage(t *testing.T) {
	v := newView(t, Config{}, report("a", "a1", func(r *Report) { r.Available = 5 }), report("a", "a2"))
	_, err := v.Choose(Request{Size: 1<<20 + 1, Copies: 2}, source(0))
	want := "picker: not enough free space for 2 MB in 2 copies: 1 nodes in 1 datacentres are eligible, refused: space 1"
	if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func ExampleView_Choose() {
	reports := []Report{
		{Shark: storage.Shark{Datacenter: "east", Node: "1.stor"}, Available: 2 << 40, PercentUsed: 40, Time: now},
		{Shark: storage.Shark{Datacenter: "west", Node: "2.stor"}, Available: 3 << 40, PercentUsed: 95, Time: now},
	}
	view, err := NewView(Config{}, now, reports)
	if err != nil {
		panic(err)
	}
	request := Request{Size: 4 << 20, Copies: 1}
	tuples, err := view.Choose(request, rand.New(rand.NewPCG(1, 2)))
	fmt.Println(tuples, err)
	for _, v := range view.Explain(request) {
		fmt.Printf("%s rule=%q detail=%q\n", v.Shark.Node, v.Rule, v.Detail)
	}
	// Output:
	// [[{east 1.stor}]] <nil>
	// 1.stor rule="" detail=""
	// 2.stor rule="utilization" detail="95% used, limit 90%"
}

func BenchmarkChoose(b *testing.B) {
	for _, nodes := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			v := newView(b, Config{MultiDatacenter: true}, fleet(nodes)...)
			rng := source(1)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Choose(Request{Size: 1 << 20, Copies: 2}, rng); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewView(b *testing.B) {
	reports := fleet(10000)
	b.ReportAllocs()
	for b.Loop() {
		newView(b, Config{}, reports...)
	}
}

func fleet(n int) []Report {
	rng := source(9)
	reports := make([]Report, n)
	for i := range reports {
		reports[i] = report(fmt.Sprintf("dc%d", i%3), fmt.Sprintf("%d.stor", i), func(r *Report) {
			r.Available, r.PercentUsed = rng.Int64N(1<<40), rng.IntN(100)
		})
	}
	return reports
}
