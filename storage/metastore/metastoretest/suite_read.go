package metastoretest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/storage/metastore"
)

func testReindex(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	b := metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "x", Type: metastore.Number}, {Field: "gone", Type: metastore.String}}}
	define(t, s, b)
	for i := range 25 {
		put(t, s, "a", k(fmt.Sprintf("%02d", i)), fmt.Sprintf(`{"x":%d,"y":%q,"gone":"g"}`, i, []string{"even", "odd"}[i%2]))
	}
	put(t, s, "a", k("unfit"), `{"x":99,"y":7}`)
	b.Version++
	b.Indexes = []metastore.Index{{Field: "x", Type: metastore.Number}, {Field: "y", Type: metastore.String}}
	define(t, s, b)
	odd := metastore.Query{Filter: metastore.Eq{Field: "y", Value: "odd"}}
	_, err := find(ctx, s, "a", odd)
	wantErr(t, "Find by an index being built", err, metastore.ErrNotIndexed)
	_, err = find(ctx, s, "a", metastore.Query{OrderBy: "y"})
	wantErr(t, "order by an index being built", err, metastore.ErrNotIndexed)
	_, err = find(ctx, s, "a", metastore.Query{Filter: metastore.Eq{Field: "gone", Value: "g"}})
	wantErr(t, "Find by an index dropped", err, metastore.ErrNotIndexed)
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Eq{Field: "x", Value: 3}}, "03")
	wantFind(t, s, "a", metastore.Query{Partition: metastore.In("p"), Filter: metastore.And{odd.Filter, metastore.Le{Field: "x", Value: 3}}}, "01", "03")
	// Writes between the steps, on both sides of where it has come to.
	for step := 0; ; step++ {
		left, err := s.Reindex(ctx, "a", 5)
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			break
		}
		if step > 100 {
			t.Fatal("Reindex does not come to an end")
		}
		switch step {
		case 0:
			put(t, s, "a", k("01"), `{"x":1,"y":"odd","again":true}`)
			put(t, s, "a", k("03"), `{"x":3,"y":"even"}`)
			put(t, s, "a", k("21"), `{"x":21,"y":"odd","again":true}`)
			commit(t, s, metastore.Delete{Bucket: "a", Key: k("23")}, metastore.Delete{Bucket: "a", Key: k("05")})
			put(t, s, "a", k("00a"), `{"y":"odd"}`)
		case 2:
			put(t, s, "a", k("09"), `{"x":9}`)
		}
	}
	wantFind(t, s, "a", odd, "00a", "01", "07", "11", "13", "15", "17", "19", "21")
	wantFind(t, s, "a", metastore.Query{OrderBy: "y", Descending: true, Limit: 2}, "21", "19")
	if left, err := s.Reindex(ctx, "a", 5); left != 0 || err != nil {
		t.Errorf("Reindex when nothing is left = %d, %v", left, err)
	}
	_, err = s.Reindex(ctx, "nope", 5)
	wantErr(t, "Reindex of no bucket", err, metastore.ErrNoBucket)
	// A field whose type changes is a new index; the old entries must not come back.
	b.Version++
	b.Indexes[0].Type = metastore.String
	define(t, s, b)
	put(t, s, "a", k("zz"), `{"x":"3","y":"odd"}`)
	reindex(t, s, "a")
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Has{Field: "x"}, OrderBy: "x"}, "zz")
}

func reindex(t *testing.T, s metastore.Store, bucket string) {
	t.Helper()
	for range 1000 {
		left, err := s.Reindex(t.Context(), bucket, 100)
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			return
		}
	}
	t.Fatal("Reindex does not come to an end")
}

