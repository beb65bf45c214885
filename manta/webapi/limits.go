package webapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
)

// MaxHeaderBytes bounds the request line and headers of a request. It leaves room for a path of 4 KiB in escaped form, 4 KiB of m-* values, a
// signature and a token.
const MaxHeaderBytes = 64 << 10

// HTTPServer returns an http.Server for a listener, with the limits of [Config]. handler is the Server itself, or [Server.ClearText].
func (s *Server) HTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		MaxHeaderBytes:    MaxHeaderBytes,
		ReadHeaderTimeout: s.cfg.IdleTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		// Bodies have deadlines that move with their progress; see body.go.
		ConnContext: s.admit,
		ConnState:   s.track,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// admit counts a connection. One too many is not refused outright: it gets an answer that says so.
func (s *Server) admit(ctx context.Context, _ net.Conn) context.Context {
	if s.connections.Add(1) > int64(s.cfg.MaxConnections) {
		ctx = context.WithValue(ctx, overLimitKey{}, true)
	}
	return ctx
}

// track counts connections that end, or that a handler took over.
func (s *Server) track(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		s.connections.Add(-1)
	}
}
