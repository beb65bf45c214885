package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/daemons/internal/config"
	"github.com/mobulacloud/mobula/daemons/internal/front"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/daemons/internal/serve"
	"github.com/mobulacloud/mobula/daemons/internal/statedir"
	"github.com/mobulacloud/mobula/internal/sshagent"
)

// memoryLimit is where the garbage collector begins to work harder; it is no bound.
const memoryLimit = 256 << 20

type upFlags struct {
	dir, manta, mantaV2, admin, config, logLevel string
	nodes, zones                                 int
	metastore                                    proc.Strings
}

func parseUp(env *proc.Env, args []string) (upFlags, error) {
	var f upFlags
	fs := proc.Flags(env, "up")
	dir := dirFlag(env, fs)
	fs.StringVar(&f.manta, "manta", "127.0.0.1:8080", "`address` of the object store; port 0 picks one")
	fs.StringVar(&f.mantaV2, "manta-v2", "", "`address` of a second door to the object store that speaks the second version's dialect; off when empty")
	fs.StringVar(&f.admin, "admin", "127.0.0.1:8083", "`address` for health and metrics; off when empty")
	fs.IntVar(&f.nodes, "nodes", 2, "`number` of storage nodes; those that exist stay")
	fs.IntVar(&f.zones, "zones", -1, "`number` of tasks of jobs that run at a time; 0 leaves jobs off; -1 is four for each processor, at least 8")
	fs.Var(&f.metastore, "metastore", "`URL` of a PostgreSQL database for the records, once per shard; the embedded store when not given")
	fs.StringVar(&f.config, "config", "", "`file` with the daemons' JSON sections")
	fs.StringVar(&f.logLevel, "log-level", "warn", "`level`: debug, info (a line a request), warn or error")
	_, err := proc.Parse(env, fs, args)
	f.dir = *dir
	if err == nil && (f.zones < -1 || f.zones > 1024) {
		err = proc.Usage("-zones must be -1 to 1024")
	}
	if err == nil && (f.nodes < 1 || f.nodes > 64) {
		err = proc.Usage("-nodes must be 1 to 64")
	}
	return f, err
}

// sections are the file that -config names: the sections of the separate daemons.
type sections struct {
	Store   front.Config   `json:"store"`
	Compute compute.Config `json:"compute"`
}

// up runs coal until ctx ends.
func up(ctx context.Context, env *proc.Env, args []string) (err error) {
	f, err := parseUp(env, args)
	if err != nil {
		return err
	}
	log, err := proc.Logger(env.Stderr, f.logLevel)
	if err != nil {
		return err
	}
	var cfg sections
	if err := config.Load(f.config, &cfg); err != nil {
		return err
	}
	if env.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	// Doors first: a port that is taken is found out before anything is made.
	c := &coal{log: log, opened: make(chan struct{}), compute: cfg.Compute}
	defer c.doors.Close()
	for _, d := range []struct {
		name, address string
		to            *net.Listener
	}{{"-manta", f.manta, &c.manta}, {"-manta-v2", f.mantaV2, &c.mantaV2}, {"-admin", f.admin, &c.admin}} {
		if d.address == "" {
			continue
		}
		if *d.to, err = c.doors.Listen(d.name, d.address); err != nil {
			return err
		}
		if !serve.Loopback(*d.to) {
			return fmt.Errorf("%s %s: coal speaks in the clear, so its doors are on loopback only (the head node's daemon has TLS)", d.name, d.address)
		}
	}
	if c.manta == nil {
		return proc.Usage("-manta is empty: the object store needs its door")
	}
	if c.state, err = statedir.Open(f.dir, program); err != nil {
		return err
	}
	defer c.state.Close()
	private, public, err := demoKey(c.state)
	if err != nil {
		return err
	}
	switch {
	case f.zones == 0:
		c.compute.Off = true
	case f.zones > 0:
		c.compute.Zones = f.zones
	}
	store := cfg.Store
	if len(f.metastore) > 0 {
		store.Records.URLs = f.metastore
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(ctx, store, f.nodes); err != nil {
		return err
	}
	agent, err := sshagent.New(sshagent.Config{Socket: c.state.Path("agent.sock"), Keys: []sshagent.Key{{PEM: private, Comment: demoLogin}}, Logger: log})
	if err != nil {
		return err
	}
	agentSocket, err := agent.Listen(ctx)
	if err != nil {
		return err
	}

	// What follows and mends outlives the doors, so that requests that drain find everything as it was.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts, background := errgroup.WithContext(background)
	c.start(background, parts, func(line string) { fmt.Fprintln(env.Stderr, line) })
	parts.Go(func() error { return agent.Serve(background, agentSocket) })
	front, shutdown := context.WithCancel(ctx)
	defer shutdown()
	context.AfterFunc(background, shutdown) // a part that failed shuts the doors
	if err = c.prepare(front, public, shutdown); err == nil {
		fmt.Fprintf(env.Stdout, "coal: ready: manta %s, directory %s\n", address(c.manta), c.state.Path())
		err = c.doors.Serve(front)
	}
	stop()
	if ended := parts.Wait(); !errors.Is(ended, context.Canceled) {
		err = errors.Join(ended, err)
	}
	return err
}
