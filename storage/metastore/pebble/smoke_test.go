package pebble

import (
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := s.Define(ctx, metastore.Bucket{Name: "a", Watched: true, Indexes: []metastore.Index{{Field: "x", Type: metastore.Number}}}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		_, err := s.Commit(ctx, metastore.Batch{
			metastore.Put{Bucket: "a", Key: metastore.Key{Partition: "p", Name: string(rune('a'+i%26)) + string(rune('a'+i/26))}, Value: []byte(`{"x":` + string(rune('0'+i%10)) + `}`)},
			metastore.Add{Bucket: "a", Key: metastore.Key{Partition: "p"}, Delta: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir, Config{}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	for r, err := range s.Find(ctx, "a", metastore.Query{Filter: metastore.Ge{Field: "x", Value: 5}, OrderBy: "x", Descending: true}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		_ = r
	}
	if n != 50 {
		t.Fatal(n)
	}
	if c, err := s.Counter(ctx, "a", metastore.Key{Partition: "p"}); c != 100 || err != nil {
		t.Fatal(c, err)
	}
}
