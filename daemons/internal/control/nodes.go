package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mobulacloud/mobula/daemons/internal/proc"
	"github.com/mobulacloud/mobula/internal/pki"
	"github.com/mobulacloud/mobula/manta/repair"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/fleet"
)

// Nodes serves the part of the API that looks after storage nodes. Authority is nil where no other machine can join.
type Nodes struct {
	Registry  *fleet.Registry
	Fleet     *fleet.Fleet
	Repair    *repair.Service
	Authority *pki.Authority
}

// Routes adds the API to a mux.
func (n *Nodes) Routes(mux *http.ServeMux) {
	route := func(pattern string, handle func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			out, err := handle(r)
			Reply(w, out, refine(err))
		})
	}
	route("GET /nodes", func(*http.Request) (any, error) { return n.Fleet.Nodes(), nil })
	route("PUT /nodes/{node}/state", n.setState)
	route("DELETE /nodes/{node}", n.remove)
	mux.HandleFunc("POST /nodes/{node}/evacuate", n.evacuate)
	if n.Authority != nil {
		route("POST /nodes/{node}/token", n.token)
	}
}

// refine gives errors of the fleet a status.
func refine(err error) error {
	switch {
	case errors.Is(err, fleet.ErrState), errors.Is(err, fleet.ErrRemoved):
		return &sdc.Error{Code: "InvalidState", Message: err.Error(), Status: http.StatusConflict}
	case errors.Is(err, storage.ErrInvalid):
		return &sdc.Error{Code: "InvalidArgument", Message: err.Error(), Status: http.StatusConflict}
	}
	return err
}

// NewState asks for a change of what is wanted of a node.
type NewState struct {
	State  fleet.State `json:"state"`
	Reason string      `json:"reason"`
}

func (n *Nodes) setState(r *http.Request) (any, error) {
	var in NewState
	if err := Decode(r, &in); err != nil {
		return nil, err
	}
	return nil, n.Registry.SetState(r.Context(), r.PathValue("node"), in.State, in.Reason)
}

// remove takes a lost node out for good, once it is certain that no entry refers to it.
func (n *Nodes) remove(r *http.Request) (any, error) {
	node := r.PathValue("node")
	left := 0
	// An evacuation that finds nothing to do is the proof.
	err := n.Repair.Evacuate(r.Context(), node, func(p repair.Progress) { left = p.Seen })
	if err != nil {
		return nil, err
	}
	if left > 0 {
		return nil, nil
	}
	return nil, n.Registry.Remove(r.Context(), node, "removed by the operator")
}

// Evacuation is one line of the answer to evacuate: progress while it lasts, and the end.
type Evacuation struct {
	Objects int    `json:"objects"`
	Bytes   int64  `json:"bytes"`
	Done    bool   `json:"done"`
	Error   string `json:"error,omitempty"`
}

// evacuate marks a node lost and moves what it held, with a line of progress every second.
func (n *Nodes) evacuate(w http.ResponseWriter, r *http.Request) {
	node := r.PathValue("node")
	if err := n.Registry.SetState(r.Context(), node, fleet.Lost, "evacuated by the operator"); err != nil {
		Reply(w, nil, refine(err))
		return
	}
	out := json.NewEncoder(w)
	ctl := http.NewResponseController(w)
	last := time.Now()
	var total Evacuation
	line := func() {
		_ = out.Encode(total)
		_ = ctl.Flush()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	err := n.settled(r.Context(), node)
	if err == nil {
		err = n.Repair.Evacuate(r.Context(), node, func(p repair.Progress) {
			total.Objects, total.Bytes = max(total.Objects, p.Seen), max(total.Bytes, p.Bytes)
			if time.Since(last) > time.Second {
				last = time.Now()
				line()
			}
		})
	}
	total.Done = true
	if err != nil {
		total.Error = err.Error()
	}
	line()
}

// settled waits until the fleet of this process knows that the node is lost.
func (n *Nodes) settled(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return n.Fleet.WaitState(ctx, node, fleet.Lost)
}

// NewToken is the answer to a request for a join token.
type NewToken struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

func (n *Nodes) token(r *http.Request) (any, error) {
	id := pki.Identity{Role: pki.Storage, Name: r.PathValue("node")}
	if err := id.Validate(); err != nil {
		return nil, &sdc.Error{Code: "InvalidArgument", Message: err.Error(), Status: http.StatusConflict}
	}
	t, err := n.Authority.CreateToken(r.Context(), id, 0)
	if err != nil {
		return nil, err
	}
	return NewToken{Token: t.Reveal(), Expires: time.Now().Add(pki.DefaultTokenLife).UTC()}, nil
}

// Life adds what asks whether the daemon is there, and what ends it.
func Life(mux *http.ServeMux, shutdown func()) {
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, r *http.Request) { Reply(w, nil, nil) })
	mux.HandleFunc("POST /shutdown", func(w http.ResponseWriter, r *http.Request) {
		Reply(w, nil, nil)
		shutdown()
	})
}

