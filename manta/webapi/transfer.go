package webapi

import (
	"io"
	"sync"
)

// pageFlush is how much of a listing is gathered before it is sent.
const pageFlush = 60 << 10

type bufferPool struct{ sync.Pool }

var pages = &bufferPool{sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}}

func (p *bufferPool) get() *[]byte {
	b := p.Get().(*[]byte)
	*b = (*b)[:0]
	return b
}

func (p *bufferPool) put(b *[]byte) { p.Put(b) }

// outlet is the answer's body. It writes the head with the first bytes.
type outlet struct {
	r      *Request
	status int
}

func (o *outlet) Write(p []byte) (int, error) {
	if o.r.status == 0 {
		o.r.WriteHead(o.status)
	}
	return o.r.Write(p)
}

// copyBody sends an object's bytes. A source that can write its own buffers, as storage/durable's readers do, is asked to.
func copyBody(out *outlet, body io.Reader) error {
	_, err := io.Copy(out, body)
	return err
}

// takeSlot admits a read of an object's bytes, of which each holds buffers.
func (s *Server) takeSlot() bool {
	if s.met.reading.Add(1) > int64(s.cfg.MaxReads) {
		s.met.reading.Add(-1)
		return false
	}
	return true
}

func (s *Server) giveSlot() { s.met.reading.Add(-1) }

// Flush sends what was written so far.
func (r *Request) Flush() { r.ctl.Flush() }
