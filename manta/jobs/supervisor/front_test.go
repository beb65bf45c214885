package supervisor

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/internal/storetest"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
	"github.com/mobulacloud/mobula/manta/namespace"
)

// TestRealDoors has a job archived through the store's own front door, and its task run by an agent behind a connection.
func TestRealDoors(t *testing.T) {
	s := storetest.New(t)
	alice := s.Account("alice")
	s.Put(alice, "/alice/stor/dir/a", "hello\n")
	account, err := s.Identity.AccountByLogin("alice")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	agent := tasktest.New(tasktest.Config{Storage: []string{"1.stor", "2.stor"}, Run: func(_ context.Context, task *tasktest.Task) error {
		path := task.OutputBase() + task.Start.Task
		s.Put(alice, path, "size "+strings.Repeat("x", int(task.Start.Input.Size)))
		task.Emit(path, -1)
		return nil
	}})
	t.Cleanup(agent.Close)
	handler, err := task.NewHandler(task.HandlerConfig{Agent: agent})
	must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	server := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(l) }()
	t.Cleanup(func() { handler.Close(); server.Close(); <-served })
	client, err := task.NewClient(task.ClientConfig{URL: "http://" + l.Addr().String()})
	must(err)

	records, err := jobs.NewRecords(s.Records)
	must(err)
	must(records.Define(t.Context()))
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	supervisor, err := New(Config{
		Records: records, Identity: s.Identity, Namespace: s.Namespace, Agents: StaticAgents{"a": client}, Front: transport, FrontURL: s.URL, Instance: "one",
	})
	must(err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); supervisor.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })

	j := &jobs.Job{
		ID: uuid.NewString(), Owner: account.UUID, Login: "alice", Auth: jobs.Auth{Token: s.Token(alice), Login: "alice", UUID: account.UUID}, Phases: phases("cat"),
	}
	for _, dir := range []string{"", "/live", "/stor"} {
		key := manta.Key("/" + account.UUID + "/jobs/" + j.ID + dir)
		_, _, err := s.Namespace.PutDirectory(t.Context(), key, manta.Entry{}, namespace.Options{})
		must(err)
	}
	must(records.Create(t.Context(), j))
	inputs := []string{"/alice/stor/dir/a"}
	for range 20_000 { // so that an archived object is too large for one piece
		inputs = append(inputs, "/alice/stor/dir/missing")
	}
	must(records.AddInputs(t.Context(), j.ID, inputs))
	must(records.EndInput(t.Context(), j.ID))
	w := &world{t: t, records: records}
	w.await(j.ID, archived)
	dir := jobs.Dir("alice", j.ID)
	out := s.Get(alice, dir+"/out.txt")
	if got := s.Get(alice, strings.TrimSpace(out)); got != "size xxxxxx" {
		t.Errorf("output %s is %q", out, got)
	}
	if in := s.Get(alice, dir+"/in.txt"); in != strings.Join(inputs, "\n")+"\n" {
		t.Errorf("in.txt has %d bytes", len(in))
	}
	if e := s.Get(alice, dir+"/err.txt"); strings.Count(e, "\n") != 20_000 {
		t.Errorf("err.txt has %d lines", strings.Count(e, "\n"))
	}
	for _, name := range []string{"job.json", "fail.txt"} {
		if s.Get(alice, dir+"/"+name) == "" {
			t.Errorf("%s is empty", name)
		}
	}
}
