package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/daemons/internal/admin"
	"github.com/mobulacloud/mobula/daemons/internal/control"
	"github.com/mobulacloud/mobula/daemons/internal/front"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/internal/sshagent"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/fleet"
	"github.com/mobulacloud/mobula/storage/objfile"
)

const (
	demoLogin  = "demo"
	datacenter = "coal"

	// memoryLimit is where the garbage collector begins to work harder; it is no bound.
	memoryLimit = 256 << 20

	// drainTime is what requests under way get at the end.
	drainTime = 10 * time.Second
)

type upFlags struct {
	dir, manta, mantaV2, admin, config, logLevel string
	nodes                                        int
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
	fs.Var(&f.metastore, "metastore", "`URL` of a PostgreSQL database for the records, once per shard; the embedded store when not given")
	fs.StringVar(&f.config, "config", "", "`file` with the daemons' JSON sections")
	fs.StringVar(&f.logLevel, "log-level", "warn", "`level`: debug, info (a line a request), warn or error")
	_, err := proc.Parse(env, fs, args)
	f.dir = *dir
	if err == nil && (f.nodes < 1 || f.nodes > 64) {
		err = proc.Usage("-nodes must be 1 to 64")
	}
	return f, err
}

// config is the file that -config names: the sections of the separate daemons.
type config struct {
	Store front.Config `json:"store"`
}

