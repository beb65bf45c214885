package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mobulacloud/mobula/storage/metastore"
)

const maxIndexes = 64

// A Schema is a checked bucket. It is immutable, except that a store sets Usable and Data before it publishes it.
type Schema struct {
	metastore.Bucket

	// Data is the store's own.
	Data any

	// Usable tells for each index whether it answers queries; a new one on old records does not yet.
	Usable []bool

	fields map[string]int
}

// Compile checks a bucket. Its indexes are put into the order of their fields, so that equal schemas are equal values.
func Compile(b metastore.Bucket) (*Schema, error) {
	if err := CheckBucketName(b.Name); err != nil {
		return nil, err
	}
	if b.Version < 0 || len(b.Indexes) > maxIndexes {
		return nil, fmt.Errorf("%w: bucket %s: negative version or more than %d indexes", metastore.ErrInvalid, b.Name, maxIndexes)
	}
	b.Indexes = slices.Clone(b.Indexes)
	slices.SortFunc(b.Indexes, func(x, y metastore.Index) int { return strings.Compare(x.Field, y.Field) })
	s := &Schema{Bucket: b, Usable: make([]bool, len(b.Indexes)), fields: make(map[string]int, len(b.Indexes))}
	for i, x := range b.Indexes {
		if err := checkField(x.Field); err != nil {
			return nil, err
		}
		if _, twice := s.fields[x.Field]; twice {
			return nil, fmt.Errorf("%w: bucket %s: two indexes on %s", metastore.ErrInvalid, b.Name, x.Field)
		}
		switch x.Type {
		case metastore.String, metastore.Number, metastore.Boolean, metastore.Date, metastore.UUID, metastore.IP, metastore.Subnet, metastore.MAC:
		default:
			return nil, fmt.Errorf("%w: bucket %s: index %s of unknown type %q", metastore.ErrInvalid, b.Name, x.Field, x.Type)
		}
		s.fields[x.Field] = i
		s.Usable[i] = true
	}
	return s, nil
}

// Same reports whether two schemas say the same, whatever is usable.
func (s *Schema) Same(other *Schema) bool {
	return s.Name == other.Name && s.Version == other.Version && s.Watched == other.Watched && slices.Equal(s.Indexes, other.Indexes)
}

// Index returns the place of a field's index.
func (s *Schema) Index(field string) (i int, ok bool) {
	i, ok = s.fields[field]
	return i, ok
}

// HasUnique reports whether any index is unique.
func (s *Schema) HasUnique() bool {
	return slices.ContainsFunc(s.Indexes, func(x metastore.Index) bool { return x.Unique })
}

// CheckBucketName checks the form of a bucket's name.
func CheckBucketName(name string) error {
	ok := len(name) >= 1 && len(name) <= 63 && 'a' <= name[0] && name[0] <= 'z'
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_'
	}
	if !ok {
		return fmt.Errorf("%w: bucket name %.80q", metastore.ErrInvalid, name)
	}
	return nil
}

func checkField(field string) error {
	ok := len(field) >= 1 && len(field) <= 63
	for i := 0; ok && i < len(field); i++ {
		c := field[i]
		ok = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
	}
	if !ok {
		return fmt.Errorf("%w: field name %.80q", metastore.ErrInvalid, field)
	}
	return nil
}

// CheckKey checks both parts of a key.
func CheckKey(k metastore.Key) error {
	if err := checkPart("partition", k.Partition); err != nil {
		return err
	}
	return checkPart("name", k.Name)
}

func checkPart(what, s string) error {
	if len(s) > metastore.MaxKeyPart {
		return fmt.Errorf("%w: %s of %d bytes is longer than %d", metastore.ErrInvalid, what, len(s), metastore.MaxKeyPart)
	}
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8 without NUL", metastore.ErrInvalid, what)
	}
	return nil
}

// CheckValue checks that a value is a JSON object within limits.
func CheckValue(value []byte) error {
	if len(value) > metastore.MaxValue {
		return fmt.Errorf("%w: value of %d bytes is longer than %d", metastore.ErrInvalid, len(value), metastore.MaxValue)
	}
	i := skipSpace(value, 0)
	if i >= len(value) || value[i] != '{' || !utf8.Valid(value) || !json.Valid(value) {
		return fmt.Errorf("%w: value is not a JSON object", metastore.ErrInvalid)
	}
	return nil
}

// An Entry is one place of a record in an index.
type Entry struct {
	Index int // in Schema.Indexes
	Value []byte
}

// Entries returns the index entries of a checked value, by index, then value, each once. A value that does
// not fit its index is [metastore.ErrInvalid].
func (s *Schema) Entries(value []byte) ([]Entry, error) { return s.entries(value, false) }

