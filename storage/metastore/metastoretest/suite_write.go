package metastoretest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/storage/metastore"
)

func testDefine(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	a := metastore.Bucket{Name: "a", Version: 2, Watched: true, Indexes: []metastore.Index{{Field: "x", Type: metastore.String, Unique: true}, {Field: "b", Type: metastore.Number, Array: true}}}
	define(t, s, a)
	define(t, s, a)
	a.Indexes[0], a.Indexes[1] = a.Indexes[1], a.Indexes[0]
	define(t, s, a) // the order of indexes is no difference
	define(t, s, metastore.Bucket{Name: "b_2"})
	got, err := s.Buckets(ctx)
	want := []metastore.Bucket{a, {Name: "b_2"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Buckets: %v (-want +got)\n%s", err, diff)
	}
	older := a
	older.Version = 1
	wantErr(t, "Define of an older version", s.Define(ctx, older), metastore.ErrBucketVersion)
	other := a
	other.Watched = false
	wantErr(t, "Define of another schema under one version", s.Define(ctx, other), metastore.ErrInvalid)
	other.Version = 3
	define(t, s, other)
	for _, bad := range []metastore.Bucket{
		{Name: ""}, {Name: "A"}, {Name: "1a"}, {Name: "a-b"}, {Name: strings.Repeat("a", 64)}, {Name: "c", Version: -1},
		{Name: "c", Indexes: []metastore.Index{{Field: "", Type: metastore.String}}},
		{Name: "c", Indexes: []metastore.Index{{Field: "a.b", Type: metastore.String}}},
		{Name: "c", Indexes: []metastore.Index{{Field: "a", Type: "text"}}},
		{Name: "c", Indexes: []metastore.Index{{Field: "a", Type: metastore.String}, {Field: "a", Type: metastore.Number}}},
	} {
		wantErr(t, fmt.Sprintf("Define(%+v)", bad), s.Define(ctx, bad), metastore.ErrInvalid)
	}
}

func testDrop(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	b := metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "x", Type: metastore.String, Unique: true}}}
	define(t, s, b)
	commit(t, s,
		metastore.Put{Bucket: "a", Key: k("1"), Value: []byte(`{"x":"u"}`)},
		metastore.Add{Bucket: "a", Key: k("n"), Delta: 3})
	for range 2 {
		if err := s.Drop(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Get(ctx, "a", k("1"))
	wantErr(t, "Get from a dropped bucket", err, metastore.ErrNoBucket)
	define(t, s, b)
	wantValue(t, s, "a", k("1"), "")
	wantCounter(t, s, "a", k("n"), 0)
	put(t, s, "a", k("2"), `{"x":"u"}`) // the value is free again
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Eq{Field: "x", Value: "u"}}, "2")
}

func testRecords(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	define(t, s, metastore.Bucket{Name: "a"})
	define(t, s, metastore.Bucket{Name: "b"})
	before := time.Now().Add(-time.Minute)
	value := `{"a": [1, 2.50, "x\u0000y"],  "html":"<&>", "a b":null, "big":12345678901234567890}`
	etag := put(t, s, "a", k("1"), value)
	r, err := s.Get(ctx, "a", k("1"))
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Value) != value || r.Etag != etag || etag == "" || r.Bucket != "a" || r.Key != k("1") {
		t.Errorf("Get = %+v, want etag %q and the value as it was put", r, etag)
	}
	if r.Modified.Before(before) || r.Modified.After(time.Now().Add(time.Minute)) {
		t.Errorf("Modified = %v, want about now", r.Modified)
	}
	r.Value[0] = 'X' // it is ours
	wantValue(t, s, "a", k("1"), value)
	seen := map[string]bool{etag: true}
	for range 3 {
		e := put(t, s, "a", k("1"), value)
		if seen[e] {
			t.Errorf("etag %q was used twice", e)
		}
		seen[e] = true
	}
	// The same name elsewhere is another record.
	for _, other := range []metastore.Key{{Partition: "p", Name: ""}, {Partition: "", Name: "1"}, {Partition: "p1", Name: ""}, {Partition: "q", Name: "1"}} {
		wantValue(t, s, "a", other, "")
		put(t, s, "a", other, `{"v":1}`)
		wantValue(t, s, "a", other, `{"v":1}`)
	}
	wantValue(t, s, "b", k("1"), "")
	wantValue(t, s, "a", k("1"), value)
	commit(t, s, metastore.Delete{Bucket: "a", Key: k("1")})
	wantValue(t, s, "a", k("1"), "")
	commit(t, s, metastore.Delete{Bucket: "a", Key: k("1")})
	_, err = s.Get(ctx, "nope", k("1"))
	wantErr(t, "Get from no bucket", err, metastore.ErrNoBucket)
	_, err = s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "nope", Key: k("1"), Value: []byte(`{}`)}})
	wantErr(t, "Put into no bucket", err, metastore.ErrNoBucket)
	if r, err := s.Commit(ctx, nil); err != nil || len(r.Etags) != 0 {
		t.Errorf("Commit(nil) = %+v, %v", r, err)
	}
}

