package namespace_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

func Example() {
	ctx := context.Background()
	ns, err := namespace.New(namespace.Config{Store: metastoretest.NewMemory()}) // storage/metastore/pebble keeps it
	if err != nil {
		panic(err)
	}
	if err := ns.Define(ctx); err != nil {
		panic(err)
	}
	photos := manta.Key("/930896af-bf8c-48d4-885c-6573a94b1853/stor/photos")
	if _, _, err := ns.PutDirectory(ctx, photos, manta.Entry{}, namespace.Options{}); err != nil {
		panic(err)
	}
	for _, name := range []string{"sea.jpg", "mountain.jpg"} {
		e := manta.Entry{ObjectID: "c63b9ab5-f3ad-4b5d-a0f6-3c1d1a1e0b6e", ContentType: "image/jpeg", Size: 5}
		if _, _, err := ns.Put(ctx, photos.Join(name), e, namespace.Options{}); err != nil {
			panic(err)
		}
	}
	for e, err := range ns.List(ctx, photos, namespace.ListOptions{}) {
		fmt.Println(e.Key.Name(), e.Size, err)
	}
	_, err = ns.Delete(ctx, photos, namespace.Options{})
	fmt.Println(errors.Is(err, namespace.ErrNotEmpty))
	// Output:
	// mountain.jpg 5 <nil>
	// sea.jpg 5 <nil>
	// true
}
