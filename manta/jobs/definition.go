package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// MaxPhases is the greatest number of phases of a job. The original has no such limit.
const MaxPhases = 128

// A Definition is what somebody who creates a job says about it.
type Definition struct {
	Name      string
	Phases    []Phase // at least one, with Type filled in
	Transient bool
	Options   Options
}

// A DefinitionError says what is wrong with a definition.
type DefinitionError struct {
	Property string // such as phases[0].exec; "" for the whole
	Reason   string
}

func (e *DefinitionError) Error() string {
	if e.Property == "" {
		return e.Reason
	}
	return fmt.Sprintf("property %q: %s", e.Property, e.Reason)
}

// ParseDefinition reads a definition in JSON. Only operators may give options. An error is a *DefinitionError about the first property that is wrong.
func ParseDefinition(b []byte, operator bool) (*Definition, error) {
	if len(b) > MaxDefinition {
		return nil, &DefinitionError{"", fmt.Sprintf("a job's definition has at most %d bytes", MaxDefinition)}
	}
	root, err := object("", b)
	if err != nil {
		return nil, err
	}
	d := &Definition{}
	var phases []json.RawMessage
	root.take("name", func(v json.RawMessage) error { return text(v, &d.Name) })
	root.take("transient", func(v json.RawMessage) error { return typed(v, "boolean", &d.Transient) })
	found := root.take("phases", func(v json.RawMessage) error {
		err := typed(v, "array", &phases)
		switch {
		case err != nil:
			return err
		case len(phases) == 0:
			return errors.New("there must be a minimum of 1 in the array")
		case len(phases) > MaxPhases:
			return fmt.Errorf("there must be a maximum of %d in the array", MaxPhases)
		}
		return nil
	})
	if !found {
		root.fail("phases", "is missing and it is required")
	}
	if operator {
		root.take("options", func(v json.RawMessage) error {
			options, err := object("options", v)
			if err != nil {
				return err
			}
			options.take("frequentCheckpoint", func(v json.RawMessage) error { return typed(v, "boolean", &d.Options.FrequentCheckpoint) })
			return options.end()
		})
	}
	if err := root.end(); err != nil {
		return nil, err
	}
	for i, raw := range phases {
		p, err := parsePhase(fmt.Sprintf("phases[%d]", i), raw)
		if err != nil {
			return nil, err
		}
		d.Phases = append(d.Phases, p)
	}
	return d, nil
}

func parsePhase(at string, raw json.RawMessage) (Phase, error) {
	p := Phase{Type: Map}
	o, err := object(at, raw)
	if err != nil {
		return p, err
	}
	o.take("type", func(v json.RawMessage) error {
		var kind string
		if err := text(v, &kind); err != nil {
			return err
		}
		switch kind {
		case "map", "storage-map":
			p.Type = Map
		case "reduce":
			p.Type = Reduce
		default:
			return errors.New("does not have a value in the enumeration storage-map, map, reduce")
		}
		return nil
	})
	found := o.take("exec", func(v json.RawMessage) error {
		err := text(v, &p.Exec)
		if err == nil && p.Exec == "" {
			err = errors.New("must be at least 1 characters long")
		}
		return err
	})
	if !found {
		o.fail("exec", "is missing and it is required")
	}
	o.take("init", func(v json.RawMessage) error { return text(v, &p.Init) })
	o.take("image", func(v json.RawMessage) error { return text(v, &p.Image) })
	o.take("assets", func(v json.RawMessage) error {
		var list []json.RawMessage
		if err := typed(v, "array", &list); err != nil {
			return err
		}
		for i, item := range list {
			var asset string
			if err := text(item, &asset); err != nil {
				return &DefinitionError{fmt.Sprintf("%s.assets[%d]", at, i), err.Error()}
			}
			p.Assets = append(p.Assets, asset)
		}
		return nil
	})
	o.take("count", func(v json.RawMessage) (err error) {
		p.Count, err = integer(v)
		switch {
		case err != nil:
		case p.Count < 1:
			err = errors.New("must have a minimum value of 1")
		case p.Count > MaxReducers:
			err = fmt.Errorf("must have a maximum value of %d", MaxReducers)
		}
		return err
	})
	o.take("memory", func(v json.RawMessage) (err error) { p.Memory, err = size(v, MemorySizes); return err })
	o.take("disk", func(v json.RawMessage) (err error) { p.Disk, err = size(v, DiskSizes); return err })
	o.take("uarg", func(v json.RawMessage) error { return typed(v, "object", &p.Uarg) })
	return p, o.end()
}

