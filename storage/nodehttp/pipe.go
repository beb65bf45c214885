package nodehttp

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// pipe carries content from a writer to the connection without a copy: Write returns once the piece is on its way.
type pipe struct {
	pieces chan []byte   // a nil piece is the end
	taken  chan struct{} // the piece has been written
	broken chan struct{} // closed by fail
	once   sync.Once
	err    error
}

func newPipe() *pipe {
	return &pipe{pieces: make(chan []byte), taken: make(chan struct{}), broken: make(chan struct{})}
}

// fail breaks the pipe for both sides. The first error stays.
func (p *pipe) fail(err error) {
	p.once.Do(func() { p.err = err; close(p.broken) })
}

func (p *pipe) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return p.send(b)
}

// end tells the reader that all has come.
func (p *pipe) end() error { return p.send(nil) }

func (p *pipe) send(b []byte) error {
	select {
	case <-p.broken:
		return p.err
	default:
	}
	select {
	case p.pieces <- b:
	case <-p.broken:
		return p.err
	}
	if b == nil {
		return nil
	}
	// The piece belongs to the reader now. Even if the pipe breaks it must be given back before the caller may touch it again.
	<-p.taken
	select {
	case <-p.broken:
		return p.err
	default:
		return nil
	}
}

// pipeBody is the reading side, as the body of a request.
type pipeBody struct {
	p     *pipe
	took  atomic.Bool // a piece, so that this body cannot be sent again
	own   []byte      // for Read: a copy of what is left of a piece
	ended bool
}

var errCancelled = errors.New("nodehttp: put was cancelled")

// next takes a piece; p.taken has to be told when it is used up.
func (r *pipeBody) next() ([]byte, error) {
	if r.ended {
		return nil, io.EOF
	}
	select {
	case <-r.p.broken:
		return nil, r.p.err
	default:
	}
	select {
	case b := <-r.p.pieces:
		r.took.Store(true)
		if b == nil {
			r.ended = true
			return nil, io.EOF
		}
		return b, nil
	case <-r.p.broken:
		return nil, r.p.err
	}
}

func (r *pipeBody) Read(b []byte) (int, error) {
	if len(r.own) == 0 && len(b) > 0 {
		piece, err := r.next()
		if err != nil {
			return 0, err
		}
		r.own = append(r.own, piece...)
		r.p.taken <- struct{}{}
	}
	n := copy(b, r.own)
	r.own = r.own[n:]
	return n, nil
}

// WriteTo is what net/http uses: a piece becomes a chunk, without a copy.
func (r *pipeBody) WriteTo(w io.Writer) (total int64, err error) {
	for {
		piece, err := r.next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(piece)
		total += int64(n)
		if err != nil {
			r.p.fail(err)
		}
		r.p.taken <- struct{}{}
		if err != nil {
			return total, err
		}
	}
}

// Close is called by net/http when it needs no more, perhaps while it still reads. A body that nothing was taken from may be asked for again.
func (r *pipeBody) Close() error {
	if r.took.Load() {
		r.p.fail(errCancelled)
	}
	return nil
}
