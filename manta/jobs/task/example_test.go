package task_test

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
)

// A supervisor has an agent on another machine run a task. Here the agent is one for tests, and the machine this one.
func Example() {
	ctx := context.Background()
	var objects tasktest.Objects
	agent := tasktest.New(tasktest.Config{Storage: []string{"1.stor"}, Run: tasktest.Shell(&objects)})
	defer agent.Close()

	handler, err := task.NewHandler(task.HandlerConfig{Agent: agent})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer handler.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{Handler: handler}
	defer server.Close()
	go server.Serve(l)

	client, err := task.NewClient(task.ClientConfig{URL: "http://" + l.Addr().String()})
	if err != nil {
		fmt.Println(err)
		return
	}
	stream, err := client.Connect(ctx, "supervisor-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close()

	input := objects.Put("/demo/stor/greeting", "hello\n", "1.stor")
	err = stream.Send(ctx,
		task.Order{Open: &task.Open{Job: "j1", Assigned: 1, Login: "demo", Phases: []jobs.Phase{{Type: jobs.Map, Exec: "cat"}}}},
		task.Order{Start: &task.Start{Job: "j1", Task: "t1", Input: &input}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for done := false; !done; {
		reports, err := stream.Receive(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, r := range reports {
			switch {
			case r.Emit != nil:
				content, _ := objects.Get(r.Emit.Path)
				fmt.Printf("%s: %s", r.Emit.Path, content)
			case r.Done != nil:
				fmt.Println("failure:", r.Done.Failure)
				done = true
			}
		}
	}
	// Output:
	// /demo/jobs/j1/stor/demo/stor/greeting.0.t1: hello
	// failure: <nil>
}
