package sessions

import (
	"context"
	"errors"
	"time"

	"github.com/coder/websocket"
)

// A peer is one side of a session.
type peer struct {
	conn    *websocket.Conn
	plain   bool // messages without prefixes
	silence time.Duration
}

// An ending is how a peer went away.
type ending struct {
	graceful bool
	reason   string
	err      error
}

// send passes a message on. A peer that takes nothing for a while is lost.
func (p *peer) send(ctx context.Context, m message) error {
	if p.plain {
		var ok bool
		if m, ok = toPlain(m); !ok {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.silence)
	defer cancel()
	return p.conn.Write(ctx, m.kind, m.data)
}

// receive hands messages to take until the peer ends.
func (p *peer) receive(ctx context.Context, take func(message) error) ending {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(p.watch(ctx)) }()
	for {
		kind, data, err := p.conn.Read(ctx)
		if closed, ok := errors.AsType[websocket.CloseError](err); ok {
			return ending{graceful: true, reason: closed.Reason, err: err}
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return ending{err: err}
		}
		m := message{kind, data}
		if p.plain {
			m = fromPlain(m)
		}
		if err := take(m); err != nil {
			return ending{err: err}
		}
	}
}

var errSilent = errors.New("sessions: nothing was heard for too long")

// watch pings the peer until ctx ends, or until it has been silent for too long.
func (p *peer) watch(ctx context.Context) error {
	interval := p.silence / 3
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		ping, cancel := context.WithTimeout(ctx, p.silence-interval)
		err := p.conn.Ping(ping)
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.Join(errSilent, err)
		}
	}
}

// end closes the peer with a reason, and waits a moment for its answer.
func (p *peer) end(reason string) {
	_ = p.conn.Close(websocket.StatusNormalClosure, clipReason(reason)) // it is over either way
}
