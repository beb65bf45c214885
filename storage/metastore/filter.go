package metastore

// A Filter selects records by their top-level fields. It is one of [Eq], [Ge], [Le], [Has], [Substr], [And], [Or], [Not] and [Ext].
// A predicate on an array field holds when any element satisfies it. A predicate on an absent field does not hold.
type Filter interface {
	isFilter()
	// String returns the filter in the language that [ParseFilter] reads.
	String() string
}

// Values in filters are string, float64 (or any Go integer), bool or time.Time; strings convert to the field's index type.
type (
	// Eq holds when the field equals the value.
	Eq struct {
		Field string
		Value any
	}
	// Ge holds when the field is the value or above it.
	Ge struct {
		Field string
		Value any
	}
	// Le holds when the field is the value or below it.
	Le struct {
		Field string
		Value any
	}
	// Has holds when the field is present.
	Has struct{ Field string }
	// Substr holds when the field begins with Initial, then contains each of Any in order, and ends with Final.
	Substr struct {
		Field          string
		Initial, Final string
		Any            []string
	}
	// And holds when all filters hold; an empty And always holds.
	And []Filter
	// Or holds when one of the filters holds; an empty Or never holds.
	Or []Filter
	// Not holds when the filter does not.
	Not struct{ Filter Filter }
	// Ext is an extensible match: Rule is caseIgnoreMatch, caseIgnoreSubstringsMatch, overlaps, contains or within.
	Ext struct {
		Field, Rule, Value string
	}
)

func (Eq) isFilter()     {}
func (Ge) isFilter()     {}
func (Le) isFilter()     {}
func (Has) isFilter()    {}
func (Substr) isFilter() {}
func (And) isFilter()    {}
func (Or) isFilter()     {}
func (Not) isFilter()    {}
func (Ext) isFilter()    {}
