package webapi_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// A whole store in memory: records, two storage nodes, an account, and the front door.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	records := metastoretest.NewMemory() // storage/metastore/pebble keeps them
	tree, err := namespace.New(namespace.Config{Store: records})
	check(err)
	check(tree.Define(ctx))

	nodes, err := durable.OpenStatic(ctx, picker.Config{}, map[storage.Shark]storage.Node{
		{Datacenter: "dc1", Node: "1.stor"}: storagetest.NewMemNode(storagetest.MemConfig{}), // storage/objfile keeps bytes
		{Datacenter: "dc1", Node: "2.stor"}: storagetest.NewMemNode(storagetest.MemConfig{}),
	})
	check(err)
	bytes, err := durable.New(durable.Config{Nodes: nodes})
	check(err)

	accounts, err := ufds.New(ufds.Config{Store: records})
	check(err)
	check(accounts.Setup(ctx))
	_, err = accounts.CreateAccount(ctx, sdc.Account{Login: "alice", Email: "alice@example.com", ApprovedForProvisioning: true})
	check(err)
	identity, err := authcache.New(authcache.Config{Store: records})
	check(err)
	go identity.Run(ctx)
	check(identity.WaitReady(ctx))

	door, err := webapi.New(webapi.Config{Namespace: tree, Storage: bytes, Identity: identity})
	check(err)
	server := httptest.NewServer(door) // door.HTTPServer has the time limits of a real one
	defer server.Close()

	for _, path := range []string{"/ping", "/alice/public", "/alice/stor"} {
		resp, err := http.Get(server.URL + path)
		check(err)
		body, err := io.ReadAll(resp.Body)
		check(err)
		resp.Body.Close()
		fmt.Printf("%s %d %q\n", path, resp.StatusCode, body)
	}
	// Output:
	// /ping 200 ""
	// /alice/public 200 ""
	// /alice/stor 403 "{\"code\":\"AuthorizationFailed\",\"message\":\"anonymous is not allowed to access /alice/stor\"}"
}