// properties are those of an object that have not been looked at, and the first thing that was wrong.
type properties struct {
	at   string // how errors call the object
	rest map[string]json.RawMessage
	err  error
}

func object(at string, raw []byte) (*properties, error) {
	o := &properties{at: at}
	if err := json.Unmarshal(raw, &o.rest); err != nil || o.rest == nil {
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, &DefinitionError{at, "is not JSON: " + err.Error()}
		}
		return nil, &DefinitionError{at, kindOf(raw) + " value found, but a object is required"}
	}
	return o, nil
}

// take hands a property that is there to parse, and reports whether it was.
func (o *properties) take(name string, parse func(json.RawMessage) error) bool {
	v, ok := o.rest[name]
	if !ok {
		return false
	}
	delete(o.rest, name)
	if err := parse(v); err != nil {
		if e, ok := errors.AsType[*DefinitionError](err); ok {
			o.set(e)
		} else {
			o.fail(name, err.Error())
		}
	}
	return true
}

func (o *properties) fail(name, reason string) { o.set(&DefinitionError{o.name(name), reason}) }

func (o *properties) set(err error) {
	if o.err == nil {
		o.err = err
	}
}

func (o *properties) name(name string) string {
	if o.at == "" {
		return name
	}
	return o.at + "." + name
}

// end refuses properties that nobody took.
func (o *properties) end() error {
	for _, name := range slices.Sorted(maps.Keys(o.rest)) {
		o.fail(clip(name), "unsupported property")
	}
	return o.err
}

// clip shortens what goes into messages.
func clip(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "..."
	}
	return s
}

// kindOf names the type of a JSON value.
func kindOf(raw []byte) string {
	switch c := strings.TrimLeft(string(raw), " \t\r\n"); {
	case c == "":
		return "no"
	case c[0] == '{':
		return "object"
	case c[0] == '[':
		return "array"
	case c[0] == '"':
		return "string"
	case c[0] == 't', c[0] == 'f':
		return "boolean"
	case c[0] == 'n':
		return "null"
	}
	return "number"
}

// typed decodes a value of a type; null is none.
func typed(raw json.RawMessage, kind string, v any) error {
	if got := kindOf(raw); got != kind {
		return fmt.Errorf("%s value found, but a %s is required", got, kind)
	}
	return json.Unmarshal(raw, v)
}

// text decodes a string. NUL could not be handed to a program.
func text(raw json.RawMessage, s *string) error {
	if err := typed(raw, "string", s); err != nil {
		return err
	}
	if strings.IndexByte(*s, 0) >= 0 {
		return errors.New("contains a NUL character")
	}
	return nil
}

func integer(raw json.RawMessage) (int, error) {
	var x float64
	if err := typed(raw, "number", &x); err != nil {
		return 0, err
	}
	if x != float64(int(x)) {
		return 0, errors.New("number value found, but a integer is required")
	}
	return int(x), nil
}

// size decodes one of a few numbers.
func size(raw json.RawMessage, sizes []int) (int, error) {
	var x float64
	if err := typed(raw, "number", &x); err != nil {
		return 0, err
	}
	for _, n := range sizes {
		if x == float64(n) {
			return n, nil
		}
	}
	var list []string
	for _, n := range sizes {
		list = append(list, strconv.Itoa(n))
	}
	return 0, errors.New("does not have a value in the enumeration " + strings.Join(list, ", "))
}