func testReindexUnique(t *testing.T, s metastore.Store) {
	b := metastore.Bucket{Name: "a"}
	define(t, s, b)
	put(t, s, "a", k("1"), `{"u":"x"}`)
	put(t, s, "a", k("2"), `{"u":"x"}`)
	put(t, s, "a", k("3"), `{"u":"y"}`)
	b.Version, b.Indexes = 1, []metastore.Index{{Field: "u", Type: metastore.String, Unique: true}}
	define(t, s, b)
	_, err := s.Reindex(t.Context(), "a", 100)
	wantErr(t, "Reindex over a value taken twice", err, metastore.ErrNotUnique)
	_, err = find(t.Context(), s, "a", metastore.Query{OrderBy: "u"})
	wantErr(t, "Find before it is mended", err, metastore.ErrNotIndexed)
	put(t, s, "a", k("2"), `{"u":"z"}`)
	reindex(t, s, "a")
	wantFind(t, s, "a", metastore.Query{OrderBy: "u"}, "1", "3", "2")
	_, err = s.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: "a", Key: k("4"), Value: []byte(`{"u":"z"}`)}})
	wantErr(t, "a taken value after Reindex", err, metastore.ErrNotUnique)
}

func testKeyOrder(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a"})
	define(t, s, metastore.Bucket{Name: "b"})
	names := []string{"", "\x01", " ", "A", "B", "a", "a\x01", "a ", "a/b", "a0", "aa", "b", "é", "ü", "日本", "\U0001F600"}
	shuffled := slices.Clone(names)
	slices.Reverse(shuffled)
	for _, n := range shuffled {
		put(t, s, "a", k(n), `{}`)
		put(t, s, "a", metastore.Key{Partition: "p\x01", Name: n}, `{}`)
		put(t, s, "b", k(n+"!"), `{}`)
	}
	in := metastore.In("p")
	wantFind(t, s, "a", metastore.Query{Partition: in}, names...)
	back := slices.Clone(names)
	slices.Reverse(back)
	wantFind(t, s, "a", metastore.Query{Partition: in, Descending: true}, back...)
	wantFind(t, s, "a", metastore.Query{Partition: in, From: "a"}, names[5:]...)
	wantFind(t, s, "a", metastore.Query{Partition: in, From: "a/"}, names[8:]...)
	wantFind(t, s, "a", metastore.Query{Partition: in, From: "a/", Descending: true}, back[len(names)-8:]...)
	wantFind(t, s, "a", metastore.Query{Partition: in, From: "b", Descending: true, Limit: 2}, "b", "aa")
	wantFind(t, s, "a", metastore.Query{Partition: metastore.In("nothing here")})
	got, err := find(t.Context(), s, "a", metastore.Query{Scan: true})
	want := slices.Clone(names)
	for _, n := range names {
		want = append(want, "p\x01/"+n)
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Scan: %v (-want +got)\n%s", err, diff)
	}
}

func testLongKeys(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "g", Type: metastore.String}, {Field: "l", Type: metastore.Number, PerPartition: true}}})
	base := strings.Repeat("x", metastore.OrderedPrefix)
	var keys []metastore.Key
	for _, partition := range []string{"p", base, base + "a", base + "b" + base, base[1:] + "é"} {
		for _, name := range []string{"", base[1:], base, base + "1", base + "2", base + base, base[1:] + "y"} {
			keys = append(keys, metastore.Key{Partition: partition, Name: name})
		}
	}
	for i, key := range keys {
		put(t, s, "a", key, fmt.Sprintf(`{"g":"same","l":%d}`, i))
		commit(t, s, metastore.Add{Bucket: "a", Key: key, Delta: int64(i)})
	}
	for i, key := range keys {
		wantCounter(t, s, "a", key, int64(i))
		wantValue(t, s, "a", key, fmt.Sprintf(`{"g":"same","l":%d}`, i))
	}
	slices.SortFunc(keys, metastore.Key.Compare)
	for what, q := range map[string]metastore.Query{
		"scan": {Scan: true}, "one value": {Filter: metastore.Eq{Field: "g", Value: "same"}}, "ties": {OrderBy: "g"},
	} {
		for _, descending := range []bool{false, true} {
			q.Descending, q.After = descending, nil
			want := slices.Clone(keys)
			if descending {
				slices.Reverse(want)
			}
			var got []metastore.Key
			// Page by page, to cross every place with a cursor.
			for range len(keys) + 1 {
				q.Limit = 3
				n := 0
				for r, err := range s.Find(t.Context(), "a", q) {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, r.Key)
					q.After = &r
					n++
				}
				if n < 3 {
					break
				}
			}
			if !slices.Equal(want, got) {
				t.Errorf("%s, descending %v: order of %d keys differs (got %d)", what, descending, len(want), len(got))
			}
		}
	}
}

