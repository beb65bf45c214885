package namespace_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

func TestList(t *testing.T) {
	ctx := t.Context()
	now := time.UnixMilli(1_700_000_000_000)
	ns := newNamespace(t, metastoretest.NewMemory(), namespace.Config{Now: func() time.Time { now = now.Add(time.Second); return now }})
	dir := stor.Join("d")
	if _, _, err := ns.PutDirectory(ctx, dir, manta.Entry{Headers: map[string]string{"m-a": "b"}}, namespace.Options{}); err != nil {
		t.Fatal(err)
	}
	start := now
	for _, name := range []string{"c", "a", "É", "b"} { // one second apart
		if _, _, err := ns.Put(ctx, dir.Join(name), object(1), namespace.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"z", "B"} {
		if _, _, err := ns.PutDirectory(ctx, dir.Join(name), manta.Entry{}, namespace.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	for _, test := range []struct {
		o    namespace.ListOptions
		want []string
	}{
		{namespace.ListOptions{}, []string{"B", "a", "b", "c", "z", "É"}},
		{namespace.ListOptions{Limit: 2}, []string{"B", "a"}},
		{namespace.ListOptions{Marker: "b"}, []string{"b", "c", "z", "É"}},
		{namespace.ListOptions{Marker: "bb", Limit: 1}, []string{"c"}},
		{namespace.ListOptions{Reverse: true}, []string{"É", "z", "c", "b", "a", "B"}},
		{namespace.ListOptions{Reverse: true, Limit: 6}, []string{"É", "z", "c", "b", "a", "B"}},
		{namespace.ListOptions{Reverse: true, Marker: "b"}, []string{"b", "a", "B"}},
		{namespace.ListOptions{Only: manta.TypeDirectory}, []string{"B", "z"}},
		{namespace.ListOptions{Only: manta.TypeDirectory, Marker: "a"}, []string{"z"}},
		{namespace.ListOptions{Only: manta.TypeDirectory, Limit: 1, Reverse: true}, []string{"z"}},
		{namespace.ListOptions{Only: manta.TypeObject, Limit: 3}, []string{"a", "b", "c"}},
		{namespace.ListOptions{ByMtime: true}, []string{"B", "z", "b", "É", "a", "c"}},
		{namespace.ListOptions{ByMtime: true, Reverse: true, Limit: 3}, []string{"c", "a", "É"}},
		{namespace.ListOptions{ByMtime: true, MarkerTime: at(3)}, []string{"É", "a", "c"}},
		{namespace.ListOptions{ByMtime: true, Reverse: true, MarkerTime: at(3)}, []string{"É", "b", "z", "B"}},
		{namespace.ListOptions{ByMtime: true, Only: manta.TypeObject, Limit: 1}, []string{"b"}},
	} {
		if got := list(t, ns, dir, test.o); !slices.Equal(got, test.want) {
			t.Errorf("List(%+v) = %q, want %q", test.o, got, test.want)
		}
	}
	var line string
	for e, err := range ns.List(ctx, dir, namespace.ListOptions{Marker: "c", Limit: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		line = string(e.AppendLine(nil))
	}
	st, err := ns.Look(ctx, dir.Join("c"), false)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"name":"c","etag":%q,"size":1,"type":"object","contentType":"text/plain","contentMD5":"CY9rzUYh03PK3k6DJie09g==","mtime":"2023-11-14T22:13:22.000Z","durability":2}`+"\n",
		st.Entry.ObjectID)
	if line != want {
		t.Errorf("line = %s, want %s", line, want)
	}
}

func TestLink(t *testing.T) {
	ctx := t.Context()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			ns := newNamespace(t, open(t), namespace.Config{})
			src, dst := stor.Join("src"), stor.Join("d").Join("dst")
			if _, err := ns.Link(ctx, stor.Join("x"), src, nil, namespace.Options{}); !errors.Is(err, namespace.ErrNotFound) {
				t.Errorf("link to nothing: %v", err)
			}
			if _, _, err := ns.PutDirectory(ctx, stor.Join("d"), manta.Entry{}, namespace.Options{}); err != nil {
				t.Fatal(err)
			}
			if _, err := ns.Link(ctx, stor.Join("x"), stor.Join("d"), nil, namespace.Options{}); !errors.Is(err, namespace.ErrNotObject) {
				t.Errorf("link to a directory: %v", err)
			}
			e, _, err := ns.Put(ctx, src, object(7), namespace.Options{})
			if err != nil {
				t.Fatal(err)
			}
			l, err := ns.Link(ctx, dst, src, []string{"role"}, namespace.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if l.ObjectID != e.ObjectID || l.Size != 7 || l.CreatedFrom != string(src) || l.Roles[0] != "role" || l.BytesOwner() != owner {
				t.Errorf("link is %+v", l)
			}
			if _, err := ns.Link(ctx, src, src, nil, namespace.Options{}); err != nil {
				t.Errorf("link to itself: %v", err)
			}
			// Linking the same again leaves nothing to delete.
			if _, err := ns.Link(ctx, dst, src, nil, namespace.Options{}); err != nil {
				t.Error(err)
			}
			if d := deletions(t, ns); len(d) != 0 {
				t.Errorf("delete log: %+v", d)
			}
			// Metadata of a linked object keeps what ties it to the other.
			if _, err := ns.SetMetadata(ctx, src, namespace.Metadata{}, namespace.Options{}); err != nil {
				t.Error(err)
			}
			for i, key := range []manta.Key{src, dst} {
				if _, err := ns.Delete(ctx, key, namespace.Options{}); err != nil {
					t.Fatal(err)
				}
				d := deletions(t, ns)
				if len(d) != 1 {
					t.Fatalf("delete log: %+v", d)
				}
				referenced, err := ns.Referenced(ctx, d[0])
				if err != nil || referenced != (i == 0) {
					t.Errorf("after %d deletions: referenced %v, %v", i+1, referenced, err)
				}
				if err := ns.Forget(ctx, d[0]); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func deletions(t *testing.T, ns *namespace.Namespace) (all []*namespace.Deleted) {
	t.Helper()
	for d, err := range ns.Deletions(t.Context(), time.Now().Add(time.Hour)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func BenchmarkList1000(b *testing.B) {
	for name, open := range map[string]func(testing.TB) metastore.Store{"memory": stores["one shard"], "pebble": openPebble} {
		b.Run(name, func(b *testing.B) { benchmarkList(b, newNamespace(b, open(b), namespace.Config{})) })
	}
}

func benchmarkList(b *testing.B, ns *namespace.Namespace) {
	for i := range 1000 {
		if _, _, err := ns.Put(b.Context(), stor.Join(fmt.Sprintf("object-%06d", i)), object(1024), namespace.Options{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	var line []byte
	for b.Loop() {
		line = line[:0]
		for e, err := range ns.List(b.Context(), stor, namespace.ListOptions{Limit: 1000}) {
			if err != nil {
				b.Fatal(err)
			}
			line = e.AppendLine(line)
		}
	}
}