func testConditions(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "v", Type: metastore.Number}}})
	etag := put(t, s, "a", k("here"), `{"v":1}`)
	for _, c := range []struct {
		name string
		key  string
		when metastore.Condition
		ok   bool
	}{
		{"any of present", "here", metastore.Condition{}, true},
		{"any of absent", "gone", metastore.Condition{}, true},
		{"absent of present", "here", metastore.Absent(), false},
		{"absent of absent", "gone", metastore.Absent(), true},
		{"present of present", "here", metastore.Present(), true},
		{"present of absent", "gone", metastore.Present(), false},
		{"etag of present", "here", metastore.EtagIs(etag), true},
		{"other etag of present", "here", metastore.EtagIs(etag + "x"), false},
		{"etag of absent", "gone", metastore.EtagIs(etag), false},
		{"empty etag of absent", "gone", metastore.EtagIs(""), true},
		{"empty etag of present", "here", metastore.EtagIs(""), false},
	} {
		check := metastore.Check{Bucket: "a", Key: k(c.key), If: c.when}
		_, err := s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "a", Key: k("other"), Value: []byte(`{}`)}, check})
		conditionError(t, c.name+", Check", err, c.ok, metastore.ConditionError{Op: 1, Bucket: "a", Key: check.Key, Want: c.when}, etag)
		if !c.ok {
			_, err = s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "a", Key: k(c.key), Value: []byte(`{"v":2}`), If: c.when}})
			conditionError(t, c.name+", Put", err, false, metastore.ConditionError{Bucket: "a", Key: check.Key, Want: c.when}, etag)
			_, err = s.Commit(ctx, metastore.Batch{metastore.Delete{Bucket: "a", Key: k(c.key), If: c.when}})
			conditionError(t, c.name+", Delete", err, false, metastore.ConditionError{Bucket: "a", Key: check.Key, Want: c.when}, etag)
		}
	}
	wantValue(t, s, "a", k("here"), `{"v":1}`)
	next := commit(t, s, metastore.Put{Bucket: "a", Key: k("here"), Value: []byte(`{"v":3}`), If: metastore.EtagIs(etag)}).Etags[0]
	if _, err := s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "a", Key: k("here"), Value: []byte(`{"v":4}`), If: metastore.EtagIs(etag)}}); !errors.Is(err, metastore.ErrConflict) {
		t.Errorf("Put with the old etag = %v", err)
	}
	commit(t, s, metastore.Delete{Bucket: "a", Key: k("here"), If: metastore.EtagIs(next)})
	commit(t, s, metastore.Put{Bucket: "a", Key: k("here"), Value: []byte(`{"v":5}`), If: metastore.Absent()})
	// The first of several in the order of the batch is the one reported, and the state before the batch is what counts.
	_, err := s.Commit(ctx, metastore.Batch{
		metastore.Put{Bucket: "a", Key: k("new"), Value: []byte(`{}`)},
		metastore.CheckCounter{Bucket: "a", Key: k("n"), Min: 5, Max: 9},
		metastore.Check{Bucket: "a", Key: k("new"), If: metastore.Present()},
		metastore.Delete{Bucket: "a", Key: k("gone"), If: metastore.Present()},
	})
	conditionError(t, "several", err, false, metastore.ConditionError{Op: 1, Bucket: "a", Key: k("n"), Got: "0"}, "")
	_, err = s.Commit(ctx, metastore.Batch{
		metastore.Put{Bucket: "a", Key: k("new"), Value: []byte(`{}`)},
		metastore.Check{Bucket: "a", Key: k("new"), If: metastore.Present()},
	})
	conditionError(t, "Check of what the batch puts", err, false, metastore.ConditionError{Op: 1, Bucket: "a", Key: k("new"), Want: metastore.Present()}, "")
}