// creatures are the records of the filter tests.
var creatures = map[string]string{
	"ant":   `{"name":"ant","legs":6,"wild":true,"tags":["small","red"],"note":"Busy","w":0.5}`,
	"bee":   `{"name":"bee","legs":6,"wild":true,"tags":["small","wings"],"w":-1,"note":"a*b(c)\\d"}`,
	"cat":   `{"name":"cat","legs":4,"wild":false,"tags":[],"note":"lazy","extra":{"a":1}}`,
	"dog":   `{"name":"dog","legs":4,"wild":false,"tags":["loyal"],"note":"BUSY bee","w":12}`,
	"eel":   `{"name":"eel","legs":0,"wild":true,"tags":null,"w":"12"}`,
	"snail": `{"name":"sn\u0061il","legs":null,"wild":true,"tags":["small"],"note":""}`,
}

func creature(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{
		{Field: "name", Type: metastore.String}, {Field: "legs", Type: metastore.Number}, {Field: "wild", Type: metastore.Boolean},
		{Field: "tags", Type: metastore.String, Array: true}, {Field: "u", Type: metastore.UUID},
	}})
	for name, value := range creatures {
		put(t, s, "a", k(name), value)
	}
}

func testFilters(t *testing.T, s metastore.Store) {
	creature(t, s)
	all := []string{"ant", "bee", "cat", "dog", "eel", "snail"}
	for _, c := range []struct {
		filter string
		want   []string
	}{
		{"(name=cat)", []string{"cat"}},
		{"name=cat", []string{"cat"}},
		{"(name=snail)", []string{"snail"}},
		{"(name=CAT)", nil},
		{"(name=*)", all},
		{"(legs=*)", []string{"ant", "bee", "cat", "dog", "eel"}},
		{"(&(name=*)(!(legs=*)))", []string{"snail"}},
		{"(legs=6)", []string{"ant", "bee"}},
		{"(legs=6.0)", []string{"ant", "bee"}},
		{"(legs>=4)", []string{"ant", "bee", "cat", "dog"}},
		{"(legs<=4)", []string{"cat", "dog", "eel"}},
		{"(&(legs>=1)(legs<=5))", []string{"cat", "dog"}},
		{"(&(legs>=5)(legs<=1))", nil},
		{"(wild=false)", []string{"cat", "dog"}},
		{"(wild>=false)", all},
		{"(tags=small)", []string{"ant", "bee", "snail"}},
		{"(&(tags=small)(tags=wings))", []string{"bee"}},
		{"(&(tags>=s)(tags<=rz))", []string{"ant"}}, // by different elements
		{"(&(name=*)(tags=*))", []string{"ant", "bee", "cat", "dog", "snail"}},
		{"(tags=w*)", []string{"bee"}},
		{"(|(tags=red)(tags=wings)(tags=small))", []string{"ant", "bee", "snail"}},
		{"(name=*)(", nil},
		{"(name=*e*)", []string{"bee", "eel"}},
		{"(name=b*e)", []string{"bee"}},
		{"(name=be*ee)", nil},
		{"(name=*n*i*l)", []string{"snail"}},
		{"(&(name=*)(note=Busy))", []string{"ant"}},
		{"(&(name=*)(note=a\\*b\\(c\\)\\5cd))", []string{"bee"}},
		{"(&(name=*)(note=*\\**))", []string{"bee"}},
		{"(&(name=*)(note=))", []string{"snail"}},
		{"(&(name=*)(note:caseIgnoreMatch:=BUSY))", []string{"ant"}},
		{"(&(name=*)(note:caseIgnoreSubstringsMatch:=busy*))", []string{"ant", "dog"}},
		{"(&(name=*)(note:caseIgnoreSubstringsMatch:=*BEE))", []string{"dog"}},
		{"(&(name=*)(note:caseIgnoreSubstringsMatch:=LAZY))", []string{"cat"}},
		{"(&(name=*)(w=12))", []string{"dog", "eel"}}, // without an index each value has its own type
		{"(&(name=*)(w>=0))", []string{"ant", "dog", "eel"}},
		{"(&(name=*)(w<=0.5))", []string{"ant", "bee"}},
		{"(&(name=*)(extra=*))", []string{"cat"}},
		{"(&(name=*)(extra=1))", nil},
		{"(&(name=*)(tags:contains:=small,red))", []string{"ant"}},
		{"(&(name=*)(tags:overlaps:={red,loyal}))", []string{"ant", "dog"}},
		{"(&(name=*)(tags:within:=small,red,loyal))", []string{"ant", "cat", "dog", "snail"}},
		{"(|(name=cat)(legs=6))", []string{"ant", "bee", "cat"}},
		{"(|(name=cat)(legs>=4)(name=cat))", []string{"ant", "bee", "cat", "dog"}},
		{"(&(|(name=cat)(name=dog)(name=eel))(wild=false)(!(name=dog)))", []string{"cat"}},
		{"(|)", nil},
		{"(&(name=*)(&))", all},
		{"(&(name=*)(!(|(legs=6)(legs=4))))", []string{"eel", "snail"}},
	} {
		f, err := metastore.ParseFilter(c.filter)
		if err != nil {
			if c.filter != "(name=*)(" {
				t.Errorf("ParseFilter(%s) = %v", c.filter, err)
			}
			continue
		}
		wantFind(t, s, "a", metastore.Query{Filter: f}, c.want...)
		wantFind(t, s, "a", metastore.Query{Filter: f, Partition: metastore.In("p")}, c.want...)
		back := slices.Clone(c.want)
		slices.Reverse(back)
		wantFind(t, s, "a", metastore.Query{Filter: f, Descending: true}, back...)
		wantFind(t, s, "a", metastore.Query{Filter: f, Limit: 1}, c.want[:min(1, len(c.want))]...)
		wantFind(t, s, "a", metastore.Query{Filter: f, Partition: metastore.In("q")})
	}
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Eq{Field: "legs", Value: 4}}, "cat", "dog")
	wantFind(t, s, "a", metastore.Query{Filter: metastore.Eq{Field: "wild", Value: false}}, "cat", "dog")
	for _, f := range []metastore.Filter{
		metastore.Eq{Field: "legs", Value: "four"}, metastore.Eq{Field: "wild", Value: "yes"}, metastore.Ge{Field: "u", Value: "zz"},
		metastore.Has{Field: "a b"}, metastore.Eq{Field: "legs", Value: time.Now()}, metastore.Eq{Field: "legs"},
		metastore.Ext{Field: "name", Rule: "nope"}, metastore.Ext{Field: "name", Rule: metastore.Within, Value: "a"},
	} {
		_, err := find(t.Context(), s, "a", metastore.Query{Filter: f, Partition: metastore.In("p")})
		wantErr(t, "Find "+f.String(), err, metastore.ErrInvalid)
	}
}

