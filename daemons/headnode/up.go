package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/daemons/internal/admin"
	"github.com/mobulacloud/mobula/daemons/internal/compute"
	"github.com/mobulacloud/mobula/daemons/internal/config"
	"github.com/mobulacloud/mobula/daemons/internal/control"
	"github.com/mobulacloud/mobula/daemons/internal/front"
	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/daemons/internal/serve"
	"github.com/mobulacloud/mobula/daemons/internal/statedir"
	"github.com/mobulacloud/mobula/internal/pki"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/fleet"
	"github.com/mobulacloud/mobula/storage/nodehttp"
)

// up runs the head node until ctx ends.
func up(ctx context.Context, env *proc.Env, args []string) (err error) {
	cfg := defaults()
	fs := proc.Flags(env, "up")
	file := fs.String("config", "", "`file` with the configuration")
	dir := fs.String("dir", "", "`directory` of all state, in place of the configuration's")
	if _, err := proc.Parse(env, fs, args); err != nil {
		return err
	}
	if err := config.Load(*file, &cfg); err != nil {
		return err
	}
	if *dir != "" {
		cfg.Dir = *dir
	}
	log, err := proc.Logger(env.Stderr, cfg.LogLevel)
	if err != nil {
		return err
	}
	h := &head{cfg: cfg, log: log}
	defer h.doors.Close()
	if err := h.listen(); err != nil {
		return err
	}
	if h.state, err = statedir.Open(cfg.Dir, program); err != nil {
		return err
	}
	defer h.state.Close()
	defer func() { err = errors.Join(err, h.close()) }()
	if err := h.open(ctx); err != nil {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	parts, background := errgroup.WithContext(background)
	parts.Go(func() error { return h.front.Run(background) })
	parts.Go(func() error { return h.followAgents(background) })
	parts.Go(func() error {
		renewer := pki.Renewer{
			Credentials: h.credentials, Renew: h.authority.RenewOwn(h.credentials.Identity()), Trust: h.authority.TrustOwn(h.credentials),
			Changed: h.authority.Changed, Logger: log,
		}
		_ = renewer.Run(background) // the context's end is its only error
		return nil
	})
	parts.Go(func() error {
		_ = h.authority.Run(background)
		return nil
	})
	doors, shutdown := context.WithCancel(ctx)
	defer shutdown()
	context.AfterFunc(background, shutdown) // a part that failed shuts the doors
	if err = h.front.WaitReady(doors); err == nil {
		err = h.addDoors(shutdown)
	}
	if err == nil {
		parts.Go(func() error {
			h.expel(background)
			return nil
		})
		fmt.Fprintf(env.Stdout, "headnode: ready: manta %s, nodes %s, directory %s\n", h.manta.Addr(), h.nodes.Addr(), h.state.Path())
		err = h.doors.Serve(doors)
	}
	stop()
	if ended := parts.Wait(); !errors.Is(ended, context.Canceled) {
		err = errors.Join(ended, err)
	}
	return err
}

// A head is the parts of a head node that is up.
type head struct {
	cfg   Config
	log   *slog.Logger
	state *statedir.Dir
	doors serve.Doors

	manta, mantaV2, mantaClear, nodes, admin net.Listener // nil where there is no door

	front       *front.Front
	tokens      *pki.TokenDir
	authority   *pki.Authority
	credentials *pki.Credentials
	machines    *pki.Listener // the door of h.nodes
}

// listen opens the doors, and refuses those that would carry secrets in the clear.
func (h *head) listen() (err error) {
	for _, d := range []struct {
		name   string
		door   Door
		to     *net.Listener
		client bool // clients' secrets pass through
	}{
		{"manta.listen", h.cfg.Manta, &h.manta, true}, {"manta_v2.listen", h.cfg.MantaV2, &h.mantaV2, true},
		{"manta_clear.listen", h.cfg.MantaClear, &h.mantaClear, false}, {"nodes.listen", h.cfg.Nodes, &h.nodes, false}, {"admin.listen", h.cfg.Admin, &h.admin, false},
	} {
		if d.door.Listen == "" {
			continue
		}
		l, err := h.doors.Listen(d.name, d.door.Listen)
		if err != nil {
			return err
		}
		*d.to = l
		switch {
		case !d.client:
		case d.door.Cert != "":
			cert, err := tls.LoadX509KeyPair(d.door.Cert, d.door.Key)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			*d.to = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}})
		case !serve.Loopback(l) && !d.door.BehindProxy:
			return fmt.Errorf("%s is %s without a certificate: give cert and key, or say behind_proxy if a proxy speaks TLS for it", d.name, d.door.Listen)
		}
	}
	if h.manta == nil || h.nodes == nil {
		return errors.New("manta.listen and nodes.listen are required")
	}
	return nil
}

func (h *head) open(ctx context.Context) error {
	ca, err := pki.OpenCA(h.state.Path("ca"))
	if err != nil {
		return err
	}
	if h.tokens, err = pki.OpenTokenDir(h.state.Path("join-tokens")); err != nil {
		return err
	}
	if h.credentials, err = ca.Credentials(h.state.Path("credentials"), pki.Identity{Role: pki.Head, Name: "head"}); err != nil {
		return err
	}
	cfg := h.cfg.Store
	cfg.Dir, cfg.Log, cfg.Name, cfg.Dial = h.state.Path(), h.log, h.cfg.Name, h.dial
	cfg.Audit, cfg.Forwarded = h.log.Enabled(ctx, slog.LevelInfo), h.cfg.Manta.BehindProxy
	if h.front, err = front.Open(ctx, cfg); err != nil {
		return err
	}
	h.authority = &pki.Authority{CA: ca, Tokens: h.tokens, Admit: h.admit, Members: h.members, Logger: h.log}
	return nil
}

