package pki

import (
	"crypto/tls"
	"net"
	"sync"
)

// A Listener accepts TLS connections and knows who is at the other end of each, so that those of a machine that was removed can be ended.
type Listener struct {
	net.Listener
	cfg *tls.Config

	mu    sync.Mutex
	conns map[*known]Identity
}

// known is a connection under TLS.
type known struct {
	net.Conn
	l *Listener
}

func (c *known) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// NewListener speaks TLS on the connections of a listener, by a configuration from [Credentials.Server] or [Credentials.DoorServer].
func NewListener(l net.Listener, cfg *tls.Config) *Listener {
	return &Listener{Listener: l, cfg: cfg, conns: map[*known]Identity{}}
}

// Accept returns the next connection. Its handshake happens with the first use.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	k := &known{Conn: c, l: l}
	cfg := l.cfg.Clone()
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		now, err := l.cfg.GetConfigForClient(hello)
		if err != nil {
			return nil, err
		}
		verify := now.VerifyConnection
		now.VerifyConnection = func(state tls.ConnectionState) error {
			if err := verify(state); err != nil || len(state.PeerCertificates) == 0 {
				return err
			}
			id, err := identityOf(state.PeerCertificates[0])
			if err == nil {
				l.mu.Lock()
				l.conns[k] = id
				l.mu.Unlock()
			}
			return err
		}
		return now, nil
	}
	return tls.Server(k, cfg), nil
}

// End ends the connections of the identities for which gone says so, whatever is under way on them, and returns how many there were. Those that come later
// are the business of whoever accepts them.
func (l *Listener) End(gone func(Identity) bool) int {
	var list []*known
	l.mu.Lock()
	for c, id := range l.conns {
		if gone(id) {
			list = append(list, c)
		}
	}
	l.mu.Unlock()
	for _, c := range list {
		c.Close()
	}
	return len(list)
}
