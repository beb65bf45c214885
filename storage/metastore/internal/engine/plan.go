package engine

import (
	"bytes"
	"fmt"
	"time"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A Scan is one run of an ordered set: the records in key order, or the entries of an index by value, then key.
type Scan struct {
	Index int // in Schema.Indexes; -1 for the records themselves

	// Lo and Hi bound the values: Lo <= value < Hi; a nil Hi is no bound.
	Lo, Hi []byte

	// Eq says that the bounds hold one value only, so that the entries come in key order.
	Eq bool
}

// A Plan is how a query is answered.
type Plan struct {
	Schema  *Schema
	Query   metastore.Query
	Matcher *Matcher

	// Order is the index to sort by; -1 is key order.
	Order int

	// Few is a run that may hold few enough records to sort them, instead of going through all of the order's index; nil if
	// there is none. Only with an Order.
	Few *Scan

	// Scans are read one after another. If Collect is false there is one at most, and it runs in the query's order; otherwise what
	// they give has to be sorted.
	Scans   []Scan
	Collect bool
}

// NewPlan checks a query and chooses how to answer it: [metastore.ErrNotIndexed] if nothing but reading everything would.
func NewPlan(s *Schema, q metastore.Query) (*Plan, error) {
	m, err := NewMatcher(s, q.Filter)
	if err != nil {
		return nil, err
	}
	if q.Limit < 0 {
		return nil, fmt.Errorf("%w: negative limit", metastore.ErrInvalid)
	}
	if q.Partition != nil {
		if err := checkPart("partition", *q.Partition); err != nil {
			return nil, err
		}
	}
	p := &Plan{Schema: s, Query: q, Matcher: m, Order: -1}
	if q.OrderBy != "" {
		return p, p.byIndex()
	}
	return p, p.byKey()
}

func (p *Plan) byIndex() error {
	q := p.Query
	i, ok := p.Schema.Index(q.OrderBy)
	switch {
	case ok && p.Schema.Indexes[i].Array:
		return fmt.Errorf("%w: order by the array %s", metastore.ErrInvalid, q.OrderBy)
	case !ok || !p.answers(i):
		return fmt.Errorf("%w: order by %.80q in bucket %s", metastore.ErrNotIndexed, q.OrderBy, p.Schema.Name)
	}
	p.Order = i
	scan := Scan{Index: i}
	for _, f := range conjuncts(q.Filter, nil) {
		if x, ok := p.predicate(f); ok && x.Index == i {
			scan.intersect(x)
		}
	}
	p.Scans = []Scan{scan}
	if few, rank := p.scans(q.Filter); rank >= rankEq && len(few) == 1 && few[0].Index != i && p.rank(scan) < rank {
		p.Few = &few[0]
	}
	return nil
}

func (p *Plan) byKey() error {
	q := p.Query
	scans, rank := p.scans(q.Filter)
	switch {
	case rank >= rankEq && len(scans) == 1:
		p.Scans = scans
	case q.Partition != nil:
		p.Scans = []Scan{{Index: -1}}
	case rank > 0:
		p.Scans, p.Collect = scans, len(scans) > 0
	case q.Scan:
		p.Scans = []Scan{{Index: -1}}
	default:
		return fmt.Errorf("%w: bucket %s", metastore.ErrNotIndexed, p.Schema.Name)
	}
	return nil
}

// answers reports whether an index can be used by this query.
func (p *Plan) answers(i int) bool {
	return p.Schema.Usable[i] && (!p.Schema.Indexes[i].PerPartition || p.Query.Partition != nil)
}

// Ranks of scans, the more selective the higher; 0 is none.
const (
	rankUnion = iota + 1 // also all entries of an index
	rankHalf             // a range open at one end
	rankRange
	rankEq // and above it by the type's usual number of values
)

func (p *Plan) rank(s Scan) int {
	x := p.Schema.Indexes[s.Index]
	switch {
	case !s.Eq && s.Lo == nil && s.Hi == nil:
		return rankUnion
	case !s.Eq && (s.Lo == nil || s.Hi == nil):
		return rankHalf
	case !s.Eq:
		return rankRange
	case x.Unique:
		return rankEq + 4
	}
	switch x.Type {
	case metastore.Boolean:
		return rankEq
	case metastore.String, metastore.Subnet:
		return rankEq + 2
	case metastore.Number, metastore.Date:
		return rankEq + 1
	}
	return rankEq + 3
}

// scans returns runs that together hold every record that the filter selects; rank 0 means that there are none such.
func (p *Plan) scans(f metastore.Filter) (best []Scan, rank int) {
	if or, ok := f.(metastore.Or); ok {
		union := []Scan{}
		for _, branch := range or {
			some, r := p.scans(branch)
			if r == 0 {
				return nil, 0
			}
			union = append(union, some...)
		}
		return union, rankUnion
	}
	byIndex := map[int]Scan{}
	consider := func(scans []Scan, r int) {
		if r > rank {
			best, rank = scans, r
		}
	}
	for _, f := range conjuncts(f, nil) {
		if _, ok := f.(metastore.Or); ok {
			some, r := p.scans(f)
			consider(some, r)
			continue
		}
		s, ok := p.predicate(f)
		if !ok || !p.answers(s.Index) {
			continue
		}
		// Two predicates on an array may hold for different elements, so their bounds say nothing together.
		if have, twice := byIndex[s.Index]; twice && !p.Schema.Indexes[s.Index].Array {
			s.intersect(have)
		}
		byIndex[s.Index] = s
		consider([]Scan{s}, p.rank(s))
	}
	return best, rank
}

// conjuncts flattens nested Ands.
func conjuncts(f metastore.Filter, list []metastore.Filter) []metastore.Filter {
	and, ok := f.(metastore.And)
	if !ok {
		return append(list, f)
	}
	for _, f := range and {
		list = conjuncts(f, list)
	}
	return list
}

// predicate returns the run of an index that holds what a simple filter selects.
func (p *Plan) predicate(f metastore.Filter) (s Scan, ok bool) {
	var field string
	var v any
	switch f := f.(type) {
	case metastore.Eq:
		field, v = f.Field, f.Value
	case metastore.Ge:
		field, v = f.Field, f.Value
	case metastore.Le:
		field, v = f.Field, f.Value
	case metastore.Has:
		field = f.Field
	case metastore.Substr:
		field = f.Field
	default:
		return s, false
	}
	i, ok := p.Schema.Index(field)
	if !ok {
		return s, false
	}
	s.Index = i
	t := p.Schema.Indexes[i].Type
	switch f := f.(type) {
	case metastore.Has:
		// An array that is empty has no entry, yet is present.
		return s, !p.Schema.Indexes[i].Array
	case metastore.Substr:
		if t != metastore.String {
			return s, false
		}
		if f.Initial != "" {
			s.Lo, s.Hi = []byte(f.Initial), prefixEnd([]byte(f.Initial))
		}
		return s, true
	}
	at, err := Encode(t, v)
	if err != nil {
		return s, false // the matcher has refused it
	}
	switch f.(type) {
	case metastore.Eq:
		s.Lo, s.Hi, s.Eq = at, after(at), true
	case metastore.Ge:
		s.Lo = at
	case metastore.Le:
		s.Hi = after(at)
	}
	return s, true
}

// intersect narrows s to what is in other, too.
func (s *Scan) intersect(other Scan) {
	if bytes.Compare(other.Lo, s.Lo) > 0 {
		s.Lo = other.Lo
	}
	if other.Hi != nil && (s.Hi == nil || bytes.Compare(other.Hi, s.Hi) < 0) {
		s.Hi = other.Hi
	}
	s.Eq = s.Eq || other.Eq
}

// Empty reports whether no value is within the bounds.
func (s *Scan) Empty() bool { return s.Hi != nil && bytes.Compare(s.Lo, s.Hi) >= 0 }

// after returns the least value above v.
func after(v []byte) []byte { return append(bytes.Clone(v), 0) }

// prefixEnd returns the least value above all that begin with a prefix, nil if there is none.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for len(end) > 0 {
		if end[len(end)-1]++; end[len(end)-1] != 0 {
			return end
		}
		end = end[:len(end)-1]
	}
	return nil
}