func testIndexTypes(t *testing.T, s metastore.Store) {
	types := []struct {
		t      metastore.IndexType
		sorted []string // JSON
		at     any      // the value of sorted[1] in a filter
	}{
		{metastore.String, []string{`""`, `"\u0000"`, `"\u0000\u0000"`, `"\u0000a"`, `"\u0001"`, `"A"`, `"a"`, `"a\u0000"`, `"a\u0000b"`, `"aa"`, `"é"`, `"日"`}, "\x00"},
		{metastore.Number, []string{`-1e300`, `-2.5`, `-2`, `-1e-300`, `0`, `1e-300`, `1`, `1.5`, `2`, `10`, `9007199254740991`, `1e300`}, -2.5},
		{metastore.Boolean, []string{`false`, `true`}, true},
		{metastore.Date, []string{`"1901-01-01T00:00:00Z"`, `"1969-12-31T23:59:59.999999999Z"`, `"1970-01-01T00:00:00Z"`, `"2020-02-29T12:00:00+02:00"`, `"2020-02-29T10:00:00.001Z"`, `"2020-02-29T10:00:01Z"`},
			time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC)},
		{metastore.UUID, []string{`"00000000-0000-0000-0000-000000000000"`, `"00000000-0000-0000-0000-00000000000a"`, `"ffffffff-0000-4000-8000-000000000000"`}, "00000000-0000-0000-0000-00000000000A"},
		{metastore.IP, []string{`"0.0.0.0"`, `"9.0.0.1"`, `"10.0.0.1"`, `"10.0.0.2"`, `"::"`, `"::1"`, `"fe80::1"`}, "9.0.0.1"},
		{metastore.Subnet, []string{`"10.0.0.0/8"`, `"10.0.0.0/16"`, `"10.0.1.0/24"`, `"fd00::/8"`}, "10.0.0.0/16"},
		{metastore.MAC, []string{`"00:00:00:00:00:00"`, `"00:00:00:00:00:01"`, `"90:b8:d0:00:00:00"`}, "00:00:00:00:00:01"},
	}
	for _, c := range types {
		bucket := "t_" + string(c.t)
		define(t, s, metastore.Bucket{Name: bucket, Indexes: []metastore.Index{{Field: "v", Type: c.t}, {Field: "l", Type: c.t, PerPartition: true}, {Field: "a", Type: c.t, Array: true}}})
		var names []string
		for i := len(c.sorted) - 1; i >= 0; i-- {
			put(t, s, bucket, k(fmt.Sprintf("%02d", i)), fmt.Sprintf(`{"v":%[1]s,"l":%[1]s,"a":[%[1]s,null,%[1]s]}`, c.sorted[i]))
		}
		for i := range c.sorted {
			names = append(names, fmt.Sprintf("%02d", i))
		}
		back := slices.Clone(names)
		slices.Reverse(back)
		in := metastore.In("p")
		wantFind(t, s, bucket, metastore.Query{OrderBy: "v"}, names...)
		wantFind(t, s, bucket, metastore.Query{OrderBy: "v", Descending: true}, back...)
		wantFind(t, s, bucket, metastore.Query{Partition: in, OrderBy: "l"}, names...)
		wantFind(t, s, bucket, metastore.Query{Partition: in, OrderBy: "v", Descending: true}, back...)
		for _, field := range []string{"v", "a"} {
			wantFind(t, s, bucket, metastore.Query{Filter: metastore.Eq{Field: field, Value: c.at}}, names[1])
			wantFind(t, s, bucket, metastore.Query{Filter: metastore.Ge{Field: field, Value: c.at}}, names[1:]...)
			wantFind(t, s, bucket, metastore.Query{Filter: metastore.Le{Field: field, Value: c.at}}, names[:2]...)
			f, err := metastore.ParseFilter(metastore.Eq{Field: field, Value: c.at}.String())
			if err != nil {
				t.Error(err)
			}
			wantFind(t, s, bucket, metastore.Query{Filter: f}, names[1])
		}
		wantFind(t, s, bucket, metastore.Query{OrderBy: "v", From: c.at}, names[1:]...)
		wantFind(t, s, bucket, metastore.Query{OrderBy: "v", From: c.at, Descending: true}, names[1], names[0])
		wantFind(t, s, bucket, metastore.Query{Partition: in, OrderBy: "l", From: c.at, Limit: 1}, names[1])
	}
	for _, bad := range []string{`"x"`, `""`, `{}`, `[]`, `"1.2.3"`, `"10.0.0.1/8"`, `"fe80::1%eth0"`, `"2020-01-01"`, `"00-00-00-00-00-00"`, `"0000000000000000000000000000000000000"`} {
		for _, c := range types {
			if c.t == metastore.String && bad[0] == '"' {
				continue
			}
			_, err := s.Commit(t.Context(), metastore.Batch{metastore.Put{Bucket: "t_" + string(c.t), Key: k("bad"), Value: []byte(`{"v":` + bad + `}`)}})
			wantErr(t, fmt.Sprintf("Put of %s as %s", bad, c.t), err, metastore.ErrInvalid)
		}
	}
	wantFind(t, s, "t_subnet", metastore.Query{Partition: metastore.In("p"), Filter: metastore.Ext{Field: "v", Rule: metastore.Contains, Value: "10.0.1.7"}}, "00", "01", "02")
	wantFind(t, s, "t_subnet", metastore.Query{Partition: metastore.In("p"), Filter: metastore.Ext{Field: "v", Rule: metastore.Overlaps, Value: "10.0.0.0/15"}}, "00", "01", "02")
	wantFind(t, s, "t_ip", metastore.Query{Partition: metastore.In("p"), Filter: metastore.Ext{Field: "v", Rule: metastore.Within, Value: "10.0.0.0/8"}}, "02", "03")
}

