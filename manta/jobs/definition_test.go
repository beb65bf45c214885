package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDefinition(t *testing.T) {
	d, err := ParseDefinition([]byte(`{"name":"n","transient":true,"phases":[
		{"exec":"wc"},
		{"type":"storage-map","exec":"x","assets":["/a/stor/b"],"memory":128,"disk":2,"image":"13.x","init":"i"},
		{"type":"reduce","exec":"y","count":128,"uarg":{"a":[1]},"memory":8192.0,"disk":1024}]}`), false)
	if err != nil {
		t.Fatal(err)
	}
	want := &Definition{Name: "n", Transient: true, Phases: []Phase{
		{Type: Map, Exec: "wc"},
		{Type: Map, Exec: "x", Assets: []string{"/a/stor/b"}, Memory: 128, Disk: 2, Image: "13.x", Init: "i"},
		{Type: Reduce, Exec: "y", Count: 128, Uarg: map[string]any{"a": []any{1.0}}, Memory: 8192, Disk: 1024},
	}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("definition (-want +got):\n%s", diff)
	}
	if d, err := ParseDefinition([]byte(`{"phases":[{"exec":"a"}],"options":{"frequentCheckpoint":true}}`), true); err != nil || !d.Options.FrequentCheckpoint || d.Name != "" {
		t.Errorf("operator's definition: %+v, %v", d, err)
	}
	for _, n := range MemorySizes {
		if _, err := ParseDefinition(fmt.Appendf(nil, `{"phases":[{"exec":"a","memory":%d}]}`, n), false); err != nil {
			t.Error(err)
		}
	}
	for _, n := range DiskSizes {
		if _, err := ParseDefinition(fmt.Appendf(nil, `{"phases":[{"exec":"a","disk":%d}]}`, n), false); err != nil {
			t.Error(err)
		}
	}
}

func TestParseDefinition_refuses(t *testing.T) {
	phase := func(s string) string { return `{"phases":[{"exec":"a"},{"exec":"a",` + s + `}]}` }
	for _, test := range []struct{ in, property string }{
		{``, ""},
		{`{`, ""},
		{`null`, ""},
		{`[]`, ""},
		{`{"phases":[{"exec":"a"}]} x`, ""},
		{strings.Repeat(" ", MaxDefinition) + `{"phases":[{"exec":"a"}]}`, ""},
		{`{}`, "phases"},
		{`{"phases":null}`, "phases"},
		{`{"phases":{}}`, "phases"},
		{`{"phases":[]}`, "phases"},
		{`{"phases":[` + strings.Repeat(`{"exec":"a"},`, MaxPhases) + `{"exec":"a"}]}`, "phases"},
		{`{"phases":[null]}`, "phases[0]"},
		{`{"phases":["a"]}`, "phases[0]"},
		{`{"phases":[{"exec":"a"}],"name":7}`, "name"},
		{`{"phases":[{"exec":"a"}],"name":"a\u0000"}`, "name"},
		{`{"phases":[{"exec":"a"}],"transient":"true"}`, "transient"},
		{`{"phases":[{"exec":"a"}],"other":1}`, "other"},
		{`{"phases":[{"exec":"a"}],"options":{}}`, "options"},
		{`{"phases":[{}]}`, "phases[0].exec"},
		{`{"phases":[{"exec":""}]}`, "phases[0].exec"},
		{`{"phases":[{"exec":["a"]}]}`, "phases[0].exec"},
		{phase(`"type":"filter"`), "phases[1].type"},
		{phase(`"type":1`), "phases[1].type"},
		{phase(`"init":1`), "phases[1].init"},
		{phase(`"init":"a\u0000b"`), "phases[1].init"},
		{phase(`"assets":"/a"`), "phases[1].assets"},
		{phase(`"assets":["/a",1]`), "phases[1].assets[1]"},
		{phase(`"count":0`), "phases[1].count"},
		{phase(`"count":129`), "phases[1].count"},
		{phase(`"count":1.5`), "phases[1].count"},
		{phase(`"count":1e99`), "phases[1].count"},
		{phase(`"count":"1"`), "phases[1].count"},
		{phase(`"memory":1000`), "phases[1].memory"},
		{phase(`"memory":0`), "phases[1].memory"},
		{phase(`"disk":3`), "phases[1].disk"},
		{phase(`"disk":"8"`), "phases[1].disk"},
		{phase(`"image":13`), "phases[1].image"},
		{phase(`"uarg":"x"`), "phases[1].uarg"},
		{phase(`"Exec":"x"`), "phases[1].Exec"},
	} {
		_, err := ParseDefinition([]byte(test.in), false)
		e, ok := errors.AsType[*DefinitionError](err)
		if !ok || e.Property != test.property || e.Reason == "" {
			t.Errorf("%.100s: %v, want one about %q", test.in, err, test.property)
		}
		if ok && test.property != "" && !strings.Contains(err.Error(), fmt.Sprintf("property %q: ", test.property)) {
			t.Errorf("%.100s: %v", test.in, err)
		}
	}
	if _, err := ParseDefinition([]byte(`{"phases":[{"exec":"a"}],"options":{"more":1}}`), true); err == nil {
		t.Error("an unknown option was taken")
	}
}

// FuzzParseDefinition: what is taken stays the same when it is written and read again, and keeps the limits.
func FuzzParseDefinition(f *testing.F) {
	f.Add([]byte(`{"name":"n","phases":[{"type":"reduce","exec":"y","count":2,"uarg":{"a":[1]}}]}`), false)
	f.Add([]byte(`{"phases":[{"exec":"a","assets":["b"],"memory":1024,"disk":8,"image":"*","init":"x"}],"options":{"frequentCheckpoint":true}}`), true)
	f.Add([]byte(`{"phases":[{}],"options":null}`), true)
	f.Fuzz(func(t *testing.T, in []byte, operator bool) {
		d, err := ParseDefinition(in, operator)
		if err != nil {
			if _, ok := errors.AsType[*DefinitionError](err); !ok {
				t.Fatalf("error of another type: %v", err)
			}
			return
		}
		if len(d.Phases) == 0 || len(d.Phases) > MaxPhases || !operator && d.Options != (Options{}) {
			t.Fatalf("taken: %+v", d)
		}
		out := map[string]any{"name": d.Name, "phases": d.Phases, "transient": d.Transient}
		if operator {
			out["options"] = d.Options
		}
		b, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > MaxDefinition {
			return
		}
		again, err := ParseDefinition(b, operator)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		for i := range d.Phases { // empty lists and objects are left out
			p := &d.Phases[i]
			if len(p.Assets) == 0 {
				p.Assets = nil
			}
			if len(p.Uarg) == 0 {
				p.Uarg = nil
			}
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}
