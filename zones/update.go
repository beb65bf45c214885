package zones

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Update is a checked payload of vmadm update: plain properties; set_ and remove_ for tags, customer_metadata,
// internal_metadata and routes; add_, update_ and remove_ for nics (known by mac), disks (path) and filesystems
// (target). It holds only what was named, so applying one to a changed zone loses nobody else's change.
type Update struct {
	brand Brand
	// set are plain properties in normal form; a nil value clears.
	set map[string]any
	// objects and lists are keyed by property.
	objects map[string]objectUpdate
	lists   map[string]listUpdate
}

type objectUpdate struct {
	set    map[string]any
	remove []string
}

type listUpdate struct {
	add, update []map[string]any
	remove      []string
}

// objectProperties and listProperties are those that a plain key cannot update; the value is a list's key.
var (
	objectProperties = []string{"customer_metadata", "internal_metadata", "routes", "tags"}
	listProperties   = map[string]string{"disks": "path", "filesystems": "target", "nics": "mac"}
)

// ParseUpdate reads a payload of vmadm update for a zone of the brand. Every problem that can be seen without the zone is
// in the error, a *[ValidationError]; Apply finds the rest.
func ParseUpdate(brand Brand, data []byte) (*Update, error) {
	payload, err := decodeObject(data)
	if err != nil {
		return nil, err
	}
	ve := &ValidationError{Reasons: map[string]string{}}
	if !brand.Valid() {
		ve.BadBrand = string(brand)
		if brand == "" {
			ve.BadBrand = "(none)"
		}
		return nil, ve.result()
	}
	u := &Update{brand: brand, set: map[string]any{}, objects: map[string]objectUpdate{}, lists: map[string]listUpdate{}}
	plain := map[string]any{}
	for name, v := range payload {
		verb, target, cut := strings.Cut(name, "_")
		if cut && v != nil {
			if slices.Contains(objectProperties, target) && (verb == "set" || verb == "remove") {
				u.parseObject(ve, verb, target, v)
				continue
			}
			if key, ok := listProperties[target]; ok && (verb == "add" || verb == "update" || verb == "remove") {
				u.parseList(ve, verb, target, key, v)
				continue
			}
		}
		plain[name] = v
	}
	u.set = checkObject(ve, "", brand, properties, plain, func(p property) bool { return p.update != "" })
	for name, v := range plain {
		if p, ok := properties[name]; ok && v == nil && p.update != "" && p.on&brand.class() != 0 {
			u.set[name] = nil
		}
	}
	if err := ve.result(); err != nil {
		return nil, err
	}
	return u, nil
}

func (u *Update) parseObject(ve *ValidationError, verb, target string, v any) {
	at := verb + "_" + target
	p := properties[target]
	if p.on&u.brand.class() == 0 {
		ve.badProperty(at, "not for brand "+string(u.brand))
		return
	}
	o := u.objects[target]
	if verb == "set" {
		if m, ok := checkValue(ve, at, u.brand, p, v); ok {
			o.set = m.(map[string]any)
		}
	} else {
		keys, ok := normal(texts, v)
		if !ok {
			ve.badValue(at, "not a list of names")
			return
		}
		o.remove = keys.([]string)
	}
	u.objects[target] = o
}

func (u *Update) parseList(ve *ValidationError, verb, target, key string, v any) {
	at := verb + "_" + target
	p := properties[target]
	if p.on&u.brand.class() == 0 {
		ve.badProperty(at, "not for brand "+string(u.brand))
		return
	}
	l := u.lists[target]
	if verb == "remove" {
		keys, ok := normal(texts, v)
		if !ok {
			ve.badValue(at, "not a list of "+key+"s")
			return
		}
		l.remove = keys.([]string)
		u.lists[target] = l
		return
	}
	list, ok := checkValue(ve, at, u.brand, p, v)
	if !ok {
		return
	}
	for i, e := range list.([]any) {
		m := e.(map[string]any)
		if verb == "update" {
			if _, ok := m[key]; !ok {
				ve.missing(fmt.Sprintf("%s.%d.%s", at, i, key))
			}
			// A null inside clears, which checkObject has dropped.
			if in, ok := v.([]any)[i].(map[string]any); ok {
				for k, x := range in {
					if x == nil && k != key {
						m[k] = nil
					}
				}
			}
			l.update = append(l.update, m)
		} else {
			l.add = append(l.add, m)
		}
	}
	u.lists[target] = l
}

// Empty reports whether the update asks for nothing.
func (u *Update) Empty() bool { return len(u.set)+len(u.objects)+len(u.lists) == 0 }

// Apply returns a copy of s with the update, the changes, and when the last of them takes hold. s is not touched. Removing what
// is not there does nothing; updating an entry that is not there, adding one that is, or a result that breaks a rule of
// the whole gives a *[ValidationError].
func (u *Update) Apply(s *Spec) (next *Spec, changes []Change, live Live, err error) {
	if s.Brand != u.brand {
		return nil, nil, "", fmt.Errorf("%w: the update was checked for brand %s, the zone is %s", ErrInvalid, u.brand, s.Brand)
	}
	before, err := toMap(s)
	if err != nil {
		return nil, nil, "", err
	}
	after := maps.Clone(before)
	ve := &ValidationError{Reasons: map[string]string{}}
	for name, v := range u.set {
		if v == nil {
			delete(after, name)
		} else {
			after[name] = v
		}
	}
	for name, o := range u.objects {
		m, _ := after[name].(map[string]any)
		m = maps.Clone(m)
		if m == nil {
			m = map[string]any{}
		}
		for _, k := range o.remove {
			delete(m, k)
		}
		maps.Copy(m, o.set)
		after[name] = m
	}
	for name, l := range u.lists {
		after[name] = l.apply(ve, name, listProperties[name], after[name])
	}
	next, err = toSpec(after)
	if err != nil {
		return nil, nil, "", err
	}
	u.follow(next)
	next.rules(ve)
	if err := ve.result(); err != nil {
		return nil, nil, "", err
	}
	next.SetDefaults()
	if after, err = toMap(next); err != nil {
		return nil, nil, "", err
	}
	changes = diff(before, after)
	return next, changes, liveOf(s.Brand, changes), nil
}

