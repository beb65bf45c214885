package metadata_test

import (
	"context"
	"fmt"
	"net"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/metadata"
)

// fixed is a zone whose record does not change.
type fixed struct{ zone zones.Zone }

func (f fixed) Zone(context.Context) (*zones.Zone, error)     { return &f.zone, nil }
func (f fixed) Change(context.Context, metadata.Change) error { return zones.ErrNotSupported }

func Example() {
	zone := zones.Zone{Spec: zones.Spec{
		Alias: "web", CustomerMetadata: map[string]any{"user-script": "echo hello"},
	}}
	server, err := metadata.New(metadata.Config{Source: fixed{zone}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	host, guest := net.Pipe()
	go server.ServeConn(ctx, host)

	client, err := metadata.NewClient(ctx, guest)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	for _, key := range []string{"sdc:alias", "user-script"} {
		value, err := client.Get(ctx, key)
		fmt.Println(key, value, err)
	}
	// Output:
	// sdc:alias web <nil>
	// user-script echo hello <nil>
}
