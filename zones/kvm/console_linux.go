package kvm

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// consoleHistory is how much of what was printed before an attachment sees.
const consoleHistory = 64 << 10

// attachmentBuffer is how far an attachment may fall behind before it is cut off; waiting for it would stop the guest.
const attachmentBuffer = 1 << 20

// console shares the one connection to a machine's first serial port among all who attach.
type console struct {
	conn net.Conn
	held *os.File     // the lock that makes it ours
	l    net.Listener // where other processes attach

	mu       sync.Mutex
	history  []byte
	attached map[*attachment]struct{}
	ended    bool
}

// ownConsole makes this process the one that has the machine's console, unless another is: QEMU serves one, so the first
// shares it with the rest over a socket of its own.
func (d *Driver) ownConsole(ctx context.Context, m *machine) (bool, error) {
	m.consoleMu.Lock()
	defer m.consoleMu.Unlock()
	if m.console != nil {
		return true, nil
	}
	held, err := tryLock(filepath.Join(m.rec.RunDir, consoleLock))
	if held == nil || err != nil {
		return false, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(m.rec.RunDir, consoleSocket))
	if err != nil {
		held.Close()
		return false, err
	}
	path := filepath.Join(m.rec.RunDir, sharedSocket)
	if err = os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		var l *net.UnixListener
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err == nil {
			l.SetUnlinkOnClose(false) // the next owner's may be there by then
			m.console = &console{conn: conn, held: held, l: l, attached: map[*attachment]struct{}{}}
			d.watchers.Go(m.console.run)
			d.watchers.Go(m.console.share)
			return true, nil
		}
	}
	conn.Close()
	held.Close()
	return false, err
}

// share serves other processes.
func (c *console) share() {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := c.l.Accept()
		if err != nil {
			return
		}
		a := c.attach()
		wg.Go(func() { // what is printed
			defer conn.Close()
			defer a.Close()
			_, _ = io.Copy(conn, a)
		})
		wg.Go(func() { // what is typed, until either goes
			defer a.Close()
			_, _ = io.Copy(a, conn)
		})
	}
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
			c.l.Close()
			c.held.Close()
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
	m, err := d.machines.Running("console", id)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, zones.OpError("console", id, err)
	}
	for range 50 {
		if ours, err := d.ownConsole(ctx, m); err != nil {
			return nil, zones.OpError("console", id, m.gone(err))
		} else if ours {
			return m.console.attach(), nil
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(m.rec.RunDir, sharedSocket))
		if err == nil {
			return conn, nil
		}
		// Its owner has just gone, or has just come and does not listen yet.
		select {
		case <-ctx.Done():
			return nil, zones.OpError("console", id, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil, zones.OpError("console", id, zones.ErrBusy)
}

// MetadataConn implements zones.MetadataSerial: the second serial port.
func (d *Driver) MetadataConn(ctx context.Context, id string) (net.Conn, error) {
	m, err := d.machines.Running("metadata", id)
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