// follow changes what hangs on other properties, as vmadm does.
func (u *Update) follow(s *Spec) {
	if mem, ok := u.set["max_physical_memory"]; ok && mem != nil && !s.Brand.HVM() {
		// ram is another name for it in OS zones; swap and locked memory keep up unless they were named too.
		s.RAM = s.MaxPhysicalMemory
		if _, named := u.set["max_swap"]; !named {
			s.MaxSwap = max(s.MaxSwap, s.MaxPhysicalMemory)
		}
		if _, named := u.set["max_locked_memory"]; !named {
			s.MaxLockedMemory = s.MaxPhysicalMemory
		}
	} else if ram, ok := u.set["ram"]; ok && ram != nil {
		if !s.Brand.HVM() {
			s.MaxPhysicalMemory = s.RAM
		} else if _, named := u.set["max_physical_memory"]; !named {
			s.MaxPhysicalMemory = max(s.MaxPhysicalMemory, s.RAM+1024)
		}
		s.MaxSwap = max(s.MaxSwap, s.MaxPhysicalMemory)
	}
	// A new primary NIC takes the flag from the old one.
	last := -1
	l := u.lists["nics"]
	for i, n := range s.NICs {
		asked := func(m map[string]any) bool {
			mac, _ := m["mac"].(string)
			return m["primary"] == true && sameKey("mac", mac, n.MAC)
		}
		if n.Primary && (last < 0 || slices.ContainsFunc(l.add, asked) || slices.ContainsFunc(l.update, asked)) {
			last = i
		}
	}
	for i := range s.NICs {
		s.NICs[i].Primary = i == last
	}
}

func (l listUpdate) apply(ve *ValidationError, name, key string, old any) []any {
	var list []any
	if o, ok := old.([]any); ok {
		list = slices.Clone(o)
	}
	find := func(want any) int {
		w, _ := want.(string)
		return slices.IndexFunc(list, func(e any) bool {
			have, _ := e.(map[string]any)[key].(string)
			return w != "" && sameKey(key, have, w)
		})
	}
	for _, k := range l.remove {
		if i := find(k); i >= 0 {
			list = slices.Delete(list, i, i+1)
		}
	}
	for i, m := range l.update {
		at := find(m[key])
		if at < 0 {
			ve.badValue("update_"+name+"."+strconv.Itoa(i)+"."+key, "there is none such")
			continue
		}
		e := maps.Clone(list[at].(map[string]any))
		for k, v := range m {
			if v == nil {
				delete(e, k)
			} else if k != key {
				e[k] = v
			}
		}
		list[at] = e
	}
	for i, m := range l.add {
		if find(m[key]) >= 0 {
			ve.badValue("add_"+name+"."+strconv.Itoa(i)+"."+key, "there is one already")
			continue
		}
		list = append(list, m)
	}
	return list
}

func sameKey(key, a, b string) bool {
	if key == "mac" {
		return strings.EqualFold(a, b)
	}
	return a == b
}

func toMap(s *Spec) (map[string]any, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(data, &m)
}

// Diff lists what changed from a to b, in the order of property names.
func Diff(a, b *Spec) ([]Change, error) {
	am, err := toMap(a)
	if err != nil {
		return nil, err
	}
	bm, err := toMap(b)
	if err != nil {
		return nil, err
	}
	return diff(am, bm), nil
}

func diff(a, b map[string]any) []Change {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	var out []Change
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		out = diffValue(out, []string{k}, a[k], b[k])
	}
	return out
}

func diffValue(out []Change, path []string, a, b any) []Change {
	if reflect.DeepEqual(a, b) {
		return out
	}
	am, aok := a.(map[string]any)
	bm, bok := b.(map[string]any)
	if aok && bok {
		for _, c := range diff(am, bm) {
			c.Path = append(slices.Clone(path), c.Path...)
			out = append(out, c)
		}
		return out
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok && len(al) == len(bl) {
		for i := range al {
			out = diffValue(out, append(slices.Clone(path), strconv.Itoa(i)), al[i], bl[i])
		}
		return out
	}
	action := "changed"
	if a == nil {
		action = "added"
	} else if b == nil {
		action = "removed"
	}
	return append(out, Change{Path: path, From: a, To: b, Action: action})
}

// liveOf says when the slowest of the changes takes hold.
func liveOf(b Brand, changes []Change) Live {
	live := LiveRecord
	for _, c := range changes {
		if c.Path[0] == "ram" && !b.HVM() { // only another name for max_physical_memory there
			continue
		}
		at := LiveOf(c.Path[0])
		if at == LiveReboot || at == LiveNow && live == LiveRecord {
			live = at
		}
	}
	return live
}

// LiveOf says when an update of the property takes hold: nics, disks and filesystems at the next boot, metadata and tags at once.
func LiveOf(name string) Live {
	p := properties[name]
	switch {
	case p.update != "":
		return p.update
	case p.kind == flat:
		return LiveRecord
	}
	return LiveReboot
}