func testOrders(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "n", Type: metastore.Number}, {Field: "m", Type: metastore.Number, PerPartition: true}, {Field: "tag", Type: metastore.String, Array: true}}})
	for i := range 40 {
		p := []string{"p", "q"}[i%2]
		put(t, s, "a", metastore.Key{Partition: p, Name: fmt.Sprintf("%02d", i)}, fmt.Sprintf(`{"n":%d,"m":%d}`, i/4, 50-i))
	}
	put(t, s, "a", k("none"), `{"x":1}`)
	wantFind(t, s, "a", metastore.Query{OrderBy: "n", Limit: 6}, "00", "02", "q/01", "q/03", "04", "06")
	wantFind(t, s, "a", metastore.Query{OrderBy: "n", Descending: true, Limit: 6}, "q/39", "q/37", "38", "36", "q/35", "q/33")
	wantFind(t, s, "a", metastore.Query{OrderBy: "n", Partition: metastore.In("p"), Limit: 3, From: 5}, "20", "22", "24")
	wantFind(t, s, "a", metastore.Query{OrderBy: "m", Partition: metastore.In("p"), Limit: 3}, "38", "36", "34")
	wantFind(t, s, "a", metastore.Query{OrderBy: "m", Partition: metastore.In("q"), Limit: 3, Descending: true, Filter: metastore.Ge{Field: "n", Value: 1}}, "q/05", "q/07", "q/09")
	wantFind(t, s, "a", metastore.Query{OrderBy: "n", Filter: metastore.And{metastore.Ge{Field: "n", Value: 3}, metastore.Le{Field: "n", Value: 3}}}, "12", "14", "q/13", "q/15")
	_, err := find(t.Context(), s, "a", metastore.Query{OrderBy: "tag"})
	wantErr(t, "order by an array", err, metastore.ErrInvalid)
	for _, q := range []metastore.Query{
		{OrderBy: "n", From: "x"}, {OrderBy: "n", From: []int{1}}, {From: "x", Scan: true}, {From: 1, Partition: metastore.In("p")},
		{OrderBy: "n", After: &metastore.Record{Key: k("none"), Value: []byte(`{"x":1}`)}}, {Partition: metastore.In("p"), Limit: -1}, {Partition: metastore.In("\x00")},
	} {
		_, err := find(t.Context(), s, "a", q)
		wantErr(t, "Find("+describe(q)+")", err, metastore.ErrInvalid)
	}
}

