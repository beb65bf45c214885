package jobstest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/internal/storetest"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/jobapi"
	"github.com/mobulacloud/mobula/manta/jobs/supervisor"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
	"github.com/mobulacloud/mobula/manta/jobs/tools"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// Main is the body of TestMain: it runs the tests, or one of the tools when the process was started as such.
func Main(m *testing.M) int {
	if tools.Is(os.Args[0]) {
		return tools.Main(os.Args)
	}
	return m.Run()
}

// A Cloud is a store with compute jobs. It ends with its test.
type Cloud struct {
	// URL of the store's front door.
	URL string

	t     testing.TB
	store *storetest.Store
	bin   string // directory of the tools
}

// New starts a Cloud with two agents that run four tasks each at a time.
func New(t testing.TB) *Cloud {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := &Cloud{t: t, bin: t.TempDir()}
	self, err := os.Executable()
	must(err)
	for _, name := range tools.Names() {
		must(os.Symlink(self, filepath.Join(c.bin, name)))
	}
	var records *jobs.Records
	c.store = storetest.New(t, func(s *storetest.Store, cfg *webapi.Config) {
		records, err = jobs.NewRecords(s.Records)
		must(err)
		must(records.Define(context.Background()))
		api, err := jobapi.New(jobapi.Config{Records: records, Namespace: s.Namespace, Identity: s.Identity})
		must(err)
		cfg.Routes = api.Routes()
	})
	c.URL = c.store.URL
	agents := supervisor.StaticAgents{}
	for _, name := range []string{"1.stor", "2.stor"} {
		a := tasktest.New(tasktest.Config{Name: name, Storage: []string{name}, Zones: 4, Run: c.run})
		t.Cleanup(a.Close)
		agents[name] = a
	}
	sup, err := supervisor.New(supervisor.Config{
		Records: records, Identity: c.store.Identity, Namespace: c.store.Namespace, Agents: agents, Front: c.store.Transport(), FrontURL: c.URL, Instance: "jobstest",
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sup.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Errorf("supervisor: %v", err)
		}
	})
	return c
}

// Account makes an account and returns a client of its. The functions may change the client's options.
func (c *Cloud) Account(login string, fns ...func(*client.Options)) *client.Client {
	c.t.Helper()
	return c.store.Account(login, fns...)
}

// Client returns a client for the test of a program that makes jobs: of an account in a cloud of the test's own, or with MOBULA_EXAMPLES=1 in the environment
// the one that MANTA_URL and its like name, so that the same test runs on real servers.
func Client(t testing.TB) *client.Client {
	t.Helper()
	if os.Getenv("MOBULA_EXAMPLES") == "" {
		return New(t).Account("alice")
	}
	c, err := client.FromEnv(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Environ returns the variables by which command-line clients work as an account that has been made: MANTA_URL, MANTA_USER, MANTA_KEY_ID, HOME.
func (c *Cloud) Environ(login string) map[string]string {
	c.t.Helper()
	home := c.t.TempDir()
	return map[string]string{"MANTA_URL": c.URL, "MANTA_USER": login, "MANTA_KEY_ID": c.store.Key(login, home), "HOME": home}
}
