package pebble

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/internal/engine"
)

// FuzzKeys holds that keys come back from the disk as they were, and order there as they should.
func FuzzKeys(f *testing.F) {
	long := strings.Repeat("x", metastore.OrderedPrefix)
	f.Add("p", "a", "p", "b", []byte("v"), []byte("v\x00"))
	f.Add(long, long+"1", long, long+"2", []byte{0}, []byte{0, 0})
	f.Add("", "", "\x01", "", []byte{}, []byte{0xFF, 0, 1})
	f.Fuzz(func(t *testing.T, p1, n1, p2, n2 string, v1, v2 []byte) {
		a, b := metastore.Key{Partition: p1, Name: n1}, metastore.Key{Partition: p2, Name: n2}
		if engine.CheckKey(a) != nil || engine.CheckKey(b) != nil {
			return
		}
		back, err := takeKey(appendKey(nil, a))
		if back != a || err != nil {
			t.Fatalf("%q came back as %q, %v", a, back, err)
		}
		if got, want := bytes.Compare(recordKey(1, a), recordKey(1, b)), a.Compare(b); got != want {
			t.Fatalf("%q and %q order %d on disk, want %d", a, b, got, want)
		}
		for _, perPartition := range []bool{false, true} {
			x, y := appendIndexKey(nil, 1, perPartition, v1, a), appendIndexKey(nil, 1, perPartition, v2, b)
			v, k, err := splitIndexKey(nil, 7, x[5:], perPartition)
			if !bytes.Equal(v, v1) || !bytes.Equal(k, recordKey(7, a)) || err != nil {
				t.Fatalf("%q of %q came back as %q of %q, %v", v1, a, v, k, err)
			}
			if !perPartition && !bytes.Equal(v1, v2) {
				if got, want := bytes.Compare(x, y), bytes.Compare(v1, v2); got != want {
					t.Fatalf("values %q and %q order %d on disk, want %d", v1, v2, got, want)
				}
				bound := appendBound(idKey(nil, kindIndex, 1), v2)
				if got, want := bytes.Compare(x, bound) < 0, bytes.Compare(v1, v2) < 0; got != want {
					t.Fatalf("value %q below the bound %q: %v, want %v", v1, v2, got, want)
				}
			}
		}
	})
}

// FuzzTake feeds what a damaged disk might hold: an error, never a panic.
func FuzzTake(f *testing.F) {
	f.Add(appendKey(nil, metastore.Key{Partition: strings.Repeat("x", 800), Name: "n"}))
	f.Add(appendValue(nil, []byte{0, 1, 0}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		takeKey(b)
		takeValue(b)
		splitIndexKey(nil, 1, b, true)
		splitIndexKey(nil, 1, b, false)
		splitRecord(b)
		counterValue(b)
	})
}
