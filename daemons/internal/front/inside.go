package front

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// InsideURL is the address of the store for parts in the head node's own process.
const InsideURL = "http://store.inside"

// inside is a door of the store that only this process reaches: connections are pipes in memory. Requests pass through the same checks as everybody's.
type inside struct {
	connections chan net.Conn
	closed      chan struct{}
	close       sync.Once
}

func newInside() *inside {
	return &inside{connections: make(chan net.Conn), closed: make(chan struct{})}
}

// transport returns what carries requests to the door.
func (l *inside) transport() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) },
		// Refusals come before a body is read, so it is worth a wait.
		ExpectContinueTimeout: time.Minute, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 64, DisableCompression: true,
		WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
	}
}

func (l *inside) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.connections <- theirs:
		return ours, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	ours.Close()
	theirs.Close()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, net.ErrClosed
}

// Accept implements net.Listener.
func (l *inside) Accept() (net.Conn, error) {
	select {
	case c := <-l.connections:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *inside) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *inside) Addr() net.Addr { return insideAddr{} }

type insideAddr struct{}

func (insideAddr) Network() string { return "pipe" }
func (insideAddr) String() string  { return "inside" }