func testPages(t *testing.T, s metastore.Store) {
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "n", Type: metastore.Number}, {Field: "even", Type: metastore.Boolean}}})
	const records = 3000
	var batch metastore.Batch
	for i := range records {
		batch = append(batch, metastore.Put{Bucket: "a", Key: k(fmt.Sprintf("%04d", i)), Value: fmt.Appendf(nil, `{"n":%d,"even":%v}`, i%7, i%2 == 0)})
	}
	commit(t, s, batch...)
	in := metastore.In("p")
	for _, q := range []metastore.Query{
		{Partition: in}, {OrderBy: "n"}, {Partition: in, Descending: true}, {OrderBy: "n", Descending: true},
		{Filter: metastore.Eq{Field: "even", Value: true}}, {Filter: metastore.Ge{Field: "n", Value: 3}}, {Filter: metastore.Ge{Field: "n", Value: 3}, Descending: true},
		{Filter: metastore.Or{metastore.Eq{Field: "n", Value: 1}, metastore.Eq{Field: "even", Value: true}}},
		{OrderBy: "n", Filter: metastore.Eq{Field: "even", Value: true}}, {OrderBy: "even", Descending: true, Filter: metastore.Eq{Field: "n", Value: 2}},
	} {
		whole, err := find(t.Context(), s, "a", q)
		if err != nil {
			t.Fatal(err)
		}
		sorted := slices.Clone(whole)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != len(whole) {
			t.Errorf("%s yields a record twice", describe(q))
		}
		// The same in pages, with the record between two pages gone, and one put in before it.
		var got []string
		page := q
		page.Limit = 700
		for {
			n := 0
			for r, err := range s.Find(t.Context(), "a", page) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, r.Key.Name)
				page.After = &r
				n++
			}
			if n < page.Limit {
				break
			}
			commit(t, s, metastore.Delete{Bucket: "a", Key: page.After.Key})
		}
		if !slices.Equal(whole, got) {
			t.Errorf("%s: %d records at once, %d in pages, not the same", describe(q), len(whole), len(got))
		}
		// An early end is no trouble.
		for range s.Find(t.Context(), "a", q) {
			break
		}
	}
}

