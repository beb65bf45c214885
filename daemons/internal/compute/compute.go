// Package compute wires the part of a storage node that runs tasks of jobs. Storage nodes have one; so does coal, for all of its nodes.
//
// Stability: internal to the daemons.
package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/mobulacloud/mobula/daemons/internal/admin"
	"github.com/mobulacloud/mobula/manta/jobs/agent"
	"github.com/mobulacloud/mobula/manta/jobs/tools"
)

// Config is the JSON section "compute" of the daemons' files, and what the daemon adds. The zero value of each field means its documented default.
type Config struct {
	// Off leaves objects without compute.
	Off bool `json:"off,omitempty"`

	// Zones is how many tasks run at a time; four for each processor, at least 8.
	Zones int `json:"zones,omitempty"`

	// MemoryMB and DiskGB are the stocks for tasks that ask for more than 1,024 MiB and 8 GiB; a fifth of the server's memory, 15 % of its disk.
	MemoryMB int64 `json:"memory_mb,omitempty"`
	DiskGB   int64 `json:"disk_gb,omitempty"`

	// Processes is how many threads and processes a task may have; 1,000.
	Processes int64 `json:"processes,omitempty"`

	// FirstID is the first of the user ids of this host that zones have; 536,870,912.
	FirstID uint32 `json:"first_id,omitempty"`

	Name     string                 `json:"-"`
	Dir      string                 `json:"-"`
	Stores   map[string]agent.Store `json:"-"`
	Front    http.RoundTripper      `json:"-"`
	FrontURL string                 `json:"-"`
	Log      *slog.Logger           `json:"-"`
}

// FrontHost is the name under which storage nodes reach the store, at the head node's door for them.
const FrontHost = "store.inside"

// Run runs tasks until ctx ends. ready is told of the agent once it can take streams, and of nil when it does no more. A server that cannot run tasks is still
// a storage node, so that is said, as is what it lacks, and is no error.
func Run(ctx context.Context, cfg Config, ready func(*agent.Agent), say func(string)) error {
	a, err := open(ctx, cfg)
	if err != nil {
		if ctx.Err() == nil {
			say(fmt.Sprintf("jobs are off: %v", err))
		}
		return nil
	}
	for _, missing := range a.Missing() {
		say("jobs: " + missing)
	}
	ready(a)
	defer ready(nil)
	if err := a.Run(ctx); err != nil {
		return fmt.Errorf("tasks of jobs: %w", err)
	}
	return nil
}

// open clears away what an earlier process left and returns an agent, or why there can be none here.
func open(ctx context.Context, cfg Config) (*agent.Agent, error) {
	switch {
	case cfg.Off:
		return nil, errors.New("off by configuration")
	case os.Geteuid() != 0:
		return nil, errors.New("containers of tasks need root")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the tools of tasks: %w", err)
	}
	return agent.Open(ctx, agent.Config{
		Name: cfg.Name, Stores: cfg.Stores, Front: cfg.Front, FrontURL: cfg.FrontURL, Dir: cfg.Dir, Zones: cfg.Zones,
		MemoryStock: cfg.MemoryMB << 20, DiskStock: cfg.DiskGB << 30, Processes: cfg.Processes, FirstID: cfg.FirstID,
		Tools: self, ToolNames: tools.Names(), Logger: cfg.Log,
	})
}

// Describe adds the agent's numbers to an admin door. current returns nil while there is none.
func Describe(d *admin.Door, current func() *agent.Agent) {
	d.Collect(admin.Struct("mobula_tasks", nil, func() (m agent.Metrics) {
		if a := current(); a != nil {
			m = a.Metrics()
		}
		return m
	}))
}

// Remove ends and removes what the agent of a directory left behind when its process was killed. The directory itself stays.
func Remove(ctx context.Context, dir string, log *slog.Logger) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return agent.Remove(ctx, dir, log)
}

// Tool runs one of the programs that tasks find in their zones, if that is what this process was started as: its own binary is what zones have under
// those names. It does not return then.
func Tool() {
	if tools.Is(os.Args[0]) {
		os.Exit(tools.Main(os.Args))
	}
}
