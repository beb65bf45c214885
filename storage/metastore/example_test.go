package metastore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

type machine struct {
	Alias string `json:"alias"`
	State string `json:"state"`
	RAM   int    `json:"ram"`
}

func Example() {
	ctx := context.Background()
	store := metastoretest.NewMemory() // or pebble.Open, postgres.Open, shard.Open
	defer store.Close()

	err := store.Define(ctx, metastore.Bucket{Name: "machines", Version: 1, Indexes: []metastore.Index{
		{Field: "state", Type: metastore.String},
		{Field: "ram", Type: metastore.Number},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	machines := metastore.NewTable[machine](store, "machines")
	for _, m := range []machine{{"web0", "running", 1024}, {"web1", "stopped", 512}, {"db0", "running", 4096}} {
		if _, err := machines.Put(ctx, metastore.Key{Name: m.Alias}, m, metastore.Absent()); err != nil {
			fmt.Println(err)
			return
		}
	}

	// Change one without losing what somebody else changes at the same time.
	item, err := machines.Get(ctx, metastore.Key{Name: "web1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	item.Value.State = "running"
	etag, err := machines.Put(ctx, item.Key, item.Value, metastore.EtagIs(item.Etag))
	fmt.Println("changed:", err == nil && etag != item.Etag)
	_, err = machines.Put(ctx, item.Key, item.Value, metastore.EtagIs(item.Etag))
	fmt.Println("conflict:", errors.Is(err, metastore.ErrConflict))

	filter, err := metastore.ParseFilter("(&(state=running)(ram>=1000))")
	if err != nil {
		fmt.Println(err)
		return
	}
	for m, err := range machines.Find(ctx, metastore.Query{Filter: filter, OrderBy: "ram", Descending: true}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(m.Value.Alias, m.Value.RAM)
	}
	// Output:
	// changed: true
	// conflict: true
	// db0 4096
	// web0 1024
}

// A directory entry and the directory's count change together, or not at all.
func ExampleStore_Commit() {
	ctx := context.Background()
	store := metastoretest.NewMemory()
	defer store.Close()
	if err := store.Define(ctx, metastore.Bucket{Name: "entries"}); err != nil {
		fmt.Println(err)
		return
	}
	create := func(dir, name string) error {
		_, err := store.Commit(ctx, metastore.Batch{
			metastore.Put{Bucket: "entries", Key: metastore.Key{Partition: dir, Name: name}, Value: []byte(`{"type":"object"}`), If: metastore.Absent()},
			metastore.Add{Bucket: "entries", Key: metastore.Key{Partition: dir}, Delta: 1},
		})
		return err
	}
	fmt.Println(create("/stor", "a"), create("/stor", "b"), errors.Is(create("/stor", "a"), metastore.ErrConflict))
	n, err := store.Counter(ctx, "entries", metastore.Key{Partition: "/stor"})
	fmt.Println(n, err)
	// Output:
	// <nil> <nil> true
	// 2 <nil>
}