func conditionError(t *testing.T, what string, err error, ok bool, want metastore.ConditionError, etag string) {
	t.Helper()
	if ok {
		if err != nil {
			t.Errorf("%s = %v, want nil", what, err)
		}
		return
	}
	got, is := errors.AsType[*metastore.ConditionError](err)
	if !is || !errors.Is(err, metastore.ErrConflict) {
		t.Errorf("%s = %v, want a ConditionError", what, err)
		return
	}
	if want.Key.Name == "here" {
		want.Got = etag
	}
	if *got != want {
		t.Errorf("%s = %+v, want %+v", what, *got, want)
	}
}

func testBatches(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "x", Type: metastore.String}}})
	define(t, s, metastore.Bucket{Name: "b"})
	r := commit(t, s,
		metastore.Put{Bucket: "a", Key: k("1"), Value: []byte(`{"x":"one"}`)},
		metastore.Delete{Bucket: "a", Key: k("2")},
		metastore.Put{Bucket: "b", Key: k("1"), Value: []byte(`{"x":"two"}`)},
		metastore.Add{Bucket: "b", Key: k("1"), Delta: 2},
		metastore.Check{Bucket: "b", Key: k("3"), If: metastore.Absent()},
	)
	if r.Etags[0] == "" || r.Etags[1] != "" || r.Etags[2] == "" || r.Etags[3] != "" || r.Etags[4] != "" || len(r.Counts) != 5 {
		t.Errorf("Result = %+v", r)
	}
	wantValue(t, s, "a", k("1"), `{"x":"one"}`)
	wantValue(t, s, "b", k("1"), `{"x":"two"}`)
	wantCounter(t, s, "b", k("1"), 2)
	// All or nothing.
	_, err := s.Commit(ctx, metastore.Batch{
		metastore.Put{Bucket: "a", Key: k("1"), Value: []byte(`{"x":"changed"}`)},
		metastore.Delete{Bucket: "b", Key: k("1")},
		metastore.Add{Bucket: "b", Key: k("1"), Delta: 5},
		metastore.Put{Bucket: "a", Key: k("9"), Value: []byte(`{}`), If: metastore.Present()},
	})
	wantErr(t, "batch with a refused operation", err, metastore.ErrConflict)
	wantValue(t, s, "a", k("1"), `{"x":"one"}`)
	wantValue(t, s, "b", k("1"), `{"x":"two"}`)
	wantCounter(t, s, "b", k("1"), 2)
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Has{Field: "x"}}, "1")
	_, err = s.Commit(ctx, metastore.Batch{
		metastore.Put{Bucket: "a", Key: k("5"), Value: []byte(`{}`)},
		metastore.Delete{Bucket: "a", Key: k("5")},
	})
	wantErr(t, "key written twice", err, metastore.ErrInvalid)
	// Index entries follow their record.
	put(t, s, "a", k("1"), `{"x":"two"}`)
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Eq{Field: "x", Value: "one"}})
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Eq{Field: "x", Value: "two"}}, "1")
	put(t, s, "a", k("1"), `{"x":null}`)
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Has{Field: "x"}})
}

// apart returns two partitions that may not be in one batch, if the store has such.
func apart(s metastore.Store) (a, b string, ok bool) {
	for i := range 1000 {
		if b = fmt.Sprint("p", i); !s.Colocated("p", b) {
			return "p", b, true
		}
	}
	return "p", "p0", false
}

func testCrossShard(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a"})
	if !s.Colocated() || !s.Colocated("p") || !s.Colocated("p", "p") {
		t.Error("one partition is not colocated with itself")
	}
	a, b, ok := apart(s)
	batch := metastore.Batch{
		metastore.Put{Bucket: "a", Key: metastore.Key{Partition: a, Name: "1"}, Value: []byte(`{}`)},
		metastore.Put{Bucket: "a", Key: metastore.Key{Partition: b, Name: "1"}, Value: []byte(`{}`)},
	}
	_, err := s.Commit(t.Context(), batch)
	if !ok {
		if err != nil {
			t.Errorf("Commit over colocated partitions = %v", err)
		}
		return
	}
	wantErr(t, "Commit over partitions apart", err, metastore.ErrCrossShard)
	wantValue(t, s, "a", metastore.Key{Partition: a, Name: "1"}, "")
	wantValue(t, s, "a", metastore.Key{Partition: b, Name: "1"}, "")
	_, err = s.Commit(t.Context(), metastore.Batch{metastore.DeleteMany{Bucket: "a", Query: metastore.Query{Scan: true}}})
	wantErr(t, "DeleteMany over all partitions", err, metastore.ErrCrossShard)
}

