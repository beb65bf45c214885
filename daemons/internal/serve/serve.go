// Package serve is a daemon's doors: listeners that are opened before anything is made, and servers that drain at the end.
//
// Stability: internal to the daemons.
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// DrainTime is what requests under way get at the end.
const DrainTime = 10 * time.Second

// Doors are the listeners and servers of one daemon. The zero value has none.
type Doors struct {
	open    []net.Listener
	serving []served
}

type served struct {
	listener net.Listener
	server   server
}

// A server is an http.Server, or what behaves as one.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// Listen opens a TCP address, which may have port 0. name is how the user would choose another: a flag or a configuration field.
func (d *Doors) Listen(name, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another program (choose another address with %s, or port 0 for any)", address, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d.open = append(d.open, l)
	return l, nil
}

// Loopback reports whether a listener can be reached from this machine only.
func Loopback(l net.Listener) bool {
	a, ok := l.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// Add puts a server behind a listener.
func (d *Doors) Add(l net.Listener, s server) { d.serving = append(d.serving, served{l, s}) }

// Close closes listeners, for when a start fails.
func (d *Doors) Close() {
	for _, l := range d.open {
		l.Close()
	}
}

// Serve serves until ctx ends or a server fails, then lets requests under way finish, for DrainTime.
func (d *Doors) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var servers sync.WaitGroup
	for _, s := range d.serving {
		servers.Go(func() {
			if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("serve %s: %w", s.listener.Addr(), err))
			}
		})
	}
	<-ctx.Done()
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), DrainTime)
	defer stop()
	var drained sync.WaitGroup
	for _, s := range d.serving {
		drained.Go(func() {
			if s.server.Shutdown(drain) != nil {
				s.server.Close() // those that are still at it have had their time
			}
		})
	}
	drained.Wait()
	servers.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
