package picker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/mobulacloud/mobula/storage"
)

// A Request asks for places for the copies of one object.
type Request struct {
	// Size in bytes; negative when unknown, which asks for the room of Config.StreamingSize.
	Size int64

	// Copies to place, at least 1, on as many nodes.
	Copies int

	// Operator says that the write is an operator's, who may fill nodes further.
	Operator bool

	// Beside are the places of copies that exist and stay. Their nodes are not chosen again, and their datacentres count:
	// new copies go to others first.
	Beside []storage.Shark

	// Exclude names nodes that are not to be chosen.
	Exclude []string
}

// A Tuple is one alternative: distinct nodes, as many as copies were asked for.
type Tuple []storage.Shark

// Choose returns between one and Config.Tuples alternatives, in the order in which they are to be tried. No node is in
// two of them. The choice depends on the view, the request and rng alone. When there is no alternative the error is
// a [*NotEnoughSpaceError]; a request without copies is [storage.ErrInvalid].
func (v *View) Choose(req Request, rng *rand.Rand) ([]Tuple, error) {
	if req.Copies < 1 {
		return nil, fmt.Errorf("%w: picker: %d copies", storage.ErrInvalid, req.Copies)
	}
	d := draw{view: v, req: &req, rng: rng, beside: datacenters(req.Beside)}
	size := v.need(&req)
	for i, dcs := 0, v.arrangement(&req); i < len(dcs); i++ {
		if n := dcs[i].fitting(size); n > 0 {
			d.wells = append(d.wells, well{dc: &dcs[i], fit: n})
		}
	}
	rng.Shuffle(len(d.wells), func(i, j int) { d.wells[i], d.wells[j] = d.wells[j], d.wells[i] })
	// Datacentres that hold no copy yet come first.
	slices.SortStableFunc(d.wells, func(a, b well) int {
		return boolInt(slices.Contains(d.beside, a.dc.name)) - boolInt(slices.Contains(d.beside, b.dc.name))
	})
	var tuples []Tuple
	for len(tuples) < v.cfg.Tuples {
		t := d.tuple()
		if t == nil {
			break
		}
		tuples = append(tuples, t)
	}
	if len(tuples) == 0 {
		return nil, v.refuse(&req)
	}
	return tuples, nil
}

// need returns the room that the request asks for, in bytes.
func (v *View) need(req *Request) int64 {
	if req.Size < 0 {
		return v.cfg.StreamingSize
	}
	return req.Size
}

func (v *View) arrangement(req *Request) []datacenter {
	if req.Operator {
		return v.operator
	}
	return v.ordinary
}

func (v *View) limit(req *Request) int {
	if req.Operator {
		return v.cfg.MaxPercentUsedOperator
	}
	return v.cfg.MaxPercentUsed
}

// spans reports whether copies in these datacentres, together with those that exist, satisfy the rule on several datacentres.
func (v *View) spans(req *Request, dcs []string) bool {
	return !v.cfg.MultiDatacenter || req.Copies+len(req.Beside) < 2 || len(dcs) > 1
}

// draw is the state of one Choose.
type draw struct {
	view   *View
	req    *Request
	rng    *rand.Rand
	wells  []well   // datacentres with room, in the order of the round robin
	next   int      // the well whose turn it is
	beside []string // datacentres of the copies that exist
	used   []string // nodes already in a tuple
}

// well is a datacentre to draw nodes from.
type well struct {
	dc  *datacenter
	fit int  // the first fit nodes have room
	dry bool // all of them are used
}

// tuple draws one alternative, or returns nil when what is left does not make one.
func (d *draw) tuple() Tuple {
	t := make(Tuple, 0, d.req.Copies)
	dcs := slices.Clone(d.beside)
	for misses := 0; len(t) < d.req.Copies; {
		if misses == len(d.wells) {
			return nil
		}
		w := &d.wells[d.next]
		d.next = (d.next + 1) % len(d.wells)
		s, ok := d.node(w)
		if !ok {
			misses++
			continue
		}
		misses = 0
		t = append(t, s)
		d.used = append(d.used, s.Node)
		if !slices.Contains(dcs, s.Datacenter) {
			dcs = append(dcs, s.Datacenter)
		}
	}
	if !d.view.spans(d.req, dcs) {
		return nil
	}
	return t
}

// node draws an unused node from the datacentre, by weight.
func (d *draw) node(w *well) (storage.Shark, bool) {
	if w.dry {
		return storage.Shark{}, false
	}
	nodes := w.dc.nodes[:w.fit]
	total := nodes[w.fit-1].upTo
	// Most draws from a large fleet hit an unused node at once.
	for range 8 {
		at := d.rng.Float64() * total
		i := min(sort.Search(w.fit, func(i int) bool { return nodes[i].upTo > at }), w.fit-1)
		if s := nodes[i].shark; !d.taken(s.Node) {
			return s, true
		}
	}
	// Few are left: draw among exactly those.
	free := 0.0
	for i := range nodes {
		if !d.taken(nodes[i].shark.Node) {
			free += weight(nodes, i)
		}
	}
	at, last := d.rng.Float64()*free, -1
	for i := range nodes {
		if d.taken(nodes[i].shark.Node) {
			continue
		}
		last = i
		if at -= weight(nodes, i); at < 0 {
			break
		}
	}
	if last < 0 {
		w.dry = true
		return storage.Shark{}, false
	}
	return nodes[last].shark, true
}

func weight(nodes []candidate, i int) float64 {
	if i == 0 {
		return nodes[0].upTo
	}
	return nodes[i].upTo - nodes[i-1].upTo
}

func (d *draw) taken(node string) bool {
	return slices.Contains(d.used, node) || excluded(d.req, node)
}

func excluded(req *Request, node string) bool {
	return slices.Contains(req.Exclude, node) ||
		slices.ContainsFunc(req.Beside, func(s storage.Shark) bool { return s.Node == node })
}

// datacenters returns the distinct datacentres of the places.
func datacenters(sharks []storage.Shark) []string {
	var dcs []string
	for _, s := range sharks {
		if !slices.Contains(dcs, s.Datacenter) {
			dcs = append(dcs, s.Datacenter)
		}
	}
	return dcs
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
