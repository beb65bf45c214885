package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/storage/metastore"
)

// A Matcher is a filter compiled for a bucket. It may be used by many goroutines.
type Matcher struct {
	root   node
	fields map[string]int // slots
}

// maxFilterNodes bounds the predicates of a filter.
const maxFilterNodes = 10000

// NewMatcher compiles a filter, nil for all. It refuses fields that cannot be and values that do not fit a field's type.
func NewMatcher(s *Schema, f metastore.Filter) (*Matcher, error) {
	m := &Matcher{fields: map[string]int{}}
	if f == nil {
		return m, nil
	}
	c := compiler{schema: s, fields: m.fields}
	root, err := c.compile(f, 0)
	m.root = root
	return m, err
}

// Match reports whether a checked value satisfies the filter.
func (m *Matcher) Match(value []byte) bool {
	if m.root == nil {
		return true
	}
	var few [8][]byte
	slots := few[:]
	if len(m.fields) > len(slots) {
		slots = make([][]byte, len(m.fields))
	}
	scanFields(value, func(name, raw []byte) {
		if slot, ok := m.fields[string(name)]; ok {
			slots[slot] = raw
		} else if bytes.IndexByte(name, '\\') >= 0 {
			if slot, ok := m.fields[fieldName(name)]; ok {
				slots[slot] = raw
			}
		}
	})
	return m.root.match(slots)
}

type node interface{ match(slots [][]byte) bool }

type (
	allNode []node
	anyNode []node
	notNode struct{ inner node }
	hasNode struct{ slot int }

	// valueNode holds when any value of the field passes the test.
	valueNode struct {
		slot int
		test func(raw []byte) bool
	}
	// rawNode tests the whole field, an array included.
	rawNode struct {
		slot int
		test func(raw []byte) bool
	}
)

func (n allNode) match(slots [][]byte) bool {
	for _, x := range n {
		if !x.match(slots) {
			return false
		}
	}
	return true
}

func (n anyNode) match(slots [][]byte) bool {
	for _, x := range n {
		if x.match(slots) {
			return true
		}
	}
	return false
}

func (n notNode) match(slots [][]byte) bool { return !n.inner.match(slots) }
func (n hasNode) match(slots [][]byte) bool { return !isNull(slots[n.slot]) }

func (n rawNode) match(slots [][]byte) bool {
	return !isNull(slots[n.slot]) && n.test(slots[n.slot])
}

func (n valueNode) match(slots [][]byte) bool {
	raw := slots[n.slot]
	switch {
	case isNull(raw) || raw[0] == '{':
		return false
	case raw[0] != '[':
		return n.test(raw)
	}
	found := false
	scanElements(raw, func(e []byte) {
		found = found || !isNull(e) && e[0] != '[' && e[0] != '{' && n.test(e)
	})
	return found
}

type compiler struct {
	schema *Schema
	fields map[string]int
	nodes  int
}

func (c *compiler) slot(field string) (int, error) {
	if err := checkField(field); err != nil {
		return 0, err
	}
	slot, ok := c.fields[field]
	if !ok {
		slot = len(c.fields)
		c.fields[field] = slot
	}
	return slot, nil
}