func readConfig(file string) (config, error) {
	var c config
	if file == "" {
		return c, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return c, err
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("config %s: %w", file, err)
	}
	return c, nil
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
	cfg, err := readConfig(f.config)
	if err != nil {
		return err
	}
	if env.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	// Doors first: a port that is taken is found out before anything is made.
	var listeners listeners
	defer listeners.close()
	manta, err := listeners.open("manta", f.manta)
	if err != nil {
		return err
	}
	mantaV2, err := listeners.open("manta-v2", f.mantaV2)
	if err != nil {
		return err
	}
	adminDoor, err := listeners.open("admin", f.admin)
	if err != nil {
		return err
	}
	s, err := openState(f.dir)
	if err != nil {
		return err
	}
	defer s.release()
	private, public, err := s.demoKey()
	if err != nil {
		return err
	}

	c := &coal{log: log, nodes: map[string]*objfile.Store{}}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.openNodes(s, f.nodes); err != nil {
		return err
	}
	store := cfg.Store
	store.Dir, store.Log, store.Name, store.Dial = s.dir, log, "coal", c.dial
	store.Audit = log.Enabled(ctx, slog.LevelInfo)
	store.StreamingMB = cmp.Or(store.StreamingMB, 256) // a laptop's disk
	if len(f.metastore) > 0 {
		store.Records.URLs = f.metastore
	}
	if c.front, err = front.Open(ctx, store); err != nil {
		return err
	}

	// What follows and mends outlives the doors, so that requests that drain find everything as it was.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts, running := errgroup.WithContext(running)
	parts.Go(func() error { return c.front.Run(running) })
	for name, node := range c.nodes {
		parts.Go(func() error { return c.report(running, name, node) })
	}
	agent, err := sshagent.New(sshagent.Config{Socket: s.path("agent.sock"), Keys: []sshagent.Key{{PEM: private, Comment: demoLogin}}, Logger: log})
	if err != nil {
		return err
	}
	agentListener, err := agent.Listen(ctx)
	if err != nil {
		return err
	}
	parts.Go(func() error { return agent.Serve(running, agentListener) })

	ctl := &control.Server{Accounts: c.front.Accounts, Identity: c.front.Identity}
	if err := c.ready(ctx, ctl, public); err != nil {
		stop()
		return errors.Join(err, parts.Wait())
	}
	ctx, shutdown := context.WithCancel(ctx)
	defer shutdown()
	doorways, err := c.doorways(s, ctl, shutdown, manta, mantaV2, adminDoor)
	if err == nil {
		var pub ssh.PublicKey
		if pub, _, _, _, err = ssh.ParseAuthorizedKey([]byte(public)); err == nil {
			err = s.writeDoors(doors{Manta: manta.url(), MantaV2: mantaV2.url(), Admin: adminDoor.url(), KeyID: ssh.FingerprintLegacyMD5(pub)})
		}
	}
	if err != nil {
		stop()
		return errors.Join(err, parts.Wait())
	}
	for _, d := range doorways {
		parts.Go(func() error {
			if err := d.server.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	fmt.Fprintf(env.Stdout, "coal: ready: manta %s, directory %s\n", manta.url(), s.dir)

	select {
	case <-ctx.Done():
	case <-running.Done(): // a part failed
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	for _, d := range doorways {
		if d.server.Shutdown(drain) != nil {
			d.server.Close() // those that are still at it have had their time
		}
	}
	stop()
	if err := parts.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// A coal is the parts of one that is up.
type coal struct {
	log   *slog.Logger
	front *front.Front
	nodes map[string]*objfile.Store // by the name that records know
}

// openNodes opens the storage nodes in nodes/1, nodes/2, …: as many as asked for, and those that are there already, because objects lie on them.
func (c *coal) openNodes(s *state, n int) error {
	for i := 1; ; i++ {
		dir := s.path("nodes", strconv.Itoa(i))
		if _, err := os.Stat(dir); err != nil && i > n {
			return nil
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		node, err := objfile.Open(dir, objfile.Config{IndexCache: 4 << 20, Log: c.log})
		if err != nil {
			return fmt.Errorf("storage node %d: %w", i, err)
		}
		c.nodes[fmt.Sprintf("%d.stor.%s", i, datacenter)] = node
	}
}

// dial finds the node of a report: all are in this process.
func (c *coal) dial(r fleet.Report) (storage.Node, error) {
	if node, ok := c.nodes[r.Node]; ok {
		return inProcess{node}, nil
	}
	return nil, fmt.Errorf("%w: %s is not a node of this coal", storage.ErrUnavailable, r.Node)
}

// inProcess hides a node's Close from the fleet: the node belongs to coal.
type inProcess struct{ storage.Node }

func (c *coal) report(ctx context.Context, name string, node storage.Node) error {
	r := fleet.Reporter{Node: node, Registrar: c.front.Registry, Identity: fleet.Report{Node: name, Datacenter: datacenter}, Logger: c.log}
	if err := r.Run(ctx); ctx.Err() == nil {
		return fmt.Errorf("storage node %s: %w", name, err)
	}
	return nil
}

// ready waits until requests can be answered, and makes the demo account at the first start.
func (c *coal) ready(ctx context.Context, ctl *control.Server, public string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := c.front.WaitReady(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for name, node := range c.nodes {
		r := fleet.Reporter{Node: node, Registrar: c.front.Registry, Identity: fleet.Report{Node: name, Datacenter: datacenter}, Logger: c.log}
		if err := r.RunOnce(ctx); err != nil {
			return fmt.Errorf("storage node %s: %w", name, err)
		}
	}
	_, err := c.front.Accounts.AccountByLogin(ctx, demoLogin)
	if e := sdc.AsError(err); err != nil && e.Code == "ResourceNotFound" {
		_, err = ctl.CreateAccount(ctx, control.NewIdentity{Login: demoLogin, Key: public})
	}
	if err != nil {
		return fmt.Errorf("demo account: %w", err)
	}
	mark, err := c.front.Accounts.Mark(ctx)
	if err != nil {
		return err
	}
	return c.front.Identity.WaitMark(ctx, mark)
}

func (c *coal) close() error {
	var errs []error
	if c.front != nil {
		errs = append(errs, c.front.Close())
	}
	for _, node := range c.nodes {
		errs = append(errs, node.Close())
	}
	return errors.Join(errs...)
}

// A doorway is a listener with the server behind it.
type doorway struct {
	listener net.Listener
	server   *http.Server
}

func (c *coal) doorways(s *state, ctl *control.Server, shutdown func(), manta, mantaV2, adminDoor *listener) ([]doorway, error) {
	all := []doorway{{manta, c.front.Door.HTTPServer(c.front.Door)}}
	if mantaV2 != nil {
		all = append(all, doorway{mantaV2, c.front.DoorV2.HTTPServer(c.front.DoorV2)})
	}
	if adminDoor != nil {
		d := admin.New()
		c.front.Describe(d)
		for name, node := range c.nodes {
			d.Collect(admin.Struct("mobula_node", map[string]string{"node": name}, node.Metrics))
		}
		all = append(all, doorway{adminDoor, admin.Server(d.Handler())})
	}
	mux := http.NewServeMux()
	ctl.Routes(mux)
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, r *http.Request) { control.Reply(w, nil, nil) })
	mux.HandleFunc("POST /shutdown", func(w http.ResponseWriter, r *http.Request) {
		control.Reply(w, nil, nil)
		shutdown()
	})
	l, err := control.Listen(s.dir)
	if err != nil {
		return nil, err
	}
	return append(all, doorway{l, admin.Server(mux)}), nil
}

// listeners opens doors and closes them all.
type listeners []net.Listener

type listener struct{ net.Listener }

// open listens on an address; no address is no listener.
func (ls *listeners) open(flag, address string) (*listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another program (choose another address with -%s, or port 0 for any)", address, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("-%s: %w", flag, err)
	}
	*ls = append(*ls, l)
	if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return nil, fmt.Errorf("-%s %s: coal speaks in the clear, so its doors are on loopback only (the head node's daemon has TLS)", flag, address)
	}
	return &listener{l}, nil
}

func (ls *listeners) close() {
	for _, l := range *ls {
		l.Close()
	}
}

func (l *listener) url() string {
	if l == nil {
		return ""
	}
	return "http://" + l.Addr().String()
}
