package door_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/mobulacloud/mobula/manta/jobs/agent/door"
)

func Example() {
	// Stands for the store; an agent is given the front door's address.
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Printf("store: %s %s %q with %s\n", r.Method, r.URL.Path, b, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer store.Close()

	d, err := door.New(door.Config{Front: http.DefaultTransport, FrontURL: store.URL, Login: "alice", Token: "of-the-job"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0") // an agent listens inside the zone's network, on port 80
	if err != nil {
		fmt.Println(err)
		return
	}
	go d.Serve(l)

	d.Begin(door.Task{ID: "4711", Emit: func(e door.Emitted) { fmt.Println("output:", e.Path) }})
	// What a program of the task does, as by: echo hello | mpipe /alice/stor/greeting
	req, _ := http.NewRequest("PUT", "http://"+l.Addr().String()+"/alice/stor/greeting", strings.NewReader("hello"))
	req.Header.Set("x-manta-stream", "stdout")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	fmt.Println("its own stdout is an output:", !d.End().ExplicitStdout)

	// Output:
	// store: PUT /alice/stor/greeting "hello" with Token of-the-job
	// output: /alice/stor/greeting
	// 204 No Content
	// its own stdout is an output: false
}
