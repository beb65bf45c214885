package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/daemons/internal/admin"
	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/daemons/internal/control"
	"github.com/mobulacloud/mobula/daemons/internal/front"
	"github.com/mobulacloud/mobula/daemons/internal/serve"
	"github.com/mobulacloud/mobula/daemons/internal/statedir"
	"github.com/mobulacloud/mobula/manta/jobs/agent"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/fleet"
	"github.com/mobulacloud/mobula/storage/objfile"
)

const (
	program    = "coal"
	demoLogin  = "demo"
	datacenter = "coal"
)

// A coal is the parts of one that is up.
type coal struct {
	log                   *slog.Logger
	state                 *statedir.Dir
	doors                 serve.Doors
	manta, mantaV2, admin net.Listener  // the last two may be nil
	opened                chan struct{} // closed when front is set, or never will be
	front                 *front.Front
	nodes                 []node
	compute               compute.Config
	agent                 compute.Later
}

// A node is a storage node in this process.
type node struct {
	name string // that records know
	*objfile.Store
}

// open opens storage nodes and front.
func (c *coal) open(ctx context.Context, cfg front.Config, nodes int) error {
	defer close(c.opened)
	if err := c.openNodes(nodes); err != nil {
		return err
	}
	cfg.Dir, cfg.Log, cfg.Name, cfg.Dial = c.state.Path(), c.log, program, c.dial
	cfg.Audit = c.log.Enabled(ctx, slog.LevelInfo)
	// A laptop's disk is small, and often fuller than a server's may be. The nodes keep a reserve of their own.
	cfg.StreamingMB = cmp.Or(cfg.StreamingMB, 256)
	cfg.MaxPercentUsed = cmp.Or(cfg.MaxPercentUsed, 100)
	var err error
	c.front, err = front.Open(ctx, cfg)
	return err
}