// FittingEntries is [Schema.Entries] for values that were stored before an index was: what does not fit is left out.
func (s *Schema) FittingEntries(value []byte) []Entry {
	entries, _ := s.entries(value, true)
	return entries
}

func (s *Schema) entries(value []byte, lenient bool) ([]Entry, error) {
	if len(s.Indexes) == 0 {
		return nil, nil
	}
	raws := make([][]byte, len(s.Indexes))
	scanFields(value, func(name, raw []byte) {
		if i, ok := s.fields[fieldName(name)]; ok {
			raws[i] = raw
		}
	})
	entries := make([]Entry, 0, len(raws))
	for i, raw := range raws {
		if isNull(raw) {
			continue
		}
		first := len(entries)
		err := eachValue(s.Indexes[i], raw, lenient, func(v []byte) { entries = append(entries, Entry{i, v}) })
		if err != nil && !lenient {
			return nil, fmt.Errorf("%w (field %s of bucket %s)", err, s.Indexes[i].Field, s.Name)
		}
		if own := entries[first:]; len(own) > 1 {
			slices.SortFunc(own, func(a, b Entry) int { return bytes.Compare(a.Value, b.Value) })
			own = slices.CompactFunc(own, func(a, b Entry) bool { return bytes.Equal(a.Value, b.Value) })
			entries = entries[:first+len(own)]
		}
	}
	return entries, nil
}

// eachValue encodes what an index holds of a raw JSON value: the value itself, or the elements of an array. The first
// that does not fit is an error; if lenient, the others are visited all the same.
func eachValue(x metastore.Index, raw []byte, lenient bool, visit func(v []byte)) (err error) {
	one := func(raw []byte) error {
		v, err := encodeJSON(nil, x.Type, raw)
		if err != nil {
			return err
		}
		if len(v) > metastore.MaxIndexed {
			return fmt.Errorf("%w: indexed string of %d bytes is longer than %d", metastore.ErrInvalid, len(v), metastore.MaxIndexed)
		}
		visit(v)
		return nil
	}
	if !x.Array {
		return one(raw)
	}
	if raw[0] != '[' {
		return fmt.Errorf("%w: value is not an array", metastore.ErrInvalid)
	}
	n := 0
	scanElements(raw, func(raw []byte) {
		if err != nil && !lenient || isNull(raw) {
			return
		}
		e := one(raw)
		if n++; n > metastore.MaxElements && e == nil {
			e = fmt.Errorf("%w: indexed array has more than %d elements", metastore.ErrInvalid, metastore.MaxElements)
		}
		if e != nil && err == nil {
			err = e
		}
	})
	return err
}

// fieldName decodes the rare name that is written with escapes.
func fieldName(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	return unquote(append(append([]byte{'"'}, raw...), '"'))
}

// SetFields returns a JSON object with some top-level fields replaced, and those with a nil value removed.
func SetFields(object json.RawMessage, set map[string]any) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, fmt.Errorf("%w: decode record: %w", metastore.ErrInvalid, err)
	}
	for name, v := range set {
		if v == nil || isNilPointer(v) {
			delete(fields, name)
			continue
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("%w: encode field %s: %w", metastore.ErrInvalid, name, err)
		}
		fields[name] = raw
	}
	return json.Marshal(fields)
}

func isNilPointer(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

// Supersedes decides what Define does with a schema when old is stored: done says that there is nothing to do.
func Supersedes(s, old *Schema) (done bool, err error) {
	switch {
	case s.Version < old.Version:
		return false, fmt.Errorf("%w: bucket %s has version %d, not %d", metastore.ErrBucketVersion, s.Name, old.Version, s.Version)
	case s.Version > old.Version:
		return false, nil
	case !s.Same(old):
		return false, fmt.Errorf("%w: bucket %s has another schema under version %d; raise the version", metastore.ErrInvalid, s.Name, s.Version)
	}
	return true, nil
}

// EachDifference visits the entries that are in one of two ordered lists only.
func EachDifference(old, entries []Entry, visit func(e Entry, added bool) error) error {
	for len(old) > 0 || len(entries) > 0 {
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(entries) == 0:
			order = -1
		case old[0].Index != entries[0].Index:
			order = old[0].Index - entries[0].Index
		default:
			order = bytes.Compare(old[0].Value, entries[0].Value)
		}
		var err error
		switch {
		case order < 0:
			err, old = visit(old[0], false), old[1:]
		case order > 0:
			err, entries = visit(entries[0], true), entries[1:]
		default:
			old, entries = old[1:], entries[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}
