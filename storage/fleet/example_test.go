package fleet_test

import (
	"context"
	"fmt"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/fleet"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/picker"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	records := metastoretest.NewMemory()
	registry, err := fleet.NewRegistry(ctx, records)
	if err != nil {
		panic(err)
	}

	// A node in this process reports. Another machine's would through fleet.NewClient.
	node := storagetest.NewMemNode(storagetest.MemConfig{})
	reporter := &fleet.Reporter{Node: node, Registrar: registry, Identity: fleet.Report{Node: "1.stor", Datacenter: "home"}}
	if err := reporter.RunOnce(ctx); err != nil {
		panic(err)
	}

	// Whoever reads and writes objects follows.
	nodes, err := fleet.New(fleet.Config{Store: records, Dial: func(fleet.Report) (storage.Node, error) { return node, nil }})
	if err != nil {
		panic(err)
	}
	go nodes.Run(ctx)
	<-nodes.Ready()
	tuples, err := nodes.Choose(picker.Request{Size: 1 << 20, Copies: 1})
	fmt.Println(tuples, err)
	_, err = nodes.Choose(picker.Request{Size: 1 << 20, Copies: 2})
	fmt.Println(err)
	// Output:
	// [[{home 1.stor}]] <nil>
	// picker: not enough free space for 1 MB in 2 copies: 1 nodes in 1 datacentres are eligible, refused: none
}