func (c *compiler) compile(f metastore.Filter, depth int) (node, error) {
	if c.nodes++; c.nodes > maxFilterNodes || depth > metastore.MaxFilterDepth {
		return nil, fmt.Errorf("%w: filter too large or nested too deep", metastore.ErrInvalid)
	}
	switch f := f.(type) {
	case nil:
		return allNode{}, nil
	case metastore.And:
		list, err := c.list(f, depth)
		return allNode(list), err
	case metastore.Or:
		list, err := c.list(f, depth)
		return anyNode(list), err
	case metastore.Not:
		inner, err := c.compile(f.Filter, depth+1)
		return notNode{inner}, err
	case metastore.Has:
		slot, err := c.slot(f.Field)
		if i, ok := c.schema.Index(f.Field); ok && !c.schema.Indexes[i].Array {
			x := c.schema.Indexes[i]
			return rawNode{slot, func(raw []byte) bool { return fits(x, raw) }}, err
		}
		return hasNode{slot}, err
	case metastore.Eq:
		return c.comparison(f.Field, f.Value, func(order int) bool { return order == 0 })
	case metastore.Ge:
		return c.comparison(f.Field, f.Value, func(order int) bool { return order >= 0 })
	case metastore.Le:
		return c.comparison(f.Field, f.Value, func(order int) bool { return order <= 0 })
	case metastore.Substr:
		slot, err := c.slot(f.Field)
		return c.values(slot, f.Field, func(raw []byte) bool { return raw[0] == '"' && matchSubstr(unquote(raw), f) }), err
	case metastore.Ext:
		return c.ext(f)
	}
	return nil, fmt.Errorf("%w: unknown filter %T", metastore.ErrInvalid, f)
}

