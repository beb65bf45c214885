package webapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
)

// A Server answers the requests of the store's clients. Its methods may be called by any number of goroutines at once.
type Server struct {
	cfg    Config
	log    *slog.Logger
	routes router
	met    metrics

	working     atomic.Int64 // requests under way
	connections atomic.Int64
	unlinkable  map[string]bool
}

// New checks the configuration, with all its problems in one error, and returns a Server.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, unlinkable: map[string]bool{}}
	for _, account := range cfg.SnaplinksDisabled {
		s.unlinkable[account] = true
	}
	s.routes = newRouter(append(append([]Route(nil), cfg.Routes...), s.table()...))
	return s, nil
}

// Routes returns the table by which the server works, without the handlers.
func (s *Server) Routes() []Route {
	var all []Route
	for _, r := range append(append([]Route(nil), s.cfg.Routes...), s.table()...) {
		r.Handle = nil
		all = append(all, r)
	}
	return all
}

// ServeHTTP answers one request that came in on the server's own port.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) { s.serve(w, hr, s.cfg.ClearText) }

// ClearText returns a handler for an unprotected port beside the server's own: it refuses what needs a secure transport.
func (s *Server) ClearText() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) { s.serve(w, hr, true) })
}

func (s *Server) serve(w http.ResponseWriter, hr *http.Request, clearText bool) {
	r := &Request{Request: hr, s: s, w: w, ctl: http.NewResponseController(w), start: time.Now(), clearText: clearText}
	r.body = body{r: r, src: hr.Body}
	r.begin()
	var failure *manta.Error
	defer func() {
		fault := recover()
		if fault != nil && fault != http.ErrAbortHandler {
			s.log.ErrorContext(hr.Context(), "handler panicked", "request_id", r.ID, "method", r.Method, "path", r.Path.String(), "panic", fault)
			if r.status == 0 {
				failure = r.fail(manta.Errorf(http.StatusInternalServerError, manta.CodeInternalError, "an unexpected error occurred"))
			}
			r.breakOff = true
		}
		// Without an answer from here net/http would make one up, and it would be 200.
		r.breakOff = r.breakOff || r.status == 0 || r.status == statusAbandoned
		s.finish(r, failure)
		if fault == http.ErrAbortHandler || r.breakOff {
			panic(http.ErrAbortHandler)
		}
	}()
	defer s.working.Add(-1)
	err := s.dispatch(r, s.working.Add(1))
	if err != nil {
		written := r.status != 0
		failure = r.fail(err)
		r.breakOff = r.breakOff || written
	}
}

// begin sets what is on every answer.
func (r *Request) begin() {
	if r.ID = r.header("X-Request-Id"); r.ID == "" || len(r.ID) > 256 {
		r.ID = uuid.NewString()
	}
	r.set("Server", r.s.cfg.Dialect.String())
	r.set("x-request-id", r.ID)
	r.set("x-server-name", r.s.cfg.Name)
	if strings.HasPrefix(r.header("User-Agent"), "curl") {
		r.set("Connection", "close")
	}
}

// dispatch takes a request through the steps that all have in common, in the original's order, and then to its handler.
func (s *Server) dispatch(r *Request, working int64) (err error) {
	if working > int64(s.cfg.MaxRequests) || overLimit(r.Context()) {
		return throttled()
	}
	raw := rawPath(r.Request)
	if r.Path, err = manta.ParsePath(raw); err != nil {
		return manta.Errorf(http.StatusBadRequest, manta.CodeInvalidResource, "%q is invalid", clip(raw))
	}
	fixContentType(r.Request)
	if r.Route, r.Params, err = s.routes.find(r); err != nil {
		return err
	}
	if r.Route.Open {
		return r.Route.Handle(r)
	}
	if r.Query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return badRequest("query string is malformed")
	}
	if err := r.authenticate(); err != nil {
		return err
	}
	return r.Route.Handle(r)
}

// rawPath returns the path as it was sent, before any decoding. A proxy's form of request has the whole URL.
func rawPath(r *http.Request) string {
	path := r.RequestURI
	if !strings.HasPrefix(path, "/") {
		return r.URL.EscapedPath()
	}
	path, _, _ = strings.Cut(path, "?")
	return path
}

// clip shortens what goes into messages.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

type overLimitKey struct{}

// overLimit reports whether the request's connection is one too many.
func overLimit(ctx context.Context) bool { return ctx.Value(overLimitKey{}) != nil }
