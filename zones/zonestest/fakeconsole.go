package zonestest

import (
	"context"
	"io"
	"os"
	"sync"

	"github.com/mobulacloud/mobula/zones"
)

// consoleWriter is where a machine's own program prints.
type consoleWriter struct{ m *fakeMachine }

const consoleKept = 64 << 10

func (w consoleWriter) Write(b []byte) (int, error) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.m.console = append(w.m.console, b...)
	if n := len(w.m.console); n > consoleKept {
		w.m.console = w.m.console[n-consoleKept:]
	}
	for c := range w.m.watchers {
		c.w.put(b)
	}
	return len(b), nil
}

// fakeConsole is one attachment. What is written to it goes nowhere.
type fakeConsole struct {
	m *fakeMachine
	w *mailbox
}

func (c *fakeConsole) Read(b []byte) (int, error)  { return c.w.Read(b) }
func (c *fakeConsole) Write(b []byte) (int, error) { return len(b), nil }

func (c *fakeConsole) Close() error {
	c.m.mu.Lock()
	delete(c.m.watchers, c)
	c.m.mu.Unlock()
	c.w.fail(os.ErrClosed)
	return nil
}

// Console implements zones.Consoler.
func (f *Fake) Console(_ context.Context, id string) (con io.ReadWriteCloser, err error) {
	err = f.do("console", id, func() error {
		m, err := f.running(id)
		if err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		c := &fakeConsole{m: m, w: newMailbox()}
		c.w.put(m.console)
		m.watchers[c] = true
		if m.hasEnded() {
			c.w.Close()
		}
		con = c
		return nil
	})
	return con, err
}

var _ zones.Consoler = (*Fake)(nil)

// mailbox is a pipe whose writer never waits.
type mailbox struct {
	mu   sync.Mutex
	cond *sync.Cond
	data []byte
	err  error
}

func newMailbox() *mailbox {
	m := new(mailbox)
	m.cond = sync.NewCond(&m.mu)
	return m
}

func (m *mailbox) put(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = append(m.data, b...)
	m.cond.Broadcast()
}

func (m *mailbox) Close() error { m.fail(io.EOF); return nil }

func (m *mailbox) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
	m.cond.Broadcast()
}

func (m *mailbox) Read(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.data) == 0 && m.err == nil {
		m.cond.Wait()
	}
	if len(m.data) == 0 {
		return 0, m.err
	}
	n := copy(b, m.data)
	m.data = m.data[n:]
	return n, nil
}
