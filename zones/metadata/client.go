package metadata

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// ErrRefused: the host answered FAILURE.
var ErrRefused = errors.New("the host refused")

// Client asks for a zone's metadata from inside it. Its methods may be called from several goroutines; the line is used
// by one at a time.
type Client struct {
	mu   sync.Mutex
	conn io.ReadWriteCloser
	in   *lines
	// wait is how long an answer may take before the request is sent again: a frame that was damaged on the way gets none.
	wait time.Duration
}

// attempts is how often a request is sent before the line is given up.
const attempts = 3

// deadliner is a connection that can be told when to give up; without it a lost answer is waited for until the
// connection ends.
type deadliner interface{ SetReadDeadline(time.Time) error }

// Dial finds the host from inside a zone, by one of [Sockets] or the second serial port, and agrees with it.
func Dial(ctx context.Context) (*Client, error) {
	conn, err := dialHost(ctx)
	if err != nil {
		return nil, err
	}
	return NewClient(ctx, conn)
}

// NewClient agrees on version 2 with the host. The connection is the client's from here on, and closed by an error.
func NewClient(ctx context.Context, conn io.ReadWriteCloser) (*Client, error) {
	c := &Client{conn: conn, in: newLines(conn), wait: 2 * time.Second}
	if err := c.negotiate(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("agree with the metadata host: %w", err)
	}
	return c, nil
}

func (c *Client) negotiate(ctx context.Context) error {
	// An empty line first: a serial line may hold the rest of something else, and the host says so.
	for range attempts {
		if _, err := io.WriteString(c.conn, "\n"); err != nil {
			return err
		}
		if err := c.await(ctx, func(line string) bool { return line == "invalid command" }); err == nil {
			break
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	var refused bool
	for range attempts {
		if _, err := io.WriteString(c.conn, "NEGOTIATE V2\n"); err != nil {
			return err
		}
		err := c.await(ctx, func(line string) bool { refused = line == codeFailure; return refused || line == "V2_OK" })
		if refused {
			return ErrRefused
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return os.ErrDeadlineExceeded
}

// await reads lines until one is taken.
func (c *Client) await(ctx context.Context, take func(line string) bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d, ok := c.conn.(deadliner); ok {
		until := time.Now().Add(c.wait)
		if t, ok := ctx.Deadline(); ok && t.Before(until) {
			until = t
		}
		d.SetReadDeadline(until)
		stop := context.AfterFunc(ctx, func() { d.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	for {
		line, long, err := c.in.next()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		if !long && take(line) {
			return nil
		}
	}
}

// Get answers a key's value; ErrNotFound if there is none.
func (c *Client) Get(ctx context.Context, key string) (string, error) {
	return c.ask(ctx, "GET", key, true)
}

// Keys lists the keys.
func (c *Client) Keys(ctx context.Context) ([]string, error) {
	list, err := c.ask(ctx, "KEYS", "", false)
	if err != nil || list == "" {
		return nil, err
	}
	return strings.Split(list, "\n"), nil
}

// Put sets a key.
func (c *Client) Put(ctx context.Context, key, value string) error {
	_, err := c.ask(ctx, "PUT", putArgument(key, value), true)
	return err
}

// Delete removes a key; one that is not there is no error.
func (c *Client) Delete(ctx context.Context, key string) error {
	_, err := c.ask(ctx, "DELETE", key, true)
	return err
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) ask(ctx context.Context, command, argument string, has bool) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := make([]byte, 4)
	rand.Read(id)
	req := frame{id: hex.EncodeToString(id), code: command, payload: argument, has: has}
	var reply frame
	var err error
	for range attempts {
		if _, err = io.WriteString(c.conn, req.encode()); err != nil {
			break
		}
		err = c.await(ctx, func(line string) bool {
			f, err := parseFrame(line)
			// Anything else is an answer to an earlier request, or an echo of ours.
			if err != nil || f.id != req.id || f.code == command {
				return false
			}
			reply = f
			return true
		})
		if nerr, ok := errors.AsType[net.Error](err); !ok || !nerr.Timeout() || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("ask for metadata: %w", err)
	}
	switch reply.code {
	case codeSuccess:
		return reply.payload, nil
	case codeNotFound:
		return "", ErrNotFound
	}
	return "", fmt.Errorf("%s: %w", command, ErrRefused)
}
