package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/daemons/internal/admin"
	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/daemons/internal/config"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/daemons/internal/serve"
	"github.com/mobulacloud/mobula/daemons/internal/statedir"
	"github.com/mobulacloud/mobula/internal/pki"
	"github.com/mobulacloud/mobula/manta/jobs/agent"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/fleet"
	"github.com/mobulacloud/mobula/storage/nodehttp"
	"github.com/mobulacloud/mobula/storage/objfile"
)

// up runs the storage node until ctx ends.
func up(ctx context.Context, env *proc.Env, args []string) (err error) {
	cfg := defaults()
	fs := proc.Flags(env, "up")
	file := fs.String("config", "", "`file` with the configuration")
	dir := fs.String("dir", "", "`directory` of all state, in place of the configuration's")
	listen := fs.String("listen", "", "`address` to listen on, in place of the configuration's")
	adminAddr := fs.String("admin", "", "`address` for health and metrics, or \"off\", in place of the configuration's")
	if _, err := proc.Parse(env, fs, args); err != nil {
		return err
	}
	if err := config.Load(*file, &cfg); err != nil {
		return err
	}
	if *dir != "" {
		cfg.Dir = *dir
	}
	if *listen != "" {
		cfg.Listen = *listen
	}
	switch *adminAddr {
	case "":
	case "off":
		cfg.Admin = ""
	default:
		cfg.Admin = *adminAddr
	}
	log, err := proc.Logger(env.Stderr, cfg.LogLevel)
	if err != nil {
		return err
	}
	var doors serve.Doors
	defer doors.Close()
	door, err := doors.Listen("listen", cfg.Listen)
	if err != nil {
		return err
	}
	state, err := statedir.Open(cfg.Dir, program)
	if err != nil {
		return err
	}
	defer state.Close()
	n, err := open(cfg, state, door, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	if err := n.addDoors(&doors, door); err != nil {
		return err
	}

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts, background := errgroup.WithContext(background)
	parts.Go(func() error {
		if err := n.reporter.Run(background); background.Err() == nil {
			return fmt.Errorf("report to the head node: %w", err)
		}
		return nil
	})
	parts.Go(func() error {
		renewer := pki.Renewer{Credentials: n.credentials, Renew: pki.RenewBy(n.client, n.base), Trust: pki.TrustBy(n.client, n.base), Logger: log}
		_ = renewer.Run(background) // the context's end is its only error
		return nil
	})
	parts.Go(func() error { return n.runTasks(background, state.Path(computeDir)) })
	serving, shut := context.WithCancel(ctx)
	defer shut()
	context.AfterFunc(background, shut) // a part that failed shuts the doors
	fmt.Fprintf(env.Stdout, "storagenode: ready: %s on %s, directory %s\n", n.credentials.Identity().Name, door.Addr(), state.Path())
	err = doors.Serve(serving)
	stop()
	if ended := parts.Wait(); !errors.Is(ended, context.Canceled) {
		err = errors.Join(ended, err)
	}
	return err
}

// A node is the parts of a storage node that is up.
type node struct {
	cfg         Config
	log         *slog.Logger
	credentials *pki.Credentials
	store       *objfile.Store
	client      *http.Client // to the head node
	base        string       // of the head node
	reporter    *fleet.Reporter
	agent       compute.Later // of tasks
}

func open(cfg Config, state *statedir.Dir, door net.Listener, log *slog.Logger) (*node, error) {
	n := &node{cfg: cfg, log: log}
	var err error
	n.credentials, err = pki.LoadCredentials(state.Path("credentials"))
	if errors.Is(err, pki.ErrNoCredentials) {
		return nil, fmt.Errorf("this machine has not joined a head node (get a token there with: headnode token NAME; then here: storagenode join)")
	}
	if err != nil {
		return nil, err
	}
	var j joined
	b, err := os.ReadFile(state.Path("joined.json"))
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	if err != nil {
		return nil, fmt.Errorf("read which head node this machine belongs to: %w", err)
	}
	n.base = "https://" + j.Head
	n.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: n.credentials.Client(pki.Identity{Role: pki.Head}), IdleConnTimeout: 90 * time.Second}}
	head, err := fleet.NewClient(n.client, n.base)
	if err != nil {
		return nil, err
	}
	address, err := advertised(cfg, door)
	if err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	n.reporter = &fleet.Reporter{
		Registrar: head, Logger: log,
		Identity: fleet.Report{Node: n.credentials.Identity().Name, Datacenter: cfg.Datacenter, Address: "https://" + address, Hostname: hostname},
	}
	objects := state.Path("objects")
	if err := os.MkdirAll(objects, 0o700); err != nil {
		return nil, err
	}
	n.store, err = objfile.Open(objects, objfile.Config{
		PackLimit: cfg.PackKB << 10, Capacity: cfg.CapacityGB << 30, Grace: time.Duration(cfg.GraceHours) * time.Hour, ScrubRate: cfg.ScrubMBPerSecond << 20,
		IndexCache: cfg.CacheMB << 20, OnDamage: n.damaged, Log: log,
	})
	n.reporter.Node = n.store
	return n, err
}