// members are the machines that a rotation of the authority waits for: this one, and all nodes that are not given up.
func (h *head) members(ctx context.Context) ([]pki.Identity, error) {
	nodes, err := h.front.Registry.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	all := []pki.Identity{h.credentials.Identity()}
	for _, n := range nodes {
		if n.Member.State != fleet.Lost && n.Member.State != fleet.Removed {
			all = append(all, pki.Identity{Role: pki.Storage, Name: n.Report.Node})
		}
	}
	return all, nil
}

// expel ends the connections of nodes as soon as they are removed. When such a node comes again, it is told.
func (h *head) expel(ctx context.Context) {
	done := map[string]bool{}
	for {
		changed := h.front.Fleet.Changed()
		for _, node := range h.front.Fleet.Removed() {
			if done[node] {
				continue
			}
			done[node] = true
			if n := h.machines.End(func(id pki.Identity) bool { return id == pki.Identity{Role: pki.Storage, Name: node} }); n > 0 {
				h.log.Info("connections of a removed node ended", "node", node, "connections", n)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// admit refuses nodes that were removed for good.
func (h *head) admit(ctx context.Context, id pki.Identity) error {
	nodes, err := h.front.Registry.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Report.Node == id.Name && n.Member.State == fleet.Removed {
			return fleet.ErrRemoved
		}
	}
	return nil
}

// dial returns a client for the node of a report: one that speaks to nobody but that node.
func (h *head) dial(r fleet.Report) (storage.Node, error) {
	return nodehttp.NewClient(nodehttp.ClientConfig{URL: r.Address, TLS: h.credentials.Client(pki.Identity{Role: pki.Storage, Name: r.Node})})
}

func (h *head) addDoors(shutdown func()) error {
	h.addFront(h.manta, h.cfg.Manta, h.front.Door, h.front.Door)
	if h.mantaV2 != nil {
		h.addFront(h.mantaV2, h.cfg.MantaV2, h.front.DoorV2, h.front.DoorV2)
	}
	if h.mantaClear != nil {
		h.addFront(h.mantaClear, h.cfg.MantaClear, h.front.Door, h.front.Door.ClearText())
	}
	join := http.NewServeMux()
	join.Handle("/pki/", brief(pki.NewHandler(h.authority)))
	join.Handle(fleet.ReportPath, brief(fleet.NewHandler(h.front.Registry, storageNode, h.log)))
	join.Handle(compute.FrontHost+"/", nodesOnly(h.front.Door))
	// Machines without a certificate come here to join, so each handler asks who it is.
	h.machines = pki.NewListener(h.nodes, h.credentials.DoorServer(pki.Only(pki.Identity{Role: pki.Storage})))
	h.doors.Add(h.machines, h.front.Door.HTTPServer(join))
	if h.admin != nil {
		d := admin.New()
		h.front.Describe(d)
		h.doors.Add(h.admin, admin.Server(d.Handler()))
	}
	mux := http.NewServeMux()
	(&control.Server{Accounts: h.front.Accounts, Identity: h.front.Identity}).Routes(mux)
	(&control.Nodes{Registry: h.front.Registry, Fleet: h.front.Fleet, Repair: h.front.Repair, Authority: h.authority}).Routes(mux)
	(&control.Authority{Authority: h.authority}).Routes(mux)
	(&control.Audit{Auditor: h.front.Auditor}).Routes(mux)
	(&control.Records{Store: h.front.Records}).Routes(mux)
	control.Life(mux, shutdown)
	l, err := control.Listen(h.state.Path())
	if err != nil {
		return err
	}
	h.doors.Add(l, control.HTTPServer(mux))
	return nil
}

// addFront puts the object store behind a door.
func (h *head) addFront(l net.Listener, d Door, s *webapi.Server, handler http.Handler) {
	if d.Cert == "" { // below TLS it could not read along
		l = s.Listener(l)
	}
	h.doors.Add(l, s.HTTPServer(handler))
}

// brief bounds the time of requests that carry little, on a door where others stream.
func brief(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		now := time.Now()
		if err := errors.Join(control.SetReadDeadline(now.Add(30*time.Second)), control.SetWriteDeadline(now.Add(60*time.Second))); err != nil {
			http.Error(w, "no time limits on this connection", http.StatusInternalServerError)
			return
		}
		defer func() { _ = control.SetWriteDeadline(time.Time{}) }() // the next request's are its own
		h.ServeHTTP(w, r)
	})
}

// nodesOnly lets storage nodes through to the store, where their tasks have a token to show.
func nodesOnly(store http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := storageNode(r); err != nil {
			http.Error(w, "this door is for storage nodes", http.StatusForbidden)
			return
		}
		store.ServeHTTP(w, r)
	})
}

// storageNode tells which node a request comes from, by its certificate.
func storageNode(r *http.Request) (string, error) {
	id, err := pki.PeerIdentity(r.TLS)
	if err == nil && id.Role != pki.Storage {
		err = pki.ErrIdentity
	}
	return id.Name, err
}

func (h *head) close() error {
	var errs []error
	if h.front != nil {
		errs = append(errs, h.front.Close())
	}
	if h.tokens != nil {
		errs = append(errs, h.tokens.Close())
	}
	return errors.Join(errs...)
}
