package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Client is a connection to one QEMU. Its methods may be called from several goroutines.
type Client struct {
	conn    net.Conn
	version Version

	write sync.Mutex

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan message
	err     error // why the connection ended
	done    chan struct{}
}

// ErrClosed: the connection ended, because QEMU did or because Close was called.
var ErrClosed = fmt.Errorf("qmp: %w", net.ErrClosed)

// Connect agrees with the QEMU at the other end. The events function, if not nil, is called for every event, one after the
// other, from a goroutine of the client; it must not wait for the client. The connection is the client's from here on, and
// closed by an error.
func Connect(ctx context.Context, conn net.Conn, events func(Event)) (*Client, error) {
	c := &Client{conn: conn, waiting: map[uint64]chan message{}, done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	in := bufio.NewReaderSize(conn, 64<<10)
	line, err := readLine(in)
	if err == nil {
		var m message
		if m, err = parseMessage(line); err == nil {
			if m.greeting == nil {
				err = fmt.Errorf("%w: no greeting", ErrProtocol)
			} else {
				c.version = *m.greeting
			}
		}
	}
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("qmp greeting: %w", err)
	}
	go c.read(in, events)
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Version is the QEMU's.
func (c *Client) Version() Version { return c.version }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection. QEMU runs on.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

// Execute runs a command with arguments, which marshal to a JSON object or are nil, and unmarshals what it returns to
// result unless that is nil. A failure of the command is an [*Error]. If ctx ends first the command may still be carried
// out.
func (c *Client) Execute(ctx context.Context, command string, arguments, result any) error {
	return c.execute(ctx, command, arguments, nil, result)
}

// ExecuteFile is Execute with a file that goes to QEMU along with the command (getfd, add-fd). The connection must be of a
// unix socket; the file stays the caller's.
func (c *Client) ExecuteFile(ctx context.Context, command string, arguments any, file *os.File, result any) error {
	return c.execute(ctx, command, arguments, file, result)
}

func (c *Client) execute(ctx context.Context, command string, arguments any, file *os.File, result any) error {
	answer := make(chan message, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return fmt.Errorf("%s: %w", command, c.err)
	}
	c.next++
	id := c.next
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	req, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if err := c.send(append(req, '\n'), file); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case m := <-answer:
		if m.err != nil {
			return fmt.Errorf("%s: %w", command, m.err)
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(m.result, result); err != nil {
			return fmt.Errorf("%s: %w: %w", command, ErrProtocol, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, ctx.Err())
	case <-c.done:
		// The answer may have come just before the end.
		select {
		case m := <-answer:
			if m.err == nil && (result == nil || json.Unmarshal(m.result, result) == nil) {
				return nil
			}
		default:
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return fmt.Errorf("%s: %w", command, c.err)
	}
}

func (c *Client) send(line []byte, file *os.File) error {
	c.write.Lock()
	defer c.write.Unlock()
	if file == nil {
		_, err := c.conn.Write(line)
		return err
	}
	u, ok := c.conn.(*net.UnixConn)
	if !ok {
		return errors.New("files need a unix socket")
	}
	// The file rides on the first bytes; a short write sends the rest without it.
	n, _, err := u.WriteMsgUnix(line, syscall.UnixRights(int(file.Fd())), nil)
	if err == nil && n < len(line) {
		_, err = u.Write(line[n:])
	}
	return err
}

func (c *Client) read(in *bufio.Reader, events func(Event)) {
	defer close(c.done)
	for {
		line, err := readLine(in)
		var m message
		if err == nil {
			m, err = parseMessage(line)
		}
		if err != nil {
			c.conn.Close()
			if !errors.Is(err, ErrProtocol) {
				err = ErrClosed
			}
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			return
		}
		switch {
		case m.event != nil && events != nil:
			events(*m.event)
		case m.answer:
			c.mu.Lock()
			answer := c.waiting[m.id]
			delete(c.waiting, m.id)
			c.mu.Unlock()
			if answer != nil {
				answer <- m
			}
		}
	}
}

// readLine reads one message of at most MaxMessage bytes.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > MaxMessage {
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrProtocol, MaxMessage)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}
