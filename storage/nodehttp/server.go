package nodehttp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Server serves a handler to a bounded number of peers and cuts those who are slow with their headers or idle. It is not tied to [Handler], so a daemon can
// mount the handler beside others.
type Server struct {
	// Handler is what is served. Required.
	Handler http.Handler

	// MaxConns bounds the open connections; further ones wait to be accepted. 0 = 2,048.
	MaxConns int

	// HeaderTimeout is the time for the headers of a request. 0 = 10 s.
	HeaderTimeout time.Duration

	// IdleTimeout is how long a connection may be without a request. 0 = 2 min.
	IdleTimeout time.Duration

	// Log gets what net/http complains about. nil = nothing.
	Log *slog.Logger

	once sync.Once
	http *http.Server
}

func (s *Server) init() {
	s.once.Do(func() {
		or := func(d, def time.Duration) time.Duration {
			if d == 0 {
				return def
			}
			return d
		}
		log := s.Log
		if log == nil {
			log = slog.New(slog.DiscardHandler)
		}
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true) // one stream a connection: nodes are near, and HTTP/2 windows slow large bodies down
		s.http = &http.Server{
			Handler: s.Handler, ReadHeaderTimeout: or(s.HeaderTimeout, 10*time.Second), IdleTimeout: or(s.IdleTimeout, 2*time.Minute),
			MaxHeaderBytes: 16 << 10, Protocols: protocols, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
	})
}

// Serve accepts connections until Shutdown or Close, and then returns nil. For TLS, pass a listener that does it, with a configuration that asks for the peer's certificate.
func (s *Server) Serve(l net.Listener) error {
	s.init()
	most := s.MaxConns
	if most == 0 {
		most = 2048
	}
	err := s.http.Serve(&boundedListener{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{})})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting and waits for the requests under way until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	return s.http.Shutdown(ctx)
}

// Close breaks all connections.
func (s *Server) Close() error {
	s.init()
	return s.http.Close()
}

// boundedListener accepts no more than a number of connections at a time.
type boundedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &boundedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	release func()
}

func (c *boundedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
