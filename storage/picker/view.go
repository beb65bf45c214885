package picker

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/mobulacloud/mobula/storage"
)

// Config is the policy of placement. The zero value is the original's policy for one datacentre.
type Config struct {
	// MaxPercentUsed is how full a node may be to take ordinary writes; 0 means 90.
	MaxPercentUsed int

	// MaxPercentUsedOperator is the same for operators' writes; 0 means 92.
	MaxPercentUsedOperator int

	// Lag is how old a report may be; 0 means an hour.
	Lag time.Duration

	// MultiDatacenter requires that an object of several copies spans at least two datacentres.
	MultiDatacenter bool

	// StreamingSize is the room, in bytes, that an object of unknown size is taken to need; 0 means 51,200 MiB.
	StreamingSize int64

	// Tuples is the greatest number of alternatives in an answer; 0 means 3.
	Tuples int
}

// Defaults of [Config].
const (
	DefaultMaxPercentUsed         = 90
	DefaultMaxPercentUsedOperator = 92
	DefaultLag                    = time.Hour
	DefaultStreamingSize          = 51200 << 20
	DefaultTuples                 = 3
)

func (c Config) withDefaults() (Config, error) {
	for _, p := range []int{c.MaxPercentUsed, c.MaxPercentUsedOperator} {
		if p < 0 || p > 100 {
			return c, fmt.Errorf("%w: picker: utilization limit of %d%%", storage.ErrInvalid, p)
		}
	}
	if c.Lag < 0 || c.StreamingSize < 0 || c.Tuples < 0 {
		return c, fmt.Errorf("%w: picker: negative lag, streaming size or number of tuples", storage.ErrInvalid)
	}
	c.MaxPercentUsed = cmp.Or(c.MaxPercentUsed, DefaultMaxPercentUsed)
	c.MaxPercentUsedOperator = cmp.Or(c.MaxPercentUsedOperator, DefaultMaxPercentUsedOperator)
	c.Lag = cmp.Or(c.Lag, DefaultLag)
	c.StreamingSize = cmp.Or(c.StreamingSize, DefaultStreamingSize)
	c.Tuples = cmp.Or(c.Tuples, DefaultTuples)
	return c, nil
}

// A View is the fleet at one point in time, arranged for choosing. It never changes, so any number of goroutines may use it.
type View struct {
	cfg     Config
	now     time.Time
	reports []Report
	// Two arrangements: what ordinary writes and what operators' writes may use.
	ordinary, operator []datacenter
}

// datacenter holds its eligible nodes by falling free space, so that the nodes with room for an object are a prefix.
type datacenter struct {
	name  string
	nodes []candidate
}

type candidate struct {
	shark     storage.Shark
	available int64
	upTo      float64 // sum of the weights of this node and all before it
}

// NewView arranges the reports as they stand at now. It fails when the policy makes no sense or a node reports twice.
func NewView(cfg Config, now time.Time, reports []Report) (*View, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	v := &View{cfg: cfg, now: now, reports: slices.Clone(reports)}
	slices.SortFunc(v.reports, func(a, b Report) int {
		return cmp.Or(cmp.Compare(a.Datacenter, b.Datacenter), cmp.Compare(b.Available, a.Available), cmp.Compare(a.Node, b.Node))
	})
	seen := make(map[string]bool, len(reports))
	for i := range v.reports {
		r := &v.reports[i]
		if r.Node == "" || seen[r.Node] {
			return nil, fmt.Errorf("%w: picker: node %.80q is nameless or reports twice", storage.ErrInvalid, r.Node)
		}
		seen[r.Node] = true
		if rule, _ := v.standing(r, cfg.MaxPercentUsed); rule == "" {
			v.ordinary = add(v.ordinary, r)
		}
		if rule, _ := v.standing(r, cfg.MaxPercentUsedOperator); rule == "" {
			v.operator = add(v.operator, r)
		}
	}
	return v, nil
}

// add appends a node to its datacentre; reports come sorted.
func add(dcs []datacenter, r *Report) []datacenter {
	if len(dcs) == 0 || dcs[len(dcs)-1].name != r.Datacenter {
		dcs = append(dcs, datacenter{name: r.Datacenter})
	}
	dc := &dcs[len(dcs)-1]
	sum := 0.0
	if n := len(dc.nodes); n > 0 {
		sum = dc.nodes[n-1].upTo
	}
	weight := float64(max(r.Available, 1)) / float64(uint64(1)<<min(max(r.Failures, 0), 30))
	dc.nodes = append(dc.nodes, candidate{shark: r.Shark, available: r.Available, upTo: sum + weight})
	return dcs
}

// standing applies the rules that do not depend on the request's size or exclusions.
func (v *View) standing(r *Report, limit int) (Rule, string) {
	switch age := v.now.Sub(r.Time); {
	case r.Retired != "":
		return Retired, r.Retired
	case r.Down != "":
		return Down, r.Down
	case age > v.cfg.Lag:
		return Stale, fmt.Sprintf("last report %v ago, limit %v", age.Round(time.Second), v.cfg.Lag)
	}
	return v.fullness(r, limit)
}

func (v *View) fullness(r *Report, limit int) (Rule, string) {
	switch {
	case r.ReadOnly != "":
		return ReadOnly, r.ReadOnly
	case r.PercentUsed > limit:
		return Utilization, fmt.Sprintf("%d%% used, limit %d%%", r.PercentUsed, limit)
	}
	return "", ""
}

// fitting returns how many nodes of the datacentre have room for size bytes: the first n.
func (dc *datacenter) fitting(size int64) int {
	return sort.Search(len(dc.nodes), func(i int) bool { return dc.nodes[i].available < size })
}
