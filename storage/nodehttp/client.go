package nodehttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/mobulacloud/mobula/storage"
)

// ClientConfig shapes a [Client].
type ClientConfig struct {
	// URL is where the node is: http or https, host and port, nothing more. Required.
	URL string

	// TLS is for https; for mutual TLS it holds the client's certificate. nil = the system's roots.
	TLS *tls.Config

	// Dial opens connections. nil = TCP with ConnectTimeout.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// ConnectTimeout is the time to reach the node. 0 = 2 s, as the original has it.
	ConnectTimeout time.Duration

	// AnswerTimeout is the time for an answer to begin once the request is sent: for a PUT, for the node to agree and, at Commit, to have it on the disk. 0 = 30 s.
	// Verify and Assemble read all of an object and are bounded by their context alone.
	AnswerTimeout time.Duration

	// Stall is how long the node may take to send or to accept the next piece of a body. 0 = 30 s.
	Stall time.Duration

	// MaxIdle bounds the connections kept open for the next request. 0 = 64.
	MaxIdle int
}

// A Client is a [storage.Node] at the other end of a network. Use [NewClient].
//
// An object of known size up to 64 KiB is sent at Commit, in one round trip: its Create does not ask the node. For all others Create returns when the node has agreed to
// take the object. The context of Create and Open governs the writer and the reader until they are done.
type Client struct {
	base      string
	cfg       ClientConfig
	transport *http.Transport
}

var _ storage.Node = (*Client)(nil)

// NewClient returns a client. It connects when it is used.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: node URL %.100q", storage.ErrInvalid, cfg.URL)
	}
	for _, d := range []*time.Duration{&cfg.ConnectTimeout, &cfg.AnswerTimeout, &cfg.Stall} {
		if *d < 0 {
			return nil, fmt.Errorf("%w: negative timeout", storage.ErrInvalid)
		}
	}
	def := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	def(&cfg.ConnectTimeout, 2*time.Second)
	def(&cfg.AnswerTimeout, 30*time.Second)
	def(&cfg.Stall, 30*time.Second)
	if cfg.MaxIdle <= 0 {
		cfg.MaxIdle = 64
	}
	dial := cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: cfg.ConnectTimeout}).DialContext
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c := &Client{base: u.Scheme + "://" + u.Host, cfg: cfg}
	c.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &stallConn{conn, cfg.Stall}, nil
		},
		TLSClientConfig: cfg.TLS, TLSHandshakeTimeout: 2 * cfg.ConnectTimeout, Protocols: protocols, DisableCompression: true,
		MaxIdleConns: cfg.MaxIdle, MaxIdleConnsPerHost: cfg.MaxIdle, IdleConnTimeout: time.Minute,
		ExpectContinueTimeout: 24 * time.Hour, // no content before the node agrees; AnswerTimeout ends the waiting
		WriteBufferSize:       32 << 10, ReadBufferSize: 32 << 10, MaxResponseHeaderBytes: 32 << 10,
	}
	return c, nil
}

// Close drops idle connections. The client can be used on.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// String returns the node's URL.
func (c *Client) String() string { return c.base }

// stallConn ends a write that the peer does not take.
type stallConn struct {
	net.Conn
	stall time.Duration
}

func (c *stallConn) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(c.stall))
	return c.Conn.Write(p)
}

// errStalled is the cause when our patience ended and not the caller's.
var errStalled = errors.New("no answer in time")

