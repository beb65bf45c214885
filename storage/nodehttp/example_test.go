package nodehttp_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/nodehttp"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// A node is served on a port, and used from the other side as if it were here.
func Example() {
	var node storage.Node = storagetest.NewMemNode(storagetest.MemConfig{}) // or an objfile.Store
	handler, err := nodehttp.NewHandler(nodehttp.HandlerConfig{Node: node})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &nodehttp.Server{Handler: handler}
	go server.Serve(listener)
	defer server.Close()

	client, err := nodehttp.NewClient(nodehttp.ClientConfig{URL: "http://" + listener.Addr().String()})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx := context.Background()
	if _, err := storagetest.Put(ctx, client, storagetest.NewID(), []byte("hello")); err != nil {
		log.Fatal(err)
	}
	usage, err := client.Usage(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(usage.Objects, "object of", usage.Bytes, "bytes")
	// Output: 1 object of 5 bytes
}