func testLimits(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "s", Type: metastore.String}, {Field: "l", Type: metastore.String, Array: true}}})
	long := strings.Repeat("x", metastore.MaxKeyPart)
	big := `{"v":"` + strings.Repeat("y", metastore.MaxValue-8) + `"}`
	put(t, s, "a", metastore.Key{Partition: long, Name: long}, big)
	wantValue(t, s, "a", metastore.Key{Partition: long, Name: long}, big)
	deep := `{"v":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`
	put(t, s, "a", k("deep"), deep)
	put(t, s, "a", k("edge"), `{"s":"`+strings.Repeat("z", metastore.MaxIndexed)+`"}`)
	for _, c := range []struct {
		name  string
		key   metastore.Key
		value string
	}{
		{"partition too long", metastore.Key{Partition: long + "x"}, `{}`},
		{"name too long", k(long + "x"), `{}`},
		{"NUL in a name", k("a\x00b"), `{}`},
		{"name not UTF-8", k("a\xffb"), `{}`},
		{"partition not UTF-8", metastore.Key{Partition: "\xff"}, `{}`},
		{"value too long", k("1"), big[:len(big)-2] + `yy"}`},
		{"value no JSON", k("1"), `{"a":}`},
		{"value truncated", k("1"), `{"a":1`},
		{"value with a tail", k("1"), `{} {}`},
		{"value no object", k("1"), `[1]`},
		{"value a string", k("1"), `"x"`},
		{"value empty", k("1"), ``},
		{"value null", k("1"), `null`},
		{"value not UTF-8", k("1"), "{\"a\":\"\xff\"}"},
		{"wrong type", k("1"), `{"s":1}`},
		{"indexed string too long", k("1"), `{"s":"` + strings.Repeat("z", metastore.MaxIndexed+1) + `"}`},
		{"scalar for an array", k("1"), `{"l":"x"}`},
		{"wrong type in an array", k("1"), `{"l":["x",1]}`},
		{"array too long", k("1"), `{"l":["x"` + strings.Repeat(`,"x"`, metastore.MaxElements) + `]}`},
	} {
		_, err := s.Commit(ctx, metastore.Batch{metastore.Put{Bucket: "a", Key: c.key, Value: []byte(c.value)}})
		wantErr(t, "Put: "+c.name, err, metastore.ErrInvalid)
		if c.name == "NUL in a name" {
			_, err := s.Get(ctx, "a", c.key)
			wantErr(t, "Get: "+c.name, err, metastore.ErrInvalid)
		}
	}
	many := make(metastore.Batch, metastore.MaxBatchOps+1)
	for i := range many {
		many[i] = metastore.Put{Bucket: "a", Key: k(fmt.Sprint("many", i)), Value: []byte(`{}`)}
	}
	_, err := s.Commit(ctx, many)
	wantErr(t, "batch too long", err, metastore.ErrInvalid)
	commit(t, s, many[1:]...)
	wantFind(t, s, "a", metastore.Query{Partition: metastore.In("p"), From: "many9998", Limit: 3}, "many9998", "many9999")
}

