package door

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config describes a Door.
type Config struct {
	// Front carries requests to the store's front door, required. An *http.Transport needs an ExpectContinueTimeout: without one, bodies that wait for
	// the store's consent are sent before it is there.
	Front http.RoundTripper
	// FrontURL is the address of the front door, as "https://manta.example"; required.
	FrontURL string

	// Login is the account's, for those who ask about their task.
	Login string
	// Token authenticates the forwarded requests; required. No answer and no log shows it.
	Token string

	// MaxConnections that are open at the same time, beyond which new ones wait; 0 means 512.
	MaxConnections int
	// MaxRequests that are forwarded at the same time, beyond which further ones wait; 0 means 64.
	MaxRequests int

	// Logger hears of requests that broke; nil discards.
	Logger *slog.Logger
}

// LogValue keeps the token out of logs.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(slog.String("front", c.FrontURL), slog.String("login", c.Login))
}

// Limits that need no choice.
const (
	maxHeaderBytes = 64 << 10 // as the front door's
	maxControl     = 64 << 10 // bytes of a control call's body
	headerTimeout  = time.Minute
	idleTimeout    = 2 * time.Minute
	pollTimeout    = 5 * time.Minute // of a wait for a task
)

// A Door serves the programs in one zone. Its methods may be called from several goroutines.
type Door struct {
	cfg   Config
	front *url.URL
	log   *slog.Logger
	proxy *httputil.ReverseProxy
	srv   *http.Server
	slots chan struct{} // one for each request that is forwarded

	received, sent atomic.Uint64 // bytes that programs have sent, and were sent
	perturb        atomic.Uint64 // float64 bits: the share of requests that are to fail

	mu      sync.Mutex
	closed  bool
	task    *session      // nil outside of a task
	changed chan struct{} // closed by the next Begin
}

// New checks the configuration and returns a Door. It does nothing yet.
func New(cfg Config) (*Door, error) {
	u, err := url.Parse(cfg.FrontURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("door: Config.FrontURL %q is not the address of a front door", cfg.FrontURL)
	}
	if cfg.Front == nil {
		return nil, errors.New("door: Config.Front is required")
	}
	if cfg.Token == "" || strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("door: Config.Token is empty or no token")
	}
	if cfg.MaxConnections < 0 || cfg.MaxRequests < 0 {
		return nil, errors.New("door: a limit is negative")
	}
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 512)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Door{cfg: cfg, front: u, log: cfg.Logger, slots: make(chan struct{}, cmp.Or(cfg.MaxRequests, 64)), changed: make(chan struct{})}
	errorLog := slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)
	d.proxy = &httputil.ReverseProxy{
		Rewrite:        d.rewrite,
		ModifyResponse: d.answered,
		ErrorHandler:   d.broke,
		Transport:      carrier{cfg.Front},
		BufferPool:     buffers{},
		ErrorLog:       errorLog,
	}
	d.srv = &http.Server{
		Handler:           http.HandlerFunc(d.serve),
		MaxHeaderBytes:    maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		// No time limits on bodies: a task may take as long as it likes over what it reads and writes.
		ErrorLog: errorLog,
	}
	return d, nil
}

// Serve answers the connections that a listener inside the zone accepts, and returns nil after Close, which closes the listener too.
func (d *Door) Serve(l net.Listener) error {
	err := d.srv.Serve(d.listen(l))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("door: serve: %w", err)
}

// Close ends the task, if there is one, and closes the listeners and all connections. When it returns nothing is forwarded any more. It may be repeated.
func (d *Door) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.End()
	return d.srv.Close()
}

// serve answers one request of a program in the zone.
func (d *Door) serve(w http.ResponseWriter, r *http.Request) {
	// MANTA_URL ends with a slash, so what scripts put together begins with two.
	if verb, ok := strings.CutPrefix(strings.TrimLeft(r.URL.Path, "/"), "my/jobs/task/"); ok {
		d.control(w, r, verb)
		return
	}
	d.forward(w, r)
}

// RoundTrip sends a request of the agent's own on behalf of the stream, as for storing what a task wrote to its stdout: with the job's token, and failing as
// often as perturb asked for. It emits nothing, and is possible outside of a task.
func (d *Door) RoundTrip(req *http.Request) (*http.Response, error) {
	if d.perturbed() {
		if req.Body != nil {
			req.Body.Close()
		}
		body := injected.body()
		return &http.Response{
			Status: "500 Internal Server Error", StatusCode: injected.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Header:        http.Header{"Content-Type": {"application/json"}},
			ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		}, nil
	}
	out := req.Clone(req.Context())
	d.direct(out)
	return d.cfg.Front.RoundTrip(out)
}

// direct sends a request to the front door in the job's name.
func (d *Door) direct(out *http.Request) {
	out.URL.Scheme, out.URL.Host, out.URL.User, out.Host = d.front.Scheme, d.front.Host, nil, ""
	for _, name := range credentials {
		out.Header.Del(name)
	}
	out.Header.Set("Authorization", "Token "+d.cfg.Token)
}

// credentials are headers by which a caller would say who it is.
var credentials = []string{"Authorization", "Proxy-Authorization", "X-Auth-Token", "Cookie"}

// perturbed throws the dice for one request.
func (d *Door) perturbed() bool {
	p := math.Float64frombits(d.perturb.Load())
	return p > 0 && rand.Float64() < p
}

// slot waits until a request may be forwarded.
func (d *Door) slot(ctx context.Context) bool {
	select {
	case d.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// A carrier sees to it that an answer names its request, which not every http.RoundTripper does.
type carrier struct{ front http.RoundTripper }

func (c carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.front.RoundTrip(req)
	if resp != nil {
		resp.Request = req
	}
	return resp, err
}

// buffers are what bodies pass through.
type buffers struct{}

const bufferSize = 64 << 10

var pool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func (buffers) Get() []byte  { return pool.Get().(*[bufferSize]byte)[:] }
func (buffers) Put(b []byte) { pool.Put((*[bufferSize]byte)(b[:bufferSize])) }
