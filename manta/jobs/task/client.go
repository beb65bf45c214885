package task

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Path is where a [Handler] is mounted on an agent's server.
const Path = "/mobula/v1/tasks"

// Of the request that begins a stream.
const (
	protocol         = "mobula-tasks/1" // value of Upgrade
	headerSupervisor = "Mobula-Supervisor"
)

// ClientConfig shapes a [Client].
type ClientConfig struct {
	// URL is where the agent is: http or https, host and port, nothing more. Required.
	URL string

	// TLS is for https; for mutual TLS it holds the client's certificate. nil = the system's roots.
	TLS *tls.Config

	// Dial opens connections. nil = TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// ConnectTimeout is the time to reach the agent. 0 = 2 s.
	ConnectTimeout time.Duration

	// AnswerTimeout is the time for the agent to agree, which includes the end of an older stream's tasks. 0 = 15 s.
	AnswerTimeout time.Duration
}

// A Client is an [Agent] at the other end of a network. Use [NewClient].
type Client struct {
	base      string
	cfg       ClientConfig
	transport *http.Transport
}

var _ Agent = (*Client)(nil)

// NewClient returns a client. It connects when it is used.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("task: agent URL %.100q", cfg.URL)
	}
	if cfg.ConnectTimeout < 0 || cfg.AnswerTimeout < 0 {
		return nil, errors.New("task: negative timeout")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 2 * time.Second
	}
	if cfg.AnswerTimeout == 0 {
		cfg.AnswerTimeout = 15 * time.Second
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: cfg.ConnectTimeout}).DialContext
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &Client{base: u.Scheme + "://" + u.Host, cfg: cfg, transport: &http.Transport{
		DialContext: cfg.Dial, TLSClientConfig: cfg.TLS, TLSHandshakeTimeout: 2 * cfg.ConnectTimeout, Protocols: protocols,
		DisableCompression: true, DisableKeepAlives: true, WriteBufferSize: 32 << 10, ReadBufferSize: 32 << 10, MaxResponseHeaderBytes: 32 << 10,
	}}, nil
}

// String returns the agent's URL.
func (c *Client) String() string { return c.base }

// Connect implements [Agent]. An agent that cannot be reached, or does not agree, is [ErrUnavailable].
func (c *Client) Connect(ctx context.Context, supervisor string) (Stream, error) {
	if !validName(supervisor) {
		return nil, fmt.Errorf("task: supervisor %.40q: not a name", supervisor)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The request's context lives as long as the stream; the caller's ends the attempt.
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() { end(ctx.Err()) })
	patience := time.AfterFunc(c.cfg.AnswerTimeout, func() { end(errors.New("no answer in time")) })
	s, err := c.connect(life, supervisor)
	if err == nil && !(patience.Stop() && unhook()) {
		s.pipe.close()
		err = context.Cause(life)
	}
	if err == nil {
		s.end = end
		return s, nil
	}
	patience.Stop()
	unhook()
	if cause := context.Cause(life); cause != nil {
		err = cause
	}
	end(nil)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: connect to %s: %w", ErrUnavailable, c.base, err)
}

func (c *Client) connect(ctx context.Context, supervisor string) (*clientStream, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+Path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	req.Header.Set(headerSupervisor, supervisor)
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok || resp.Header.Get("Upgrade") != protocol {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason))
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %s: status %d: %.200q", ErrUnavailable, c.base, resp.StatusCode, text)
	}
	r := bufio.NewReaderSize(conn, 32<<10)
	k, payload, err := readFrame(r)
	s := &clientStream{}
	if err == nil && k != kindHello {
		err = errProtocol
	}
	if err == nil {
		err = json.Unmarshal(payload, &s.hello)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("hello of agent: %w", err)
	}
	s.pipe = newPipe[Order, Report](conn, r, kindOrders, kindReports)
	return s, nil
}

// clientStream is the supervisor's end of a stream over a connection.
type clientStream struct {
	*pipe[Order, Report]
	hello Hello
	end   context.CancelCauseFunc // of the request
}

// Hello implements [Stream].
func (s *clientStream) Hello() Hello { return s.hello }

// Close implements [Stream].
func (s *clientStream) Close() error {
	s.pipe.close()
	s.end(nil)
	return nil
}

// validName accepts names of supervisors: printable ASCII without spaces, 128 characters at most.
func validName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