// NodeCommands returns the commands that look after storage nodes.
func NodeCommands(dirFlag func(env *proc.Env, fs FlagSet) *string) []proc.Command {
	c := commands{dirFlag}
	return []proc.Command{
		{Name: "node list", Summary: "print the storage nodes as JSON", Run: c.show("node list", "/nodes")},
		{Name: "node run", Args: "NODE [-reason TEXT]", Summary: "let a node take new copies", Run: c.setState("run", fleet.Running)},
		{Name: "node drain", Args: "NODE [-reason TEXT]", Summary: "let a node take no new copies", Run: c.setState("drain", fleet.Draining)},
		{Name: "node evacuate", Args: "NODE", Summary: "give a lost node up and re-create its copies elsewhere", Run: c.evacuate},
		{Name: "node remove", Args: "NODE", Summary: "take an evacuated node out for good", Run: c.remove("node remove", "/nodes/%s", "NODE")},
	}
}

func (c commands) setState(verb string, state fleet.State) func(context.Context, *proc.Env, []string) error {
	return func(ctx context.Context, env *proc.Env, args []string) error {
		fs := proc.Flags(env, "node "+verb)
		dir := c.dirFlag(env, fs)
		reason := fs.String("reason", "", "`text` for other operators")
		args, err := proc.Parse(env, fs, args, "NODE")
		if err != nil {
			return err
		}
		return call(ctx, env, *dir, http.MethodPut, fill("/nodes/%s/state", args), NewState{State: state, Reason: *reason}, nil)
	}
}

func (c commands) evacuate(ctx context.Context, env *proc.Env, args []string) error {
	fs := proc.Flags(env, "node evacuate")
	dir := c.dirFlag(env, fs)
	args, err := proc.Parse(env, fs, args, "NODE")
	if err != nil {
		return err
	}
	var last Evacuation
	err = NewClient(*dir).stream(ctx, http.MethodPost, fill("/nodes/%s/evacuate", args), func(d *json.Decoder) error {
		if err := d.Decode(&last); err != nil {
			return err
		}
		fmt.Fprintf(env.Stderr, "%d objects, %d bytes\n", last.Objects, last.Bytes)
		return nil
	})
	switch {
	case errors.Is(err, ErrNotRunning):
		return fmt.Errorf("%s is not running on %s", env.Name, *dir)
	case err != nil:
		return err
	case last.Error != "":
		return errors.New(last.Error)
	case !last.Done:
		return errors.New("the daemon went away before the evacuation was done")
	}
	return nil
}

// stream calls next for each JSON value of an answer that takes its time.
func (c *Client) stream(ctx context.Context, method, path string, next func(*json.Decoder) error) error {
	return c.do(ctx, method, path, nil, func(body io.Reader) error {
		d := json.NewDecoder(body)
		for {
			if err := next(d); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}

// CreateToken asks for a token that lets a storage node join.
func (c *Client) CreateToken(ctx context.Context, node string) (NewToken, error) {
	var t NewToken
	return t, c.Call(ctx, http.MethodPost, fill("/nodes/%s/token", []string{node}), nil, &t)
}