func testNotIndexed(t *testing.T, s metastore.Store) {
	ctx := t.Context()
	define(t, s, metastore.Bucket{Name: "a", Indexes: []metastore.Index{{Field: "g", Type: metastore.String}, {Field: "l", Type: metastore.String, PerPartition: true}, {Field: "arr", Type: metastore.String, Array: true}}})
	put(t, s, "a", k("1"), `{"g":"x","l":"x","o":"x"}`)
	x := func(field string) metastore.Filter { return metastore.Eq{Field: field, Value: "x"} }
	for _, c := range []struct {
		q  metastore.Query
		ok bool
	}{
		{metastore.Query{}, false},
		{metastore.Query{Filter: x("o")}, false},
		{metastore.Query{Filter: x("l")}, false},
		{metastore.Query{Filter: x("g")}, true},
		{metastore.Query{Filter: metastore.Not{Filter: x("g")}}, false},
		{metastore.Query{Filter: metastore.Not{Filter: metastore.Eq{Field: "g", Value: "y"}}, Scan: true}, true},
		{metastore.Query{Filter: metastore.And{x("o"), x("g")}}, true},
		{metastore.Query{Filter: metastore.Or{x("o"), x("g")}}, false},
		{metastore.Query{Filter: metastore.Or{x("g"), metastore.And{x("g"), x("l")}}}, true},
		{metastore.Query{Filter: metastore.And{x("o"), metastore.Or{x("g"), metastore.Has{Field: "g"}}}}, true},
		{metastore.Query{Filter: metastore.Substr{Field: "g", Initial: "x"}}, true},
		{metastore.Query{Filter: metastore.Has{Field: "g"}}, true},
		{metastore.Query{Filter: metastore.Has{Field: "arr"}}, false},
		{metastore.Query{Filter: metastore.And{}}, false},
		{metastore.Query{OrderBy: "g"}, true},
		{metastore.Query{OrderBy: "l"}, false},
		{metastore.Query{OrderBy: "l", Partition: metastore.In("p")}, true},
		{metastore.Query{OrderBy: "g", Partition: metastore.In("p")}, true},
		{metastore.Query{OrderBy: "o", Partition: metastore.In("p")}, false},
		{metastore.Query{Filter: x("o"), Partition: metastore.In("p")}, true},
		{metastore.Query{Filter: x("o"), Scan: true}, true},
	} {
		got, err := find(ctx, s, "a", c.q)
		if !c.ok {
			wantErr(t, "Find("+describe(c.q)+")", err, metastore.ErrNotIndexed)
		} else if err != nil || !slices.Equal(got, []string{"1"}) {
			t.Errorf("Find(%s) = %v, %v", describe(c.q), got, err)
		}
	}
	_, err := find(ctx, s, "nope", metastore.Query{Scan: true})
	wantErr(t, "Find in no bucket", err, metastore.ErrNoBucket)
}