// start applies From and After: it returns the cursor to begin after, and narrows the scan for a From in an index's order.
func (p *Plan) start() (*Cursor, error) {
	q := p.Query
	switch {
	case q.After != nil:
		c := &Cursor{Key: q.After.Key}
		if err := CheckKey(c.Key); err != nil {
			return nil, err
		}
		if p.Order >= 0 {
			v, ok := p.orderValue(q.After.Value)
			if !ok {
				return nil, fmt.Errorf("%w: After has no field %s", metastore.ErrInvalid, q.OrderBy)
			}
			c.Value = v
		}
		return c, nil
	case q.From == nil:
		return nil, nil
	case p.Order < 0:
		name, ok := q.From.(string)
		if !ok || q.Partition == nil {
			return nil, fmt.Errorf("%w: From in key order is a name, and needs a partition", metastore.ErrInvalid)
		}
		if err := checkPart("From", name); err != nil {
			return nil, err
		}
		return &Cursor{Key: metastore.Key{Partition: *q.Partition, Name: name}, Inclusive: true}, nil
	}
	switch q.From.(type) {
	case string, bool, time.Time, float64, float32, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
	default:
		return nil, fmt.Errorf("%w: From of type %T", metastore.ErrInvalid, q.From)
	}
	v, err := Encode(p.Schema.Indexes[p.Order].Type, q.From)
	if err != nil {
		return nil, fmt.Errorf("%w (From)", err)
	}
	if q.Descending {
		p.Scans[0].intersect(Scan{Hi: after(v)})
	} else {
		p.Scans[0].intersect(Scan{Lo: v})
	}
	return nil, nil
}

// orderValue returns the encoded value of the field that the plan orders by.
func (p *Plan) orderValue(value []byte) (v []byte, ok bool) {
	x := p.Schema.Indexes[p.Order]
	var raw []byte
	scanFields(value, func(name, r []byte) {
		if fieldName(name) == x.Field {
			raw = r
		}
	})
	if isNull(raw) {
		return nil, false
	}
	v, err := encodeJSON(nil, x.Type, raw)
	return v, err == nil
}

// CheckStart checks From and After.
func (p *Plan) CheckStart() error {
	q := *p
	q.Scans = append([]Scan(nil), p.Scans...)
	_, err := q.start()
	return err
}
