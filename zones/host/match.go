package host

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/zones"
)

// Filter picks zones by their properties; all conditions must hold. The zero Filter matches every zone.
type Filter struct{ conditions []condition }

type condition struct {
	path []string
	want string
	re   *regexp.Regexp
}

// ParseFilter reads conditions as vmadm takes them: "property=value" or "property=~expression". A property is any that Get shows; a dot leads
// inside ("tags.role=web", "nics.0.ip=10.0.0.2"), and "*" stands for every element ("nics.*.ip=10.0.0.2"). An empty value matches what
// is absent.
func ParseFilter(args ...string) (Filter, error) {
	var f Filter
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" || len(a) > 4096 {
			return f, fmt.Errorf("%w: filter %.80q is not property=value", zones.ErrInvalid, a)
		}
		c := condition{path: strings.Split(name, "."), want: value}
		if expr, ok := strings.CutPrefix(value, "~"); ok {
			re, err := regexp.Compile(expr)
			if err != nil {
				return f, fmt.Errorf("%w: filter %.80q: %v", zones.ErrInvalid, a, err)
			}
			c.re = re
		}
		f.conditions = append(f.conditions, c)
	}
	return f, nil
}

// Match reports whether a zone fulfils all conditions.
func (f Filter) Match(z *zones.Zone) (bool, error) {
	if len(f.conditions) == 0 {
		return true, nil
	}
	m, err := Properties(z)
	if err != nil {
		return false, err
	}
	for _, c := range f.conditions {
		if !c.match(m, c.path) {
			return false, nil
		}
	}
	return true, nil
}

// Properties gives a zone as the JSON object that Get prints.
func Properties(z *zones.Zone) (map[string]any, error) {
	b, err := json.Marshal(z)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(b, &m)
}

func (c condition) match(v any, path []string) bool {
	if len(path) == 0 {
		return c.value(v)
	}
	switch t := v.(type) {
	case map[string]any:
		if path[0] == "*" {
			for _, e := range t {
				if c.match(e, path[1:]) {
					return true
				}
			}
			return false
		}
		// A key may hold dots itself, so the longest that is there wins.
		for n := len(path); n > 0; n-- {
			if e, ok := t[strings.Join(path[:n], ".")]; ok {
				return c.match(e, path[n:])
			}
		}
		return c.value(nil)
	case []any:
		if path[0] == "*" {
			for _, e := range t {
				if c.match(e, path[1:]) {
					return true
				}
			}
			return false
		}
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(t) {
			return c.match(t[i], path[1:])
		}
	}
	return c.value(nil)
}

func (c condition) value(v any) bool {
	s := Text(v)
	if c.re != nil {
		return v != nil && c.re.MatchString(s)
	}
	return s == c.want
}

// Text gives a property's value as vmadm list prints it: text as it is, nothing for what is absent, JSON for the rest.
func Text(v any) string {
	switch t := v.(type) {
	case nil:
		return ""
	case string:
		return t
	case float64:
		return strconv.FormatFloat(t, 'f', -1, 64)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// Lookup finds a property by its dotted name.
func Lookup(m map[string]any, name string) any {
	var v any = m
	for part := range strings.SplitSeq(name, ".") {
		switch t := v.(type) {
		case map[string]any:
			v = t[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(t) {
				return nil
			}
			v = t[i]
		default:
			return nil
		}
	}
	return v
}
