package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs/agent"
)

// An agent beside the storage nodes of a server.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var stores map[string]agent.Store // *objfile.Store by storage id
	a, err := agent.Open(ctx, agent.Config{
		Name: "agent1", Stores: stores, Dir: "/var/lib/example/agent",
		Front: &http.Transport{ExpectContinueTimeout: time.Minute, MaxIdleConnsPerHost: 64}, FrontURL: "https://manta.example",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		stream, err := a.Connect(ctx, "supervisor1") // or task.Handler, for one that is elsewhere
		if err == nil {
			fmt.Println(stream.Hello().Zones)
		}
		stop()
	}()
	if err := a.Run(ctx); err != nil { // when it returns, nothing is left
		fmt.Println(err)
	}
}
