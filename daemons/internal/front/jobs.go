package front

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/daemons/internal/statedir"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/jobapi"
	"github.com/mobulacloud/mobula/manta/jobs/supervisor"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// Jobs is the JSON section "jobs" of the section "store". The zero value of each field means its documented default.
type Jobs struct {
	// MaxRunning is how many jobs this head node moves along at a time; 2,000.
	MaxRunning int `json:"max_running,omitempty"`

	// LingerMinutes is how long what a job did can be asked for after it was archived; 60.
	LingerMinutes int `json:"linger_minutes,omitempty"`

	// IdleMinutes is how long a job may stand open without new input; 60.
	IdleMinutes int `json:"idle_minutes,omitempty"`

	// AgentSeconds is how long a task waits for a server that could run it; 60.
	AgentSeconds int `json:"agent_seconds,omitempty"`
}

// openJobs opens the records of jobs and of sessions in them, and returns their routes.
func (f *Front) openJobs(ctx context.Context, cfg Config) ([]webapi.Route, error) {
	var err error
	if f.Jobs, err = jobs.NewRecords(f.Records); err != nil {
		return nil, err
	}
	if err := f.Jobs.Define(ctx); err != nil {
		return nil, err
	}
	api, err := jobapi.New(jobapi.Config{Records: f.Jobs, Namespace: f.Namespace, Identity: f.Identity})
	if err != nil {
		return nil, err
	}
	routes, err := f.openSessions(ctx, cfg, api)
	return append(api.Routes(), routes...), err
}

// openSupervisor opens what moves jobs along. The door must be open.
func (f *Front) openSupervisor(cfg Config) error {
	instance, err := keptInstance(cfg.Dir)
	if err != nil {
		return err
	}
	f.inside = newInside()
	f.Inside = f.inside.transport()
	f.Supervisor, err = supervisor.New(supervisor.Config{
		Records: f.Jobs, Identity: f.Identity, Namespace: f.Namespace, Agents: &f.Agents, Front: f.Inside, FrontURL: InsideURL, Instance: instance,
		MaxJobs: cfg.Jobs.MaxRunning, Linger: time.Duration(cfg.Jobs.LingerMinutes) * time.Minute, IdleClose: time.Duration(cfg.Jobs.IdleMinutes) * time.Minute,
		AgentTimeout: time.Duration(cfg.Jobs.AgentSeconds) * time.Second, Logger: cfg.Log,
	})
	return err
}

// runJobs moves jobs along and carries sessions until ctx ends, or one of these parts does.
func (f *Front) runJobs(ctx context.Context) error {
	door := f.Door.HTTPServer(f.Door)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := door.Serve(f.inside); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error { return f.Sessions.Run(ctx) })
	g.Go(func() error { return f.publish(ctx) })
	g.Go(func() error {
		err := f.Supervisor.Run(ctx)
		f.Inside.CloseIdleConnections()
		return errors.Join(err, door.Close()) // which the supervisor needs to the last
	})
	return g.Wait()
}

// keptInstance reads by what name this head node's supervisor is known, or makes one at the first start. A head node that comes back takes its own jobs up at once.
func keptInstance(dir string) (string, error) {
	file := filepath.Join(dir, "supervisor")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		name := uuid.NewString()
		return name, statedir.WriteFile(file, []byte(name+"\n"), 0o600)
	}
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(b))
	if _, err := uuid.Parse(name); err != nil {
		return "", fmt.Errorf("read the supervisor's name in %s: %w", file, err)
	}
	return name, nil
}
