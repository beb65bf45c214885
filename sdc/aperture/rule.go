package aperture

// A Rule is one parsed sentence. It never changes and may be used by any number of goroutines at once.
type Rule struct {
	principals, actions, resources *list // nil where the sentence has none
	never                          bool  // CAN NOT
	when                           condition
}

// NamesResources reports whether the sentence says on what it is (with "*" too). A rule that does not is about whatever it is attached to.
func (r *Rule) NamesResources() bool { return r.resources != nil }

// A list is principals, actions or resources.
type list struct {
	all   bool
	items []matcher
}

// A condition decides by the circumstances of a request.
type condition interface {
	holds(Conditions) (bool, error)
	format(b *printer)
	level() int // how tightly it binds, for parentheses
}

type (
	orOf  struct{ a, b condition }
	andOf struct{ a, b condition }
	notOf struct{ c condition }
)

// A comparison is one condition with its value, or several after IN.
type comparison struct {
	name     string
	typ      Type
	explicit bool // the sentence names the type
	in       bool
	op       string
	values   []string

	tests []test // one a value; nil when no type is known
}
