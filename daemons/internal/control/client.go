package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mobulacloud/mobula/sdc"
)

// SocketName is the socket's name in a daemon's state directory.
const SocketName = "control.sock"

// ErrNotRunning says that no daemon answers in a state directory.
var ErrNotRunning = errors.New("it is not running")

// Listen opens the socket in a state directory, for the daemon's own user only. What an earlier run left there is replaced; the caller
// must hold the directory's lock.
func Listen(dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// HTTPServer returns the server behind the socket. What is asked for may take as long as it takes: only its owner can ask.
func HTTPServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
}

// A Client calls the API of the daemon in a state directory.
type Client struct {
	http *http.Client
}

// NewClient makes no call.
func NewClient(dir string) *Client {
	return &Client{&http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(dir, SocketName))
		}},
	}}
}

// Call sends a request with a JSON body (nil for none) and decodes the answer into out (nil for none). A refusal is an [*sdc.Error].
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	return c.do(ctx, method, path, in, func(body io.Reader) error {
		if out == nil {
			return nil
		}
		return json.NewDecoder(body).Decode(out)
	})
}

func (c *Client) do(ctx context.Context, method, path string, in any, read func(io.Reader) error) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNotRunning
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return read(resp.Body)
	}
	var r refusal
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	for _, f := range r.Fields {
		r.Message += fmt.Sprintf("; %s: %s", f.Field, f.Message)
	}
	return &sdc.Error{Code: r.Code, Message: r.Message, Status: resp.StatusCode}
}
