package door

import (
	"io"
	"net"
	"sync"
)

// listen bounds the connections of a listener and counts their bytes.
func (d *Door) listen(l net.Listener) net.Listener {
	return &listener{Listener: l, d: d, free: make(chan struct{}, d.cfg.MaxConnections), closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	d      *Door
	free   chan struct{} // one for each open connection
	closed chan struct{}
	once   sync.Once
}

// Accept waits until a connection may be opened, then for one.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &conn{Conn: c, l: l}, nil
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// A conn counts what passes.
type conn struct {
	net.Conn
	l    *listener
	once sync.Once
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.d.received.Add(uint64(n))
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.l.d.sent.Add(uint64(n))
	return n, err
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.l.free })
	return err
}

// CloseWrite is what net/http calls so that a program which still sends can read a refusal.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

var _ io.ReadWriteCloser = (*conn)(nil)
