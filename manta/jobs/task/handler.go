package task

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// HandlerConfig shapes a [Handler].
type HandlerConfig struct {
	// Agent is what is served. Required.
	Agent Agent

	// MaxStreams bounds the streams; more are refused. 0 = 64.
	MaxStreams int

	// Logger hears of streams that begin and end. nil discards.
	Logger *slog.Logger
}

// A Handler serves an [Agent] to its supervisors, at [Path]. It trusts whoever reaches it: the server in front admits only peers of the same authority. Use
// [NewHandler].
type Handler struct {
	cfg  HandlerConfig
	life context.Context
	end  context.CancelFunc

	mu     sync.Mutex
	closed bool
	n      int
	idle   sync.WaitGroup
}

// NewHandler returns the service of an agent.
func NewHandler(cfg HandlerConfig) (*Handler, error) {
	if cfg.Agent == nil || cfg.MaxStreams < 0 {
		return nil, errors.New("task: handler without an agent, or a negative limit")
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{cfg: cfg}
	h.life, h.end = context.WithCancel(context.Background())
	return h, nil
}

// Close ends all streams, waits for that, and takes no more. It may be repeated.
func (h *Handler) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.end()
	h.idle.Wait()
	return nil
}

func (h *Handler) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.n >= h.cfg.MaxStreams {
		return false
	}
	h.n++
	h.idle.Add(1)
	return true
}

func (h *Handler) leave() {
	h.mu.Lock()
	h.n--
	h.mu.Unlock()
	h.idle.Done()
}

// ServeHTTP implements [http.Handler]. It returns when the stream has ended.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	supervisor := r.Header.Get(headerSupervisor)
	switch {
	case r.URL.Path != Path:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet || r.Header.Get("Upgrade") != protocol || !strings.EqualFold(r.Header.Get("Connection"), "upgrade"):
		w.Header().Set("Upgrade", protocol)
		http.Error(w, "this is for "+protocol, http.StatusUpgradeRequired)
		return
	case !validName(supervisor):
		http.Error(w, headerSupervisor+" is not a name", http.StatusBadRequest)
		return
	case !h.enter():
		http.Error(w, "no more streams now", http.StatusServiceUnavailable)
		return
	}
	defer h.leave()
	ctx, cancel := context.WithCancel(r.Context())
	unhook := context.AfterFunc(h.life, cancel)
	stream, err := h.cfg.Agent.Connect(ctx, supervisor)
	unhook()
	cancel()
	if err != nil {
		h.cfg.Logger.WarnContext(h.life, "stream refused", "supervisor", supervisor, "err", err)
		http.Error(w, "no stream now", http.StatusServiceUnavailable)
		return
	}
	defer stream.Close()
	if err := h.serve(w, supervisor, stream); err != nil {
		h.cfg.Logger.InfoContext(h.life, "stream ended", "supervisor", supervisor, "reason", err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, supervisor string, stream Stream) error {
	hello, err := json.Marshal(stream.Hello())
	if err != nil {
		return err
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "not on this connection", http.StatusInternalServerError)
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil { // those of the server
		conn.Close()
		return err
	}
	h.cfg.Logger.InfoContext(h.life, "stream begins", "supervisor", supervisor)
	answer := fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
	_ = conn.SetWriteDeadline(time.Now().Add(Silence))
	if _, err := conn.Write(appendFrame(answer, kindHello, hello)); err != nil {
		conn.Close()
		return err
	}
	_ = conn.SetWriteDeadline(time.Time{})
	reader := rw.Reader
	if reader == nil {
		reader = bufio.NewReader(conn)
	}
	p := newPipe[Report, Order](conn, reader, kindReports, kindOrders)
	ctx, cancel := context.WithCancel(h.life)
	defer cancel()
	var loops sync.WaitGroup
	loops.Go(func() { // orders
		defer cancel()
		for {
			orders, err := p.Receive(ctx)
			if err == nil {
				err = stream.Send(ctx, orders...)
			}
			if err != nil {
				p.bye(err)
				return
			}
		}
	})
	loops.Go(func() { // reports
		defer cancel()
		for {
			reports, err := stream.Receive(ctx)
			if err == nil {
				err = p.Send(ctx, reports...)
			}
			if err != nil {
				p.bye(err)
				return
			}
		}
	})
	<-p.ended
	cancel()
	stream.Close()
	loops.Wait()
	p.close()
	return p.reason
}