func (c *compiler) list(list []metastore.Filter, depth int) ([]node, error) {
	nodes := make([]node, 0, len(list))
	for _, f := range list {
		n, err := c.compile(f, depth+1)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// comparison compares by the index's type, or for a field without one by the type that each value has itself.
func (c *compiler) comparison(field string, v any, holds func(order int) bool) (node, error) {
	slot, err := c.slot(field)
	if err != nil {
		return nil, err
	}
	if i, ok := c.schema.Index(field); ok {
		x := c.schema.Indexes[i]
		want, err := Encode(x.Type, v)
		if err != nil {
			return nil, fmt.Errorf("%w (field %s)", err, field)
		}
		test := func(raw []byte) bool {
			if x.Type == metastore.String {
				if raw[0] != '"' {
					return false
				}
				s := unquote(raw)
				return len(s) <= metastore.MaxIndexed && holds(strings.Compare(s, string(want)))
			}
			var buf [24]byte
			got, err := encodeJSON(buf[:0], x.Type, raw)
			return err == nil && holds(bytes.Compare(got, want))
		}
		return c.values(slot, field, test), nil
	}
	switch v.(type) {
	case nil, []any, map[string]any:
		return nil, fmt.Errorf("%w: value of type %T in a filter", metastore.ErrInvalid, v)
	}
	text := metastore.FormatValue(v)
	number, notNumber := toNumber(v)
	return valueNode{slot, func(raw []byte) bool {
		switch raw[0] {
		case '"':
			return holds(strings.Compare(unquote(raw), text))
		case 't', 'f':
			return (text == "true" || text == "false") && holds(strings.Compare(string(raw), text)) // "false" < "true"
		}
		got, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || notNumber != nil {
			return false
		}
		switch {
		case got < number:
			return holds(-1)
		case got > number:
			return holds(1)
		}
		return holds(0)
	}}, nil
}

// values tests what an index holds of a field. A value that does not fit was stored before the index was, and is in no
// index; it must not be found by other ways either, or an answer would depend on the way that was chosen.
func (c *compiler) values(slot int, field string, test func(raw []byte) bool) node {
	i, ok := c.schema.Index(field)
	if !ok {
		return valueNode{slot, test}
	}
	x := c.schema.Indexes[i]
	if !x.Array {
		return rawNode{slot, func(raw []byte) bool { return test(raw) && fits(x, raw) }}
	}
	return rawNode{slot, func(raw []byte) bool {
		found := false
		if raw[0] == '[' {
			scanElements(raw, func(e []byte) {
				found = found || !isNull(e) && test(e) && fits(x, e)
			})
		}
		return found
	}}
}

// fits reports whether a scalar, or an element of an array, can be in the index.
func fits(x metastore.Index, raw []byte) bool {
	var buf [64]byte
	v, err := encodeJSON(buf[:0], x.Type, raw)
	return err == nil && len(v) <= metastore.MaxIndexed
}

func matchSubstr(s string, f metastore.Substr) bool {
	if !strings.HasPrefix(s, f.Initial) {
		return false
	}
	s = s[len(f.Initial):]
	for _, a := range f.Any {
		i := strings.Index(s, a)
		if i < 0 {
			return false
		}
		s = s[i+len(a):]
	}
	return strings.HasSuffix(s, f.Final)
}

func (c *compiler) ext(f metastore.Ext) (node, error) {
	slot, err := c.slot(f.Field)
	if err != nil {
		return nil, err
	}
	switch f.Rule {
	case metastore.CaseIgnoreMatch:
		want := strings.ToLower(f.Value)
		return valueNode{slot, func(raw []byte) bool { return raw[0] == '"' && strings.ToLower(unquote(raw)) == want }}, nil
	case metastore.CaseIgnoreSubstringsMatch:
		p, exact := f.Pattern()
		p.Initial, p.Final = strings.ToLower(p.Initial), strings.ToLower(p.Final)
		for i := range p.Any {
			p.Any[i] = strings.ToLower(p.Any[i])
		}
		return valueNode{slot, func(raw []byte) bool {
			if raw[0] != '"' {
				return false
			}
			s := strings.ToLower(unquote(raw))
			return exact && s == p.Initial || !exact && matchSubstr(s, p)
		}}, nil
	case metastore.Overlaps, metastore.Contains, metastore.Within:
	default:
		return nil, fmt.Errorf("%w: unknown matching rule %.80q", metastore.ErrInvalid, f.Rule)
	}
	if i, ok := c.schema.Index(f.Field); ok && !c.schema.Indexes[i].Array {
		switch t := c.schema.Indexes[i].Type; t {
		case metastore.IP, metastore.Subnet:
			return c.addressRule(slot, f)
		default:
			return nil, fmt.Errorf("%w: rule %s does not apply to a %s", metastore.ErrInvalid, f.Rule, t)
		}
	}
	return c.arrayRule(slot, f)
}

func (c *compiler) addressRule(slot int, f metastore.Ext) (node, error) {
	want, ok := parsePrefix(f.Value)
	if !ok {
		return nil, fmt.Errorf("%w: value of field %s is no address or subnet", metastore.ErrInvalid, f.Field)
	}
	return rawNode{slot, func(raw []byte) bool {
		if raw[0] != '"' {
			return false
		}
		got, ok := parsePrefix(unquote(raw))
		switch {
		case !ok || !got.Overlaps(want):
			return false
		case f.Rule == metastore.Contains:
			return got.Bits() <= want.Bits()
		case f.Rule == metastore.Within:
			return got.Bits() >= want.Bits()
		}
		return true
	}}, nil
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// arrayRule compares an array with a list, written a,b,c or {a,b,c}.
func (c *compiler) arrayRule(slot int, f metastore.Ext) (node, error) {
	text := f.Value
	if strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		text = text[1 : len(text)-1]
	}
	var tests []func(raw []byte) bool
	if text != "" {
		for part := range strings.SplitSeq(text, ",") {
			n, err := c.comparison(f.Field, part, func(order int) bool { return order == 0 })
			if err != nil {
				return nil, err
			}
			// An element stands for an array of its own, to a field with an index.
			switch n := n.(type) {
			case valueNode:
				tests = append(tests, n.test)
			case rawNode:
				tests = append(tests, func(e []byte) bool { return n.test(slices.Concat([]byte{'['}, e, []byte{']'})) })
			}
		}
	}
	return rawNode{slot, func(raw []byte) bool {
		if raw[0] != '[' {
			return false
		}
		hit := make([]bool, len(tests))
		elements, inside := 0, 0
		scanElements(raw, func(e []byte) {
			if isNull(e) {
				return
			}
			elements++
			found := false
			for i, test := range tests {
				if e[0] != '[' && e[0] != '{' && test(e) {
					hit[i], found = true, true
				}
			}
			if found {
				inside++
			}
		})
		switch f.Rule {
		case metastore.Overlaps:
			return inside > 0
		case metastore.Within:
			return inside == elements
		}
		for _, h := range hit {
			if !h {
				return false
			}
		}
		return true
	}}, nil
}