// call is one request under way: the caller's context, and a watchdog that must be fed.
type call struct {
	c      *Client
	ctx    context.Context // ends with the caller's or the watchdog
	parent context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// call begins a request; patience 0 means as long as the caller has.
func (c *Client) call(ctx context.Context, patience time.Duration) *call {
	k := &call{c: c, parent: ctx}
	k.ctx, k.cancel = context.WithCancelCause(ctx)
	if patience > 0 {
		k.timer = time.AfterFunc(patience, func() { k.cancel(errStalled) })
	}
	return k
}

// feed gives the node a new term.
func (k *call) feed(d time.Duration) {
	if k.timer != nil {
		k.timer.Reset(d)
	}
}

// rest stops the watchdog while it is the caller's turn.
func (k *call) rest() {
	if k.timer != nil {
		k.timer.Stop()
	}
}

func (k *call) end() {
	k.rest()
	k.cancel(nil)
}

// fault says what a failure of the network means.
func (k *call) fault(err error) error {
	if perr := k.parent.Err(); perr != nil {
		return perr
	}
	if cause := context.Cause(k.ctx); cause != nil && errors.Is(cause, errStalled) {
		err = cause
	}
	if errors.Is(err, storage.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: node %s: %w", storage.ErrUnavailable, k.c.base, err)
}

func (k *call) request(method, path string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(k.ctx, method, k.c.base+path, body)
	if err != nil {
		panic(err) // all paths are ours
	}
	req.Header.Set(headerRequestID, uuid.NewString())
	// Every change may be repeated safely, so net/http may send it again on a fresh connection if the one it took had been closed by the node.
	req.Header["X-Idempotency-Key"] = nil
	return req
}

// do sends a request and returns its successful answer.
func (k *call) do(req *http.Request) (*http.Response, error) {
	if err := k.parent.Err(); err != nil {
		return nil, err
	}
	resp, err := k.c.transport.RoundTrip(req)
	if err != nil {
		return nil, k.fault(err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, answerError(resp)
}

// simple is a request whose answer has no body.
func (c *Client) simple(ctx context.Context, patience time.Duration, method, path string, body []byte) (http.Header, error) {
	k := c.call(ctx, patience)
	defer k.end()
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	resp, err := k.do(k.request(method, path, r))
	if err != nil {
		return nil, err
	}
	return resp.Header, resp.Body.Close()
}

// Stat implements [storage.Node].
func (c *Client) Stat(ctx context.Context, id storage.ObjectID) (storage.Info, error) {
	h, err := c.simple(ctx, c.cfg.AnswerTimeout, http.MethodHead, "/"+id.String(), nil)
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %s: %w", id, err)
	}
	return readInfo(h, id)
}

// Delete implements [storage.Node].
func (c *Client) Delete(ctx context.Context, id storage.ObjectID) error {
	if _, err := c.simple(ctx, c.cfg.AnswerTimeout, http.MethodDelete, "/"+id.String(), nil); err != nil {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	return nil
}

// Undelete implements [storage.Node].
func (c *Client) Undelete(ctx context.Context, id storage.ObjectID) error {
	if _, err := c.simple(ctx, c.cfg.AnswerTimeout, http.MethodPost, "/mobula/v1/undelete/"+id.String(), nil); err != nil {
		return fmt.Errorf("undelete %s: %w", id, err)
	}
	return nil
}

// Verify implements [storage.Node].
func (c *Client) Verify(ctx context.Context, id storage.ObjectID) (storage.Info, error) {
	h, err := c.simple(ctx, 0, http.MethodPost, "/mobula/v1/verify/"+id.String(), nil)
	if err != nil {
		return storage.Info{}, fmt.Errorf("verify %s: %w", id, err)
	}
	return readInfo(h, id)
}

// Assemble implements [storage.Node].
func (c *Client) Assemble(ctx context.Context, target storage.ObjectID, sources []storage.ObjectID, size int64) (storage.Info, error) {
	if size < 0 || target == (storage.ObjectID{}) {
		return storage.Info{}, fmt.Errorf("%w: assemble %s, size %d", storage.ErrInvalid, target, size)
	}
	req := commitRequest{Version: commitVersion, NBytes: size, Account: target.Owner.String(), ObjectID: target.Object.String(), Parts: make([]string, len(sources))}
	for i, id := range sources {
		if req.Parts[i] = id.String(); id.Owner == target.Owner {
			req.Parts[i] = id.Object.String()
		}
	}
	body, err := json.Marshal(req)
	if err == nil && len(body) > maxCommitRequest {
		err = fmt.Errorf("%w: assemble %s: too many sources: %d", storage.ErrInvalid, target, len(sources))
	}
	if err != nil {
		return storage.Info{}, err
	}
	h, err := c.simple(ctx, 0, http.MethodPost, "/mpu/v1/commit/"+target.Object.String(), body)
	if err != nil {
		return storage.Info{}, fmt.Errorf("assemble %s: %w", target, err)
	}
	return readInfo(h, target)
}

// Usage implements [storage.Node].
func (c *Client) Usage(ctx context.Context) (storage.Usage, error) {
	k := c.call(ctx, c.cfg.AnswerTimeout)
	defer k.end()
	resp, err := k.do(k.request(http.MethodGet, "/mobula/v1/usage", nil))
	if err != nil {
		return storage.Usage{}, fmt.Errorf("usage: %w", err)
	}
	defer resp.Body.Close()
	var w wireUsage
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(&w); err != nil {
		return storage.Usage{}, fmt.Errorf("usage: %w", k.fault(err))
	}
	u := storage.Usage{
		Capacity: w.Capacity, Available: w.Available, Objects: w.Objects, Bytes: w.Bytes, Tombstones: w.Tombstones, Damaged: w.Damaged, ReadOnly: w.ReadOnly,
	}
	if w.OldestUnverified != 0 {
		u.OldestUnverified = time.Unix(0, w.OldestUnverified)
	}
	return u, nil
}

// maxLine bounds a line of a listing.
const maxLine = 64 << 10

// List implements [storage.Node]. The listing flows as fast as the caller takes it.
func (c *Client) List(ctx context.Context, after storage.ObjectID) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		k := c.call(ctx, c.cfg.AnswerTimeout)
		defer k.end()
		err := k.list(after, yield)
		if err != nil {
			yield(storage.Info{}, fmt.Errorf("list: %w", err))
		}
	}
}

func (k *call) list(after storage.ObjectID, yield func(storage.Info, error) bool) error {
	path := "/mobula/v1/objects"
	if after != (storage.ObjectID{}) {
		path += "?after=" + url.QueryEscape(after.String())
	}
	resp, err := k.do(k.request(http.MethodGet, path, nil))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := newLineScanner(resp.Body)
	for {
		k.feed(k.c.cfg.Stall)
		if !lines.Scan() {
			break
		}
		k.rest()
		var w wireInfo
		if err := json.Unmarshal(lines.Bytes(), &w); err != nil {
			return fmt.Errorf("%w: bad line in a listing: %w", storage.ErrUnavailable, err)
		}
		if w.End {
			return nil
		}
		if w.Error != nil {
			return &remoteError{sentinel: errorOf(w.Error.Code), message: fmt.Sprintf("%.300q", w.Error.Message), request: resp.Header.Get(headerRequestID)}
		}
		info, err := w.info()
		if err != nil {
			return err
		}
		if err := k.parent.Err(); err != nil {
			return err
		}
		if !yield(info, nil) {
			return nil
		}
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF // without its last line a listing is not whole
	}
	return k.fault(err)
}