func testCounters(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	define(t, s, metastore.Bucket{Name: "a"})
	define(t, s, metastore.Bucket{Name: "b"})
	wantCounter(t, s, "a", k("n"), 0)
	commit(t, s, metastore.Add{Bucket: "a", Key: k("n"), Delta: 5}, metastore.Add{Bucket: "a", Key: k("n"), Delta: -2}, metastore.Add{Bucket: "a", Key: k(""), Delta: 1})
	wantCounter(t, s, "a", k("n"), 3)
	wantCounter(t, s, "b", k("n"), 0)
	wantValue(t, s, "a", k("n"), "") // a counter is no record
	bounds := func(min, max int64) error {
		_, err := s.Commit(ctx, metastore.Batch{
			metastore.CheckCounter{Bucket: "a", Key: k("n"), Min: min, Max: max},
			metastore.Put{Bucket: "a", Key: k("r"), Value: []byte(`{}`)},
			metastore.Add{Bucket: "a", Key: k("n"), Delta: 1},
		})
		return err
	}
	wantErr(t, "CheckCounter below", bounds(4, 9), metastore.ErrConflict)
	wantErr(t, "CheckCounter above", bounds(0, 2), metastore.ErrConflict)
	wantCounter(t, s, "a", k("n"), 3)
	if err := bounds(3, 3); err != nil {
		t.Errorf("CheckCounter of the value itself = %v", err)
	}
	wantCounter(t, s, "a", k("n"), 4)
	commit(t, s, metastore.Add{Bucket: "a", Key: k("n"), Delta: -4})
	wantCounter(t, s, "a", k("n"), 0)
	commit(t, s, metastore.CheckCounter{Bucket: "a", Key: k("n"), Min: 0, Max: 0})
	commit(t, s, metastore.Add{Bucket: "a", Key: k("n"), Delta: -7})
	wantCounter(t, s, "a", k("n"), -7)
	_, err := s.Counter(ctx, "nope", k("n"))
	wantErr(t, "Counter of no bucket", err, metastore.ErrNoBucket)
}

func testUnique(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "login", Type: metastore.String, Unique: true}, {Field: "keys", Type: metastore.String, Array: true, Unique: true}}})
	put(t, s, "a", k("1"), `{"login":"ann","keys":["a","b"]}`)
	refused := func(what, field string, op int, ops ...metastore.Op) {
		t.Helper()
		_, err := s.Commit(ctx, ops)
		got, ok := errors.AsType[*metastore.UniqueError](err)
		if !ok || !errors.Is(err, metastore.ErrNotUnique) || got.Field != field || got.Op != op {
			t.Errorf("%s = %v, want a UniqueError of operation %d on %s", what, err, op, field)
		}
	}
	at := func(name, value string) metastore.Put {
		return metastore.Put{Bucket: "a", Key: k(name), Value: []byte(value)}
	}
	refused("a taken value", "login", 0, at("2", `{"login":"ann"}`))
	refused("a taken element", "keys", 0, at("2", `{"keys":["c","b"]}`))
	refused("twice in a batch", "login", 1, at("2", `{"login":"bob"}`), at("3", `{"login":"bob"}`))
	put(t, s, "a", k("1"), `{"login":"ann","keys":["b","c","c"]}`) // its own are no hindrance
	put(t, s, "a", k("2"), `{"login":"bob","keys":["a"]}`)
	put(t, s, "a", k("3"), `{}`)
	put(t, s, "a", k("4"), `{}`) // absent is not a value
	// Values may change hands within a batch.
	commit(t, s, at("1", `{"login":"bob"}`), at("2", `{"login":"ann"}`))
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Eq{Field: "login", Value: "ann"}}, "2")
	commit(t, s, metastore.Delete{Bucket: "a", Key: k("2")}, at("3", `{"login":"ann"}`))
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Eq{Field: "login", Value: "ann"}}, "3")
	refused("a value that changed hands", "login", 0, at("9", `{"login":"ann"}`))
	refused("UpdateMany to one value", "login", 0, metastore.UpdateMany{Bucket: "a", Query: metastore.Query{Partition: metastore.In("p")}, Set: map[string]any{"login": "zed"}})
	commit(t, s, metastore.Delete{Bucket: "a", Key: k("3")})
	put(t, s, "a", k("5"), `{"login":"ann"}`)
}

func many(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a", Watched: true, Indexes: []metastore.Index{{Field: "state", Type: metastore.String}, {Field: "n", Type: metastore.Number, PerPartition: true}}})
	for i := range 10 {
		put(t, s, "a", k(fmt.Sprint(i)), fmt.Sprintf(`{"state":%q,"n":%d,"keep":"<%d>"}`, []string{"on", "off"}[i%2], i, i))
	}
}

