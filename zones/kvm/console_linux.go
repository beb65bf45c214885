package kvm

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"sync"

	"github.com/mobulacloud/mobula/zones"
)

// consoleHistory is how much of what was printed before an attachment sees.
const consoleHistory = 64 << 10

// attachmentBuffer is how far an attachment may fall behind before it is cut off; waiting for it would stop the guest.
const attachmentBuffer = 1 << 20

// console shares the one connection to a machine's first serial port among all who attach.
type console struct {
	conn net.Conn

	mu       sync.Mutex
	history  []byte
	attached map[*attachment]struct{}
	ended    bool
}

func newConsole(conn net.Conn) *console {
	return &console{conn: conn, attached: map[*attachment]struct{}{}}
}

// run reads until the machine ends or the console is closed.
func (c *console) run() {
	buf := make([]byte, 16<<10)
	for {
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		c.history = append(c.history, buf[:n]...)
		if over := len(c.history) - consoleHistory; over > 0 {
			c.history = append(c.history[:0], c.history[over:]...)
		}
		for a := range c.attached {
			if !a.push(buf[:n]) {
				delete(c.attached, a)
			}
		}
		if err != nil {
			c.ended = true
			for a := range c.attached {
				a.end()
			}
			clear(c.attached)
			c.mu.Unlock()
			c.conn.Close()
			return
		}
		c.mu.Unlock()
	}
}

func (c *console) close() { c.conn.Close() }

func (c *console) attach() *attachment {
	a := &attachment{c: c}
	a.more.L = &a.mu
	c.mu.Lock()
	defer c.mu.Unlock()
	a.buf = append(a.buf, c.history...)
	if c.ended {
		a.ended = true
	} else {
		c.attached[a] = struct{}{}
	}
	return a
}

// attachment is one reader and writer of a console.
type attachment struct {
	c     *console
	mu    sync.Mutex
	more  sync.Cond
	buf   []byte
	ended bool
}

func (a *attachment) push(b []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.buf)+len(b) > attachmentBuffer {
		a.ended = true
	} else {
		a.buf = append(a.buf, b...)
	}
	a.more.Broadcast()
	return !a.ended
}

func (a *attachment) end() {
	a.mu.Lock()
	a.ended = true
	a.more.Broadcast()
	a.mu.Unlock()
}

// Read gives what the machine printed, and EOF when it has ended.
func (a *attachment) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.buf) == 0 && !a.ended {
		a.more.Wait()
	}
	if len(a.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, a.buf)
	a.buf = a.buf[n:]
	return n, nil
}

// Write types on the console.
func (a *attachment) Write(p []byte) (int, error) {
	a.mu.Lock()
	ended := a.ended
	a.mu.Unlock()
	if ended {
		return 0, io.ErrClosedPipe
	}
	return a.c.conn.Write(p)
}

// Close detaches.
func (a *attachment) Close() error {
	a.c.mu.Lock()
	delete(a.c.attached, a)
	a.c.mu.Unlock()
	a.mu.Lock()
	a.buf, a.ended = nil, true
	a.more.Broadcast()
	a.mu.Unlock()
	return nil
}

// Console implements zones.Consoler: the first serial port.
func (d *Driver) Console(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	m, err := d.running("console", id)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, zones.OpError("console", id, err)
	}
	return m.console.attach(), nil
}

// MetadataConn implements zones.MetadataSerial: the second serial port.
func (d *Driver) MetadataConn(ctx context.Context, id string) (net.Conn, error) {
	m, err := d.running("metadata", id)
	if err != nil {
		return nil, err
	}
	m.metaMu.Lock()
	defer m.metaMu.Unlock()
	if m.meta != nil {
		m.meta.Close() // QEMU serves one; the next is accepted when it sees this one's end
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(m.rec.RunDir, metadataSocket))
	if err != nil {
		return nil, zones.OpError("metadata", id, err)
	}
	m.meta = conn
	return conn, nil
}