// openNodes opens the storage nodes in nodes/1, nodes/2, …: as many as asked for, and those that are there already, because objects lie on them.
func (c *coal) openNodes(n int) error {
	for i := 1; ; i++ {
		dir := c.state.Path("nodes", strconv.Itoa(i))
		if _, err := os.Stat(dir); err != nil && i > n {
			return nil
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		store, err := objfile.Open(dir, objfile.Config{IndexCache: 4 << 20, OnDamage: c.damaged, Log: c.log})
		if err != nil {
			return fmt.Errorf("storage node %d: %w", i, err)
		}
		c.nodes = append(c.nodes, node{fmt.Sprintf("%d.stor.%s", i, datacenter), store})
	}
}

// damaged passes on what a node's own verification found.
func (c *coal) damaged(d objfile.Damage) {
	<-c.opened // a copy in quarantine is not met again, so the word must not be lost
	if c.front != nil && d.ID != (storage.ObjectID{}) {
		c.front.Repair.NodeDamaged(d.ID)
	}
}

// dial finds the node of a report: all are in this process.
func (c *coal) dial(r fleet.Report) (storage.Node, error) {
	for _, n := range c.nodes {
		if n.name == r.Node {
			return inProcess{n.Store}, nil
		}
	}
	return nil, fmt.Errorf("%w: %s is not a node of this coal", storage.ErrUnavailable, r.Node)
}

// inProcess hides a node's Close from the fleet: the node belongs to coal.
type inProcess struct{ storage.Node }

func (c *coal) reporter(n node) *fleet.Reporter {
	return &fleet.Reporter{Node: n.Store, Registrar: c.front.Registry, Identity: fleet.Report{Node: n.name, Datacenter: datacenter}, Logger: c.log}
}

// runTasks runs tasks of jobs on all nodes until ctx ends.
func (c *coal) runTasks(ctx context.Context, say func(string)) error {
	cfg := c.compute
	cfg.Name, cfg.Dir, cfg.Log, cfg.Front, cfg.FrontURL = program, c.state.Path(computeDir), c.log, c.front.Inside, front.InsideURL
	cfg.Stores = map[string]agent.Store{}
	for _, n := range c.nodes {
		cfg.Stores[n.name] = n.Store
	}
	ready := func(a *agent.Agent) {
		c.agent.Set(a)
		if a == nil {
			c.front.Agents.Set(program, nil)
		} else {
			c.front.Agents.Set(program, a)
		}
	}
	return compute.Run(ctx, cfg, ready, func(line string) { say("coal: " + line) })
}

// computeDir is where the agent of tasks keeps its file systems, below coal's directory.
const computeDir = "compute"

// start starts what runs in the background until ctx ends. say tells people what is missing.
func (c *coal) start(ctx context.Context, parts *errgroup.Group, say func(string)) {
	parts.Go(func() error { return c.front.Run(ctx) })
	parts.Go(func() error { return c.runTasks(ctx, say) })
	for _, n := range c.nodes {
		parts.Go(func() error {
			err := c.reporter(n).Run(ctx)
			if errors.Is(err, fleet.ErrRemoved) {
				return nil // taken out by the operator: the other nodes go on
			}
			if ctx.Err() == nil {
				return fmt.Errorf("storage node %s: %w", n.name, err)
			}
			return nil
		})
	}
}

// startTime bounds the wait for the parts to know each other.
const startTime = 60 * time.Second

// prepare waits until requests can be answered, makes the demo account at the first start, and puts servers behind the doors.
func (c *coal) prepare(ctx context.Context, public string, shutdown func()) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := c.front.WaitReady(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, n := range c.nodes {
		began := time.Now()
		err := c.reporter(n).RunOnce(ctx)
		if errors.Is(err, fleet.ErrRemoved) {
			continue
		}
		if err == nil {
			err = c.front.Fleet.WaitReport(ctx, n.name, began)
		}
		if err != nil {
			return fmt.Errorf("storage node %s: %w", n.name, err)
		}
	}
	if err := c.front.Recover(ctx); err != nil {
		return err
	}
	ctl := &control.Server{Accounts: c.front.Accounts, Identity: c.front.Identity}
	if err := c.demoAccount(ctx, ctl, public); err != nil {
		return fmt.Errorf("demo account: %w", err)
	}
	if err := c.addDoors(ctl, shutdown); err != nil {
		return err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		return err
	}
	return doors{Manta: address(c.manta), MantaV2: address(c.mantaV2), Admin: address(c.admin), KeyID: ssh.FingerprintLegacyMD5(key)}.write(c.state)
}

func (c *coal) demoAccount(ctx context.Context, ctl *control.Server, public string) error {
	_, err := c.front.Accounts.AccountByLogin(ctx, demoLogin)
	if errors.Is(err, &sdc.Error{Code: "ResourceNotFound"}) {
		_, err = ctl.CreateAccount(ctx, control.NewIdentity{Login: demoLogin, Key: public})
	}
	if err != nil {
		return err
	}
	mark, err := c.front.Accounts.Mark(ctx)
	if err != nil {
		return err
	}
	return c.front.Identity.WaitMark(ctx, mark)
}

func (c *coal) addDoors(ctl *control.Server, shutdown func()) error {
	c.doors.Add(c.front.Door.Listener(c.manta), c.front.Door.HTTPServer(c.front.Door))
	if c.mantaV2 != nil {
		c.doors.Add(c.front.DoorV2.Listener(c.mantaV2), c.front.DoorV2.HTTPServer(c.front.DoorV2))
	}
	if c.admin != nil {
		d := admin.New()
		c.front.Describe(d)
		for _, n := range c.nodes {
			d.Collect(admin.Struct("mobula_node", map[string]string{"node": n.name}, n.Metrics))
		}
		compute.Describe(d, c.agent.Get)
		c.doors.Add(c.admin, admin.Server(d.Handler()))
	}
	mux := http.NewServeMux()
	ctl.Routes(mux)
	(&control.Nodes{Registry: c.front.Registry, Fleet: c.front.Fleet, Repair: c.front.Repair}).Routes(mux)
	(&control.Records{Store: c.front.Records}).Routes(mux)
	control.Life(mux, shutdown)
	l, err := control.Listen(c.state.Path())
	if err != nil {
		return err
	}
	c.doors.Add(l, control.HTTPServer(mux))
	return nil
}

// close ends what open opened.
func (c *coal) close() error {
	var errs []error
	if c.front != nil {
		errs = append(errs, c.front.Close())
	}
	for _, n := range c.nodes {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return "http://" + l.Addr().String()
}
