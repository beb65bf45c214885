package pki

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// network is listeners by address, joined by pipes, so that everything runs in one bubble.
type network struct {
	mu        sync.Mutex
	listeners map[string]chan net.Conn
}

func newNetwork() *network { return &network{listeners: map[string]chan net.Conn{}} }

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: connection refused", address)
	}
	a, b := newPipe()
	select {
	case l <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipe is an end of a net.Pipe whose Write does not wait for the reader. net/http closes TLS connections, which writes, while it holds a lock, and
// a bubble's clock stands still as long as somebody waits for a lock.
type pipe struct {
	net.Conn
	mu     sync.Mutex
	more   *sync.Cond
	queue  [][]byte
	closed bool
}

func newPipe() (a, b *pipe) {
	ca, cb := net.Pipe()
	a, b = &pipe{Conn: ca}, &pipe{Conn: cb}
	for _, p := range []*pipe{a, b} {
		p.more = sync.NewCond(&p.mu)
		go p.pump()
	}
	return a, b
}

func (p *pipe) pump() {
	defer p.Conn.Close()
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && !p.closed {
			p.more.Wait()
		}
		queue := p.queue
		p.queue = nil
		p.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, b := range queue {
			p.Conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
			if _, err := p.Conn.Write(b); err != nil {
				return
			}
		}
	}
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, net.ErrClosed
	}
	p.queue = append(p.queue, bytes.Clone(b))
	p.more.Signal()
	return len(b), nil
}

func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.more.Signal()
	return nil
}

func (p *pipe) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (n *network) listen(address string) *pipeListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[address] = l.conns
	return l
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// cloud is a head node with its door.
type cloud struct {
	t         *testing.T
	net       *network
	ca        *CA
	head      *Credentials
	authority *Authority
	log       bytes.Buffer
	stop      func()
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{t: t, net: newNetwork()}
	dir := t.TempDir()
	var err error
	if c.ca, err = OpenCA(filepath.Join(dir, "ca")); err != nil {
		t.Fatal(err)
	}
	if c.head, err = c.ca.Credentials(filepath.Join(dir, "head"), Identity{Head, "head0"}); err != nil {
		t.Fatal(err)
	}
	tokens, err := OpenTokenDir(filepath.Join(dir, "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	c.authority = &Authority{CA: c.ca, Tokens: tokens, Logger: slog.New(slog.NewTextHandler(&c.log, nil))}
	stop := c.serve("head:443", c.head.DoorServer(func(Identity) error { return nil }), NewHandler(c.authority))
	c.stop = func() { stop(); tokens.Close() }
	return c
}

// serve runs an HTTPS server until the function that it returns is called.
func (c *cloud) serve(address string, cfg *tls.Config, h http.Handler) func() {
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	l := tls.NewListener(c.net.listen(address), cfg)
	go func() { defer close(done); s.Serve(l) }()
	return func() { s.Close(); <-done }
}

func (c *cloud) join(dir string, token Token) (*Credentials, error) {
	return Join(c.t.Context(), JoinConfig{Dir: dir, Address: "head:443", Token: token, Dial: c.net.dial})
}

func (c *cloud) token(id Identity, life time.Duration) Token {
	c.t.Helper()
	t, err := c.authority.CreateToken(c.t.Context(), id, life)
	if err != nil {
		c.t.Fatal(err)
	}
	return t
}

func (c *cloud) mustJoin(id Identity) *Credentials {
	c.t.Helper()
	creds, err := c.join(c.t.TempDir(), c.token(id, 0))
	if err != nil {
		c.t.Fatal(err)
	}
	return creds
}

// call makes one request under a TLS configuration.
func (c *cloud) call(address string, cfg *tls.Config) error {
	tr := &http.Transport{DialContext: c.net.dial, TLSClientConfig: cfg, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("https://" + address + "/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func bubble(t *testing.T, f func(t *testing.T, c *cloud)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		defer func() {
			c.stop()
			time.Sleep(10 * time.Second) // for what nobody reads any more
		}()
		f(t, c)
	})
}
