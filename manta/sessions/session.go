package sessions

import (
	"context"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// State is how far a session is.
type State string

// States of a session, by the original's names.
const (
	MasterWait  State = "master_wait"
	SlaveWait   State = "slave_wait"
	Forwarding  State = "forwarding"
	Closing     State = "closing"
	PostDestroy State = "post_destroy"
)

// A session joins the two sides of a job.
type session struct {
	id      string
	account string // uuid
	created time.Time

	mu            sync.Mutex
	state         State
	master, slave *peer
	cancel        context.CancelFunc // ends the session
	ready         chan struct{}      // closed when there is a master
	linked        chan struct{}      // closed when there is a slave
	over          chan struct{}      // closed after the end
	shutting      chan struct{}      // closed when both sides were told that the front door closes; nil unless it does
}

func newSession(id, account string, cancel context.CancelFunc) *session {
	return &session{
		id: id, account: account, created: time.Now(), state: MasterWait, cancel: cancel,
		ready: make(chan struct{}), linked: make(chan struct{}), over: make(chan struct{}),
	}
}

// runMaster serves the master until it or the slave ends, or ctx does.
func (s *session) runMaster(ctx context.Context, p *peer, pulse, patience time.Duration) ending {
	s.mu.Lock()
	s.master, s.state = p, SlaveWait
	s.mu.Unlock()
	close(s.ready)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var pulses sync.WaitGroup
	pulses.Go(func() { s.pulse(ctx, p, pulse, patience) })
	defer pulses.Wait()
	defer cancel()
	end := p.receive(ctx, func(m message) error {
		select {
		case <-s.linked:
		default:
			return nil // nobody is there to hear it
		}
		if slave := s.other(true); slave != nil {
			_ = slave.send(ctx, m) // if it is gone, its own side finds out
		}
		return nil
	})
	s.leave(true, end)
	return end
}

// pulse tells the master that it waits, until that makes no sense any more.
func (s *session) pulse(ctx context.Context, p *peer, every, patience time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.linked:
			return
		case <-enough.C:
			p.end("nobody came")
			return
		case <-ticker.C:
			if p.send(ctx, text(waitMessage)) != nil {
				return
			}
		}
	}
}

// reserve makes sure that there is one slave at most. The caller attaches it, or gives the place back with release. A master whose connection is being made is
// waited for.
func (s *session) reserve() error {
	select {
	case <-s.ready:
	case <-s.over:
		return errNone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state == Closing || s.state == PostDestroy:
		return errNone
	case s.slave != nil:
		return errExists
	}
	s.slave = &peer{}
	return nil
}

func (s *session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slave = nil
}

// runSlave serves the slave, whose place is reserved.
func (s *session) runSlave(ctx context.Context, p *peer) ending {
	s.mu.Lock()
	master := s.master
	if s.state != SlaveWait || master == nil {
		s.slave = nil
		s.mu.Unlock()
		p.end("remote connection reset")
		return ending{}
	}
	s.slave, s.state = p, Forwarding
	s.mu.Unlock()
	// The slave hears of it first, and what the master says once it has heard is passed on. One that is gone is found out by its own side.
	_ = p.send(ctx, text(linkupMessage))
	close(s.linked)
	_ = master.send(ctx, text(linkupMessage))
	end := p.receive(ctx, func(m message) error {
		if master := s.other(false); master != nil {
			_ = master.send(ctx, m)
		}
		return nil
	})
	s.leave(false, end)
	return end
}

func (s *session) other(master bool) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if master {
		return s.slave
	}
	return s.master
}

// leave takes a side out and closes the other one.
func (s *session) leave(master bool, end ending) {
	s.mu.Lock()
	first := s.state != Closing
	s.state = Closing
	other := s.slave
	if !master {
		other = s.master
	}
	if master {
		s.master = nil
	} else {
		s.slave = nil
	}
	s.mu.Unlock()
	if !first || other == nil || other.conn == nil {
		return
	}
	switch {
	case end.graceful:
		other.end(end.reason)
	case master:
		other.end("remote connection reset")
	default:
		other.end("remote connection error")
	}
}

// shut ends the session because its front door does.
func (s *session) shut() {
	told := make(chan struct{})
	defer close(told)
	s.mu.Lock()
	peers := []*peer{s.master, s.slave}
	s.state, s.shutting = Closing, told
	s.mu.Unlock()
	var group sync.WaitGroup
	for _, p := range peers {
		if p != nil && p.conn != nil {
			group.Go(func() { _ = p.conn.Close(websocket.StatusGoingAway, "the server is closing") }) // it is over either way
		}
	}
	group.Wait()
	s.cancel()
}

// told waits until both sides have heard that the front door closes, if it does.
func (s *session) told() {
	s.mu.Lock()
	shutting := s.shutting
	s.mu.Unlock()
	if shutting != nil {
		<-shutting
	}
}

// A SessionStatus describes a session, as the original's /status does.
type SessionStatus struct {
	ID        string `json:"id"`
	State     State  `json:"state"`
	HasMaster bool   `json:"has_master"`
	HasSlave  bool   `json:"has_slave"`
	Created   int64  `json:"create_time"` // milliseconds
}

func (s *session) status() SessionStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SessionStatus{s.id, s.state, s.master != nil, s.slave != nil && s.slave.conn != nil, s.created.UnixMilli()}
}
