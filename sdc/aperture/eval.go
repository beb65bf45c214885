package aperture

import (
	"errors"
	"fmt"
)

// Errors of evaluation; test with errors.Is. Each of them means that the rule does not match.
var (
	ErrMissing = errors.New("aperture: request lacks a condition that the rule looks at")
	ErrType    = errors.New("aperture: condition has a value of the wrong type")
)

// A Request is what a rule is asked about.
type Request struct {
	Principal  string // compared only with rules that name principals
	Action     string
	Resource   string
	Conditions Conditions // nil has no conditions
}

// Conditions are the circumstances of a request by name. Values are, by type: string and ip a string, number a float64 or int, boolean a
// bool, date, day and time a time.Time, array a []string.
type Conditions interface {
	Condition(name string) (value any, ok bool)
}

// Values are conditions in a map.
type Values map[string]any

// Condition implements [Conditions].
func (v Values) Condition(name string) (any, bool) {
	value, ok := v[name]
	return value, ok && value != nil
}

// Evaluate reports whether the rule allows the request. With an error, which says that the conditions could not be decided, the answer is no.
func (r *Rule) Evaluate(req Request) (bool, error) {
	if !r.principals.matches(req.Principal) || !r.actions.matches(req.Action) || !r.resources.matches(req.Resource) {
		return false, nil
	}
	if r.never {
		return false, nil
	}
	if r.when == nil {
		return true, nil
	}
	conditions := req.Conditions
	if conditions == nil {
		conditions = Values(nil)
	}
	ok, err := r.when.holds(conditions)
	return ok && err == nil, err
}

func (l *list) matches(s string) bool {
	if l == nil || l.all {
		return true
	}
	for _, m := range l.items {
		if m.matches(s) {
			return true
		}
	}
	return false
}

func (o orOf) holds(c Conditions) (bool, error) {
	if ok, err := o.a.holds(c); ok || err != nil {
		return ok, err
	}
	return o.b.holds(c)
}

func (a andOf) holds(c Conditions) (bool, error) {
	if ok, err := a.a.holds(c); !ok || err != nil {
		return false, err
	}
	return a.b.holds(c)
}

func (n notOf) holds(c Conditions) (bool, error) {
	ok, err := n.c.holds(c)
	return !ok && err == nil, err
}

func (c *comparison) holds(conditions Conditions) (bool, error) {
	if c.tests == nil {
		return false, fmt.Errorf("%w: no type for %q", ErrType, c.name)
	}
	value, ok := conditions.Condition(c.name)
	if !ok || value == nil {
		return false, fmt.Errorf("%w: %q", ErrMissing, c.name)
	}
	for _, t := range c.tests {
		ok, err := t(value)
		if err != nil {
			return false, fmt.Errorf("%w: %q is a %T", ErrType, c.name, value)
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}
