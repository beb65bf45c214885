package namespace_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
)

// BenchmarkListBig reads pages of 1,000 at random places of one directory on disk, which holds MOBULA_BENCH_ENTRIES entries (10,000 when unset). A page
// should cost the same whatever that number is.
func BenchmarkListBig(b *testing.B) {
	entries, err := strconv.Atoi(os.Getenv("MOBULA_BENCH_ENTRIES"))
	if err != nil {
		entries = 10_000
	}
	store, err := pebble.Open(b.TempDir(), pebble.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	ns := newNamespace(b, store, namespace.Config{})
	fill(b, ns, store, entries)
	b.ReportAllocs()
	var line []byte
	for b.Loop() {
		line = line[:0]
		marker := fmt.Sprintf("object-%09d", rand.IntN(max(entries-1000, 1)))
		n := 0
		for e, err := range ns.List(b.Context(), stor, namespace.ListOptions{Marker: marker, Limit: 1000}) {
			if err != nil {
				b.Fatal(err)
			}
			line = e.AppendLine(line)
			n++
		}
		if n != min(1000, entries) {
			b.Fatalf("a page of %d entries", n)
		}
	}
}

// fill puts entries into stor: one as every entry is put, the others as copies of its record, since 10 million puts would take an hour.
func fill(b *testing.B, ns *namespace.Namespace, store metastore.Store, entries int) {
	b.Helper()
	first := stor.Join(fmt.Sprintf("object-%09d", 0))
	if _, _, err := ns.Put(b.Context(), first, object(1024), namespace.Options{}); err != nil {
		b.Fatal(err)
	}
	rec, err := store.Get(b.Context(), namespace.Bucket, metastore.Key{Partition: string(stor), Name: first.Name()})
	if err != nil {
		b.Fatal(err)
	}
	for i := 1; i < entries; {
		var batch metastore.Batch
		for ; i < entries && len(batch) < 5000; i++ {
			batch = append(batch, metastore.Put{Bucket: namespace.Bucket, Key: metastore.Key{Partition: string(stor), Name: fmt.Sprintf("object-%09d", i)}, Value: rec.Value})
		}
		batch = append(batch, metastore.Add{Bucket: namespace.Bucket, Key: metastore.Key{Partition: string(stor)}, Delta: int64(len(batch))})
		if _, err := store.Commit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
}