func testUpdateMany(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	many(t, s)
	in := metastore.In("p")
	old, _ := s.Get(ctx, "a", k("0"))
	r := commit(t, s,
		metastore.Put{Bucket: "a", Key: k("2"), Value: []byte(`{"state":"mine"}`)},
		metastore.UpdateMany{Bucket: "a", Query: metastore.Query{Partition: in, Filter: metastore.Eq{Field: "state", Value: "on"}, Limit: 3}, Set: map[string]any{"state": "new", "n": nil, "tags": []string{"x"}}},
	)
	if r.Counts[1] != 2 || r.Counts[0] != 0 || r.Etags[1] != "" || r.Etags[0] == "" {
		t.Errorf("Result = %+v, want 2 updates: the limit takes 0, 2 and 4, and 2 is left out", r)
	}
	wantValue(t, s, "a", k("0"), `{"state":"new","keep":"<0>","tags":["x"]}`)
	wantValue(t, s, "a", k("2"), `{"state":"mine"}`)
	wantValue(t, s, "a", k("6"), `{"state":"on","n":6,"keep":"<6>"}`)
	wantFind(t, s, "a", metastore.Query{Partition: in, Filter: metastore.Eq{Field: "state", Value: "new"}}, "0", "4")
	wantFind(t, s, "a", metastore.Query{Partition: in, OrderBy: "n", Limit: 2}, "1", "3")
	if now, _ := s.Get(ctx, "a", k("0")); now.Etag == old.Etag || now.Etag == "" {
		t.Errorf("etag %q was kept", now.Etag)
	}
	_, err := s.Commit(ctx, metastore.Batch{metastore.UpdateMany{Bucket: "a", Query: metastore.Query{Partition: in}, Set: map[string]any{"n": "no number"}}})
	wantErr(t, "UpdateMany to a wrong type", err, metastore.ErrInvalid)
	_, err = s.Commit(ctx, metastore.Batch{metastore.UpdateMany{Bucket: "a", Query: metastore.Query{Filter: metastore.Eq{Field: "keep", Value: "x"}}, Set: map[string]any{"n": 1}}})
	if _, _, ok := apart(s); !ok { // else it is ErrCrossShard before anything
		wantErr(t, "UpdateMany without index or partition", err, metastore.ErrNotIndexed)
	}
	_, err = s.Commit(ctx, metastore.Batch{metastore.UpdateMany{Bucket: "a", Query: metastore.Query{Partition: in, Limit: 10001}}})
	wantErr(t, "UpdateMany beyond the limit", err, metastore.ErrInvalid)
	_, err = s.Commit(ctx, metastore.Batch{
		metastore.UpdateMany{Bucket: "a", Query: metastore.Query{Partition: in}, Set: map[string]any{"state": "no"}},
		metastore.Check{Bucket: "a", Key: k("0"), If: metastore.Absent()},
	})
	wantErr(t, "UpdateMany in a refused batch", err, metastore.ErrConflict)
	wantFind(t, s, "a", metastore.Query{Partition: in, Filter: metastore.Eq{Field: "state", Value: "no"}})
}

func testDeleteMany(t *testing.T, s metastore.Store) {
	many(t, s)
	in := metastore.In("p")
	r := commit(t, s,
		metastore.DeleteMany{Bucket: "a", Query: metastore.Query{Partition: in, OrderBy: "n", From: 7, Descending: true, Limit: 2}},
		metastore.DeleteMany{Bucket: "a", Query: metastore.Query{Partition: in, Filter: metastore.Ge{Field: "n", Value: 6}}},
		metastore.Add{Bucket: "a", Key: k("n"), Delta: -4},
	)
	if diff := cmp.Diff([]int{2, 2, 0}, r.Counts); diff != "" {
		t.Errorf("Counts (-want +got)\n%s", diff)
	}
	wantFind(t, s, "a", metastore.Query{Partition: in}, "0", "1", "2", "3", "4", "5")
	wantFind(t, s, "a", metastore.Query{Partition: in, OrderBy: "n", Descending: true}, "5", "4", "3", "2", "1", "0")
	wantFind(t, s, "a", metastore.Query{Partition: in, Filter: metastore.Eq{Field: "state", Value: "off"}}, "1", "3", "5")
	if r := commit(t, s, metastore.DeleteMany{Bucket: "a", Query: metastore.Query{Partition: in}}); r.Counts[0] != 6 {
		t.Errorf("Counts = %v, want 6", r.Counts)
	}
	wantFind(t, s, "a", metastore.Query{Partition: in})
}