// runTasks runs tasks of jobs on this node's objects until ctx ends.
func (n *node) runTasks(ctx context.Context, dir string) error {
	cfg := n.cfg.Compute
	cfg.Name, cfg.Dir, cfg.Log = n.credentials.Identity().Name, dir, n.log
	cfg.Stores = map[string]agent.Store{cfg.Name: n.store}
	head := strings.TrimPrefix(n.base, "https://")
	dialer := net.Dialer{Timeout: 5 * time.Second}
	front := &http.Transport{
		TLSClientConfig: n.credentials.Client(pki.Identity{Role: pki.Head}),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, head)
		},
		ExpectContinueTimeout: time.Minute, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 64, DisableCompression: true,
		WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
	}
	defer front.CloseIdleConnections()
	cfg.Front, cfg.FrontURL = front, "https://"+compute.FrontHost
	return compute.Run(ctx, cfg, n.agent.Set, func(line string) { n.log.Warn(line) })
}

// damaged tells the head node what this node's own verification found.
func (n *node) damaged(d objfile.Damage) {
	if d.ID != (storage.ObjectID{}) {
		n.reporter.Damaged(d.ID)
	}
}

// advertised returns the host and port under which the head node reaches the door.
func advertised(cfg Config, door net.Listener) (string, error) {
	if cfg.Advertise != "" {
		return cfg.Advertise, nil
	}
	host, port, err := net.SplitHostPort(door.Addr().String())
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, port), nil
}

func (n *node) addDoors(doors *serve.Doors, door net.Listener) error {
	handler, err := nodehttp.NewHandler(nodehttp.HandlerConfig{Node: n.store, Log: n.log})
	if err != nil {
		return err
	}
	tasks, err := task.NewHandler(task.HandlerConfig{Agent: &n.agent, Logger: n.log})
	if err != nil {
		return err
	}
	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == task.Path {
			tasks.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
	doors.Add(tls.NewListener(door, n.credentials.Server(pki.Only(pki.Identity{Role: pki.Head}))), &nodehttp.Server{Handler: both, Log: n.log})
	if n.cfg.Admin == "" {
		return nil
	}
	l, err := doors.Listen("admin", n.cfg.Admin)
	if err != nil {
		return err
	}
	d := admin.New()
	d.Check("objects", func(ctx context.Context) error {
		usage, err := n.store.Usage(ctx)
		if err == nil && usage.ReadOnly != "" {
			err = fmt.Errorf("the node takes no writes: %s", usage.ReadOnly)
		}
		return err
	})
	d.Check("certificate", func(context.Context) error {
		if left := time.Until(n.credentials.Expires()); left < 7*24*time.Hour {
			return fmt.Errorf("it ends in %s and could not be renewed", left.Round(time.Hour))
		}
		return nil
	})
	d.Collect(admin.Struct("mobula_node", nil, n.store.Metrics))
	compute.Describe(d, n.agent.Get)
	doors.Add(l, admin.Server(d.Handler()))
	return nil
}
