package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// Identity says who a job's creator is and what the job may read. *[authcache.Cache] is one; its comments are the specification.
type Identity interface {
	Authenticate(ctx context.Context, view authcache.Request) (*authcache.Caller, error)
	Owner(caller *authcache.Caller, login, path string) (*sdc.Account, error)
	ActivateRoles(caller *authcache.Caller, owner *sdc.Account, header string) error
	Authorize(ctx context.Context, req authcache.AuthzRequest) error
}

// Namespace is the tree of objects. *[namespace.Namespace] is one.
type Namespace interface {
	Look(ctx context.Context, key manta.Key, parent bool) (*namespace.State, error)
	Delete(ctx context.Context, key manta.Key, o namespace.Options) (*manta.Entry, error)
	List(ctx context.Context, dir manta.Key, o namespace.ListOptions) iter.Seq2[*manta.Entry, error]
}

var (
	_ Identity  = (*authcache.Cache)(nil)
	_ Namespace = (*namespace.Namespace)(nil)
)

// Agents says which agents there are. Its methods do not block.
type Agents interface {
	// Agents returns them by name, and a channel that is closed once that is no longer so. Values are compared to find out what changed, so they are
	// pointers. The map is not changed by anybody.
	Agents() (map[string]task.Agent, <-chan struct{})
}

// StaticAgents are agents of which there are never others.
type StaticAgents map[string]task.Agent

// Agents implements [Agents].
func (a StaticAgents) Agents() (map[string]task.Agent, <-chan struct{}) { return a, nil }

// Config describes a [Supervisor].
type Config struct {
	Records   *jobs.Records // required
	Identity  Identity      // required
	Namespace Namespace     // required
	Agents    Agents        // required

	// Front carries requests to the store's front door, which is at FrontURL, to archive jobs as their creators. Both are required.
	Front    http.RoundTripper
	FrontURL string

	// Instance names this supervisor for good, among all of the same records. Required.
	Instance string

	// Window is how many tasks of one job may be with one agent; 0 means 64, or four times the agent's zones if that is more.
	Window int

	// Inputs is how many inputs of one phase of a job may be open at a time; 0 means 1,024.
	Inputs int

	// Retries is how often a task that the system failed is tried again; 0 means 2, negative never.
	Retries int

	// MaxJobs is how many jobs this supervisor has at a time; others wait, or go to other supervisors. 0 means 2,000.
	MaxJobs int

	// Lookups is how many batches of inputs are looked up at a time, for all jobs; 0 means 32.
	Lookups int

	// AgentTimeout is how long a task waits for an agent that could run it, before it fails; 0 means 60 s.
	AgentTimeout time.Duration

	// BeatInterval is how often this supervisor says that it lives; 0 means 2.5 s. Another one is dead when nothing was heard of it for DeadAfter; 0 means 10 s.
	BeatInterval, DeadAfter time.Duration

	// IdleClose is how long a job may be open without new input before its input is ended; 0 means 1 h.
	IdleClose time.Duration

	// SaveInterval is how often the counters of a running job are written down; 0 means 1 s.
	SaveInterval time.Duration

	// Linger is how long the records of an archived job are kept; 0 means 1 h.
	Linger time.Duration

	// Logger hears of jobs that begin and end, and of faults. nil discards.
	Logger *slog.Logger
}

func (cfg *Config) check() error {
	var errs []error
	for _, r := range []struct {
		name string
		nil  bool
	}{
		{"Records", cfg.Records == nil}, {"Identity", cfg.Identity == nil}, {"Namespace", cfg.Namespace == nil}, {"Agents", cfg.Agents == nil},
		{"Front", cfg.Front == nil}, {"FrontURL", cfg.FrontURL == ""}, {"Instance", cfg.Instance == ""},
	} {
		if r.nil {
			errs = append(errs, fmt.Errorf("supervisor: Config.%s is required", r.name))
		}
	}
	if u, err := url.Parse(cfg.FrontURL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("supervisor: Config.FrontURL %.100q is no URL of a server", cfg.FrontURL))
	}
	for _, n := range []int{cfg.Window, cfg.Inputs, cfg.MaxJobs, cfg.Lookups} {
		if n < 0 {
			errs = append(errs, errors.New("supervisor: a limit is negative"))
			break
		}
	}
	for _, d := range []time.Duration{cfg.AgentTimeout, cfg.BeatInterval, cfg.DeadAfter, cfg.IdleClose, cfg.SaveInterval, cfg.Linger} {
		if d < 0 {
			errs = append(errs, errors.New("supervisor: a duration is negative"))
			break
		}
	}
	cfg.Inputs = cmp.Or(cfg.Inputs, 1024)
	cfg.MaxJobs = cmp.Or(cfg.MaxJobs, 2000)
	cfg.Lookups = cmp.Or(cfg.Lookups, 32)
	cfg.AgentTimeout = cmp.Or(cfg.AgentTimeout, 60*time.Second)
	cfg.BeatInterval = cmp.Or(cfg.BeatInterval, 2500*time.Millisecond)
	cfg.DeadAfter = cmp.Or(cfg.DeadAfter, 10*time.Second)
	cfg.IdleClose = cmp.Or(cfg.IdleClose, time.Hour)
	cfg.SaveInterval = cmp.Or(cfg.SaveInterval, time.Second)
	cfg.Linger = cmp.Or(cfg.Linger, time.Hour)
	if cfg.DeadAfter < 2*cfg.BeatInterval {
		errs = append(errs, errors.New("supervisor: Config.DeadAfter is less than two beats"))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}
