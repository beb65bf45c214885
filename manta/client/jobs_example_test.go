package client_test

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/mobulacloud/mobula/manta/client"
)

// Counts lines with ERROR in all logs, on the servers that have them.
func ExampleClient_Job() {
	ctx := context.Background()
	c, err := client.FromEnv(os.Getenv)
	if err != nil {
		fmt.Println(err)
		return
	}
	job, err := c.Job().Map("grep -c ERROR; true").Reduce("awk '{n += $1} END {print n}'").
		Run(ctx, slices.Values([]string{"~~/stor/logs/monday", "~~/stor/logs/tuesday"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	for path, err := range job.FollowOutputs(ctx, client.WaitOptions{}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(path)
	}
	for e, err := range job.Errors(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(e)
	}
}
