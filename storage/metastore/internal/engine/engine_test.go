package engine

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/storage/metastore"
)

func FuzzScanFields(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, ` { "a" : [1, {"b":"}"}, "x\"]"] , "c":null,"a":"last" } `, `{"\u0061":true,"é":-1.5e3}`, `{"a":{"b":{"c":[]}},"d":"\\"}`, "{\"a\"\n:\t1\r}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		if CheckValue(object) != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(object, &want); err != nil {
			return // keys that differ in invalid escapes only, and the like
		}
		got := map[string]json.RawMessage{}
		scanFields(object, func(name, raw []byte) { got[fieldName(name)] = json.RawMessage(bytes.Clone(raw)) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", object, diff)
		}
		for _, raw := range got {
			if raw[0] != '[' {
				continue
			}
			var list, elements []json.RawMessage
			if err := json.Unmarshal(raw, &list); err != nil {
				t.Fatal(err)
			}
			scanElements(raw, func(e []byte) { elements = append(elements, bytes.Clone(e)) })
			if !slices.EqualFunc(list, elements, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
				t.Errorf("elements of %s: %s", raw, elements)
			}
		}
	})
}

// FuzzMatch holds that a filter's evaluation and its plan agree: a record that matches has an entry in some scan of the plan.
func FuzzMatch(f *testing.F) {
	f.Add("(&(s=x)(n>=1))", `{"s":"x","n":1}`)
	f.Add("(|(s=a*)(a=2)(b=true))", `{"s":"abc","a":[1,2],"b":true}`)
	f.Add("(&(n>=1)(n<=1)(!(s=*)))", `{"n":1.0}`)
	f.Add("(a>=3)", `{"a":[1,null,5]}`)
	f.Add("(&(a>=3)(a<=1))", `{"a":[1,5]}`)
	schema, err := Compile(metastore.Bucket{Name: "t", Indexes: []metastore.Index{
		{Field: "s", Type: metastore.String}, {Field: "n", Type: metastore.Number}, {Field: "b", Type: metastore.Boolean}, {Field: "a", Type: metastore.Number, Array: true},
		{Field: "d", Type: metastore.Date}, {Field: "i", Type: metastore.IP},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, object string) {
		filter, err := metastore.ParseFilter(text)
		if err != nil || CheckValue([]byte(object)) != nil {
			return
		}
		plan, err := NewPlan(schema, metastore.Query{Filter: filter})
		if err != nil {
			return
		}
		matches := plan.Matcher.Match([]byte(object))
		if !matches {
			return
		}
		for _, e := range schema.FittingEntries([]byte(object)) {
			for _, s := range plan.Scans {
				if s.Index == e.Index && bytes.Compare(s.Lo, e.Value) <= 0 && (s.Hi == nil || bytes.Compare(e.Value, s.Hi) < 0) {
					return
				}
			}
		}
		t.Errorf("%s matches %s, but no scan of %+v would find it", filter, object, plan.Scans)
	})
}

func TestNumberEncoding(t *testing.T) {
	numbers := []float64{math.Inf(-1), -math.MaxFloat64, -1, -math.SmallestNonzeroFloat64, 0, math.SmallestNonzeroFloat64, 1, 1 + 0x1p-52, math.MaxFloat64, math.Inf(1)}
	for i := 1; i < len(numbers); i++ {
		if bytes.Compare(appendNumber(nil, numbers[i-1]), appendNumber(nil, numbers[i])) >= 0 {
			t.Errorf("%g is not below %g", numbers[i-1], numbers[i])
		}
	}
	if !bytes.Equal(appendNumber(nil, math.Copysign(0, -1)), appendNumber(nil, 0)) {
		t.Error("-0 is not 0")
	}
}

func TestSetFields(t *testing.T) {
	var none *int
	got, err := SetFields([]byte(`{"a":1,"b":{"x":[1,2]},"c":"<"}`), map[string]any{"a": nil, "c": none, "d": []int{1}, "e": "x"})
	if want := `{"b":{"x":[1,2]},"d":[1],"e":"x"}`; string(got) != want || err != nil {
		t.Errorf("SetFields = %s, %v, want %s", got, err, want)
	}
	if _, err := SetFields([]byte(`{}`), map[string]any{"f": func() {}}); err == nil {
		t.Error("a function was encoded")
	}
}

func TestCollector(t *testing.T) {
	c := collector{order: metastore.Key.Compare, most: 3}
	for _, name := range strings.Fields("q d a q c b a z") {
		c.add(metastore.Key{Name: name})
	}
	c.trim()
	var names []string
	for _, k := range c.keys {
		names = append(names, k.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) || !c.dropped {
		t.Errorf("kept %v, dropped %v", names, c.dropped)
	}
}
