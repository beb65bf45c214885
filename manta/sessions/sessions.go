package sessions

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/storage/metastore"
)

// Config describes a Reflector.
type Config struct {
	// Store keeps where sessions are; required.
	Store metastore.Store

	// Job returns the job that a request names in the parameter "id", if the caller may do the route's action on it; required. It is (*jobapi.API).Job.
	Job func(*webapi.Request) (*jobs.Job, error)

	// Address is where other front doors reach this one's Handler, and different for each; a single one needs none.
	Address string

	// Dial connects to the Handler of another front door; nil means that there are none.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	// MaxSessions at a time at this front door, and MaxPerAccount of one account; 0 means 1,024 and 32.
	MaxSessions, MaxPerAccount int

	// MaxMessage is the greatest length of a message in bytes; 0 means 1 MiB.
	MaxMessage int64

	// Pulse is how often a waiting master is told so; 0 means 2 s. Patience is how long one may wait; 0 means 1 h.
	Pulse, Patience time.Duration

	// Silence is how long nothing may be heard of a side; 0 means 30 s.
	Silence time.Duration

	// Logger hears of sessions; nil discards.
	Logger *slog.Logger
}

func (c *Config) check() error {
	if c.Store == nil || c.Job == nil {
		return errors.New("sessions: Config.Store and Job are required")
	}
	if c.MaxSessions < 0 || c.MaxPerAccount < 0 || c.MaxMessage < 0 || c.Pulse < 0 || c.Patience < 0 || c.Silence < 0 {
		return errors.New("sessions: a limit is negative")
	}
	c.MaxSessions = cmp.Or(c.MaxSessions, 1024)
	c.MaxPerAccount = cmp.Or(c.MaxPerAccount, 32)
	c.MaxMessage = cmp.Or(c.MaxMessage, 1<<20)
	c.Pulse = cmp.Or(c.Pulse, 2*time.Second)
	c.Patience = cmp.Or(c.Patience, time.Hour)
	c.Silence = cmp.Or(c.Silence, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Reflector holds sessions. Its methods may be called by any number of goroutines at once.
type Reflector struct {
	cfg Config

	mu       sync.Mutex
	sessions map[string]*session
	closed   bool

	begun, failed atomic.Int64
	piped         atomic.Int64
}

// New checks the configuration and returns a Reflector.
func New(cfg Config) (*Reflector, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Reflector{cfg: cfg, sessions: map[string]*session{}}, nil
}

var (
	errExists  = errors.New("sessions: the job has a session")
	errNone    = errors.New("sessions: the job has no session")
	errTooMany = errors.New("sessions: too many sessions")
	errClosed  = errors.New("sessions: the front door is closing")
)

// Run removes what an earlier process has left, and waits. When ctx ends it ends all sessions, and returns when they are over.
func (r *Reflector) Run(ctx context.Context) error {
	if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
		r.cfg.Logger.Warn("sessions of an earlier process are left", "err", err)
	}
	<-ctx.Done()
	r.mu.Lock()
	r.closed = true
	var all []*session
	for _, s := range r.sessions {
		all = append(all, s)
	}
	r.mu.Unlock()
	for _, s := range all {
		go s.shut()
	}
	for _, s := range all {
		<-s.over
	}
	return ctx.Err()
}

func (r *Reflector) find(id string) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[id]
}

// add makes room for a session.
func (r *Reflector) add(s *session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := 0
	for _, x := range r.sessions {
		if x.account == s.account {
			own++
		}
	}
	switch {
	case r.closed:
		return errClosed
	case r.sessions[s.id] != nil:
		return errExists
	case len(r.sessions) >= r.cfg.MaxSessions || own >= r.cfg.MaxPerAccount:
		return errTooMany
	}
	r.sessions[s.id] = s
	return nil
}

func (r *Reflector) remove(s *session) {
	r.mu.Lock()
	delete(r.sessions, s.id)
	r.mu.Unlock()
	s.mu.Lock()
	s.state = PostDestroy
	s.mu.Unlock()
	close(s.over)
}

// master makes a session, gets its connection by accept, and serves it until the session is over. An error means that there was none.
func (r *Reflector) master(ctx context.Context, id, account string, accept func() (*peer, error)) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := newSession(id, account, cancel)
	if err := r.add(s); err != nil {
		return err
	}
	defer r.remove(s)
	etag, err := r.claim(ctx, id, account)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := r.forget(ctx, id, etag); err != nil {
			r.cfg.Logger.Warn("record of a session is left", "session", id, "err", err)
		}
	}()
	p, err := accept()
	if err != nil {
		return err
	}
	defer p.conn.CloseNow()
	r.begun.Add(1)
	r.cfg.Logger.Info("session begins", "session", id, "account", account)
	end := s.runMaster(ctx, p, r.cfg.Pulse, r.cfg.Patience)
	s.told()
	r.cfg.Logger.Info("session ends", "session", id, "account", account, "graceful", end.graceful, "reason", end.reason, "err", end.err)
	return nil
}

// slave gets the connection of a session's other side and serves it.
func (r *Reflector) slave(s *session, accept func() (*peer, error)) error {
	if err := s.reserve(); err != nil {
		return err
	}
	p, err := accept()
	if err != nil {
		s.release()
		return err
	}
	defer p.conn.CloseNow()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.runSlave(ctx, p)
	return nil
}

// A Status is what a Reflector has, as the original's /status shows it.
type Status struct {
	Health   string `json:"health"`
	Sessions struct {
		Sessions []SessionStatus `json:"sessions"`
	} `json:"sessions"`
}

// Status returns the present sessions, by id.
func (r *Reflector) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Status{Health: "ok"}
	st.Sessions.Sessions = []SessionStatus{}
	for _, s := range r.sessions {
		st.Sessions.Sessions = append(st.Sessions.Sessions, s.status())
	}
	slices.SortFunc(st.Sessions.Sessions, func(a, b SessionStatus) int { return strings.Compare(a.ID, b.ID) })
	return st
}

// Metrics are counters since the Reflector was made.
type Metrics struct {
	Sessions int   // at present
	Begun    int64 // sessions
	Refused  int64 // requests
	Piped    int64 // connections to sessions of other front doors
}

// Metrics returns the present figures.
func (r *Reflector) Metrics() Metrics {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Metrics{len(r.sessions), r.begun.Load(), r.failed.Load(), r.piped.Load()}
}
