package metastore

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

func (f Eq) String() string  { return "(" + f.Field + "=" + quoteValue(FormatValue(f.Value)) + ")" }
func (f Ge) String() string  { return "(" + f.Field + ">=" + quoteValue(FormatValue(f.Value)) + ")" }
func (f Le) String() string  { return "(" + f.Field + "<=" + quoteValue(FormatValue(f.Value)) + ")" }
func (f Has) String() string { return "(" + f.Field + "=*)" }
func (f And) String() string { return joinFilters("(&", f) }
func (f Or) String() string  { return joinFilters("(|", f) }
func (f Not) String() string { return "(!" + filterText(f.Filter) + ")" }

func (f Substr) String() string { return "(" + f.Field + "=" + joinPattern(f, quoteValue) + ")" }

func (f Ext) String() string {
	value := quoteValue(f.Value)
	if f.Rule == CaseIgnoreSubstringsMatch {
		s, exact := f.Pattern()
		if value = joinPattern(s, quoteValue); exact {
			value = quoteValue(s.Initial)
		}
	}
	return "(" + f.Field + ":" + f.Rule + ":=" + value + ")"
}

// Pattern splits the value of a [CaseIgnoreSubstringsMatch] at its wildcards; a backslash in it makes the next character
// literal. A value without a wildcard is exact: all of it is in Initial, and the field must equal it.
func (f Ext) Pattern() (s Substr, exact bool) {
	s.Field = f.Field
	var parts []string
	var part strings.Builder
	for i := 0; i < len(f.Value); i++ {
		switch c := f.Value[i]; {
		case c == '\\' && i+1 < len(f.Value):
			i++
			part.WriteByte(f.Value[i])
		case c == '*':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(c)
		}
	}
	parts = append(parts, part.String())
	s.Initial = parts[0]
	if len(parts) == 1 {
		return s, true
	}
	for _, p := range parts[1 : len(parts)-1] {
		if p != "" {
			s.Any = append(s.Any, p)
		}
	}
	s.Final = parts[len(parts)-1]
	return s, false
}

// FormatValue returns a filter's value as text, the way that [ParseFilter] would have read it.
func FormatValue(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32)
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}

func filterText(f Filter) string {
	if f == nil {
		return "(&)" // no filter selects all
	}
	return f.String()
}

func joinFilters(open string, list []Filter) string {
	var b strings.Builder
	b.WriteString(open)
	for _, f := range list {
		b.WriteString(filterText(f))
	}
	b.WriteByte(')')
	return b.String()
}

// joinPattern writes initial*any*…*final with each part quoted; a pattern that is all empty is "**", since "*" means presence.
func joinPattern(s Substr, quote func(string) string) string {
	var b strings.Builder
	b.WriteString(quote(s.Initial))
	b.WriteByte('*')
	for _, a := range s.Any {
		if a != "" {
			b.WriteString(quote(a))
			b.WriteByte('*')
		}
	}
	b.WriteString(quote(s.Final))
	if b.Len() == 1 {
		return "**"
	}
	return b.String()
}

var (
	valueQuoter   = strings.NewReplacer("(", `\(`, ")", `\)`, "*", `\*`, `\`, `\\`, "=", `\=`)
	patternQuoter = strings.NewReplacer("*", `\*`, `\`, `\\`)
)

func quoteValue(s string) string   { return valueQuoter.Replace(s) }
func quotePattern(s string) string { return patternQuoter.Replace(s) }
