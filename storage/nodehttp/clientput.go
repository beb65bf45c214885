package nodehttp

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"

	"github.com/mobulacloud/mobula/storage"
)

func newLineScanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), maxLine)
	return s
}

// Create implements [storage.Node].
func (c *Client) Create(ctx context.Context, id storage.ObjectID, o storage.CreateOptions) (storage.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if id == (storage.ObjectID{}) || o.Size < -1 {
		return nil, fmt.Errorf("%w: create %s, size %d", storage.ErrInvalid, id, o.Size)
	}
	if o.Size >= 0 && o.Size <= smallBody {
		return &smallWriter{c: c, ctx: ctx, id: id, size: o.Size, data: make([]byte, 0, o.Size)}, nil
	}
	w, err := c.stream(ctx, id, o.Size)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", id, err)
	}
	return w, nil
}

// smallWriter keeps the content until Commit.
type smallWriter struct {
	c    *Client
	ctx  context.Context
	id   storage.ObjectID
	size int64
	data []byte
	err  error
	done bool
}

func (w *smallWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, storage.ErrClosed
	}
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil && int64(len(w.data)+len(p)) > w.size {
		w.err = fmt.Errorf("%w: write %s: more than the %d bytes announced", storage.ErrChecksum, w.id, w.size)
	}
	if w.err != nil {
		return 0, w.err
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

func (w *smallWriter) Commit(ctx context.Context, sums storage.Sums) (storage.Info, error) {
	if w.done {
		return storage.Info{}, storage.ErrClosed
	}
	w.done = true
	if w.err != nil {
		return storage.Info{}, w.err
	}
	if got := crc32.Checksum(w.data, castagnoli); int64(len(w.data)) != w.size || sums.Size != w.size || got != sums.CRC32C {
		return storage.Info{}, fmt.Errorf("%w: commit %s: %d bytes with CRC32C %08x came, announced %d, told %d with %08x",
			storage.ErrChecksum, w.id, len(w.data), got, w.size, sums.Size, sums.CRC32C)
	}
	k := w.c.call(ctx, w.c.cfg.AnswerTimeout)
	defer k.end()
	req := k.request(http.MethodPut, "/"+w.id.String(), bytes.NewReader(w.data))
	req.Header.Set(headerMD5, formatMD5(sums.MD5))
	req.Header.Set(headerCRC, formatCRC(sums.CRC32C))
	resp, err := k.do(req)
	if err != nil {
		return storage.Info{}, fmt.Errorf("commit %s: %w", w.id, err)
	}
	resp.Body.Close()
	return readInfo(resp.Header, w.id)
}

func (w *smallWriter) Cancel() { w.done = true; w.data = nil }

// streamWriter sends the content as it comes.
type streamWriter struct {
	k      *call
	id     storage.ObjectID
	size   int64
	n      int64
	pipe   *pipe
	req    *http.Request
	buf    []byte // pieces too small for a chunk of their own
	answer chan putAnswer
	err    error
	done   bool
}

type putAnswer struct {
	header http.Header
	err    error
}

const (
	coalesceBelow = 16 << 10
	coalesceTo    = 64 << 10
)

// stream begins a PUT and returns when the node has agreed.
func (c *Client) stream(ctx context.Context, id storage.ObjectID, size int64) (*streamWriter, error) {
	k := c.call(ctx, c.cfg.AnswerTimeout)
	w := &streamWriter{k: k, id: id, size: size, pipe: newPipe(), answer: make(chan putAnswer, 1)}
	agreed := make(chan struct{}, 1)
	req := k.request(http.MethodPut, "/"+id.String(), nil)
	req = req.WithContext(httptrace.WithClientTrace(k.ctx, &httptrace.ClientTrace{Got100Continue: func() {
		select {
		case agreed <- struct{}{}:
		default:
		}
	}}))
	req.Body = &pipeBody{p: w.pipe}
	req.GetBody = func() (io.ReadCloser, error) { return &pipeBody{p: w.pipe}, nil } // asked for only while nothing has been read
	req.ContentLength = -1
	req.Header.Set("Expect", "100-continue")
	if size >= 0 {
		req.Header.Set(headerSize, strconv.FormatInt(size, 10))
	}
	req.Trailer = http.Header{headerMD5: nil, headerCRC: nil}
	w.req = req
	go func() {
		var a putAnswer
		resp, err := k.do(req)
		if err == nil {
			a.header = resp.Header
			resp.Body.Close()
		}
		a.err = err
		w.answer <- a
		if err == nil {
			err = fmt.Errorf("%w: the node answered before the content was complete", storage.ErrUnavailable)
		}
		w.pipe.fail(err)
	}()
	select {
	case <-agreed:
		k.rest()
		return w, nil
	case a := <-w.answer:
		k.end()
		if a.err == nil {
			a.err = fmt.Errorf("%w: the node answered before it had the content", storage.ErrUnavailable)
		}
		return nil, a.err
	case <-k.ctx.Done():
		err := k.fault(context.Cause(k.ctx))
		w.pipe.fail(err)
		k.end()
		<-w.answer
		return nil, err
	}
}

func (w *streamWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, storage.ErrClosed
	}
	if w.err == nil {
		w.err = w.k.parent.Err()
	}
	if w.err == nil && w.size >= 0 && w.n+int64(len(p)) > w.size {
		w.err = fmt.Errorf("%w: write %s: more than the %d bytes announced", storage.ErrChecksum, w.id, w.size)
	}
	if w.err == nil {
		w.err = w.write(p)
	}
	if w.err != nil {
		return 0, w.err
	}
	w.n += int64(len(p))
	return len(p), nil
}

func (w *streamWriter) write(p []byte) error {
	if len(p) < coalesceBelow {
		if w.buf == nil {
			w.buf = make([]byte, 0, coalesceTo)
		}
		if len(w.buf)+len(p) <= cap(w.buf) {
			w.buf = append(w.buf, p...)
			return nil
		}
	}
	if err := w.pipe.write(w.buf); err != nil {
		return w.broken(err)
	}
	w.buf = w.buf[:0]
	if len(p) < coalesceBelow {
		w.buf = append(w.buf, p...)
		return nil
	}
	return w.broken(w.pipe.write(p))
}

// broken says why the content does not flow any more: what the node answered says more than what the connection did.
func (w *streamWriter) broken(err error) error {
	if err == nil {
		return nil
	}
	w.k.feed(w.k.c.cfg.AnswerTimeout)
	if a := <-w.answer; a.err != nil {
		err = a.err
	}
	w.answer <- putAnswer{err: err}
	return fmt.Errorf("write %s: %w", w.id, err)
}

func (w *streamWriter) Commit(ctx context.Context, sums storage.Sums) (storage.Info, error) {
	if w.done {
		return storage.Info{}, storage.ErrClosed
	}
	defer w.Cancel()
	if w.err != nil {
		return storage.Info{}, w.err
	}
	if err := ctx.Err(); err != nil {
		return storage.Info{}, err
	}
	if w.n != sums.Size || w.size >= 0 && w.n != w.size {
		return storage.Info{}, fmt.Errorf("%w: commit %s: %d bytes came, announced %d, told %d", storage.ErrChecksum, w.id, w.n, w.size, sums.Size)
	}
	if err := w.pipe.write(w.buf); err != nil {
		return storage.Info{}, w.broken(err)
	}
	w.req.Trailer.Set(headerMD5, formatMD5(sums.MD5))
	w.req.Trailer.Set(headerCRC, formatCRC(sums.CRC32C))
	w.k.feed(w.k.c.cfg.AnswerTimeout)
	if err := w.pipe.end(); err != nil {
		return storage.Info{}, w.broken(err)
	}
	select {
	case a := <-w.answer:
		w.answer <- a
		if a.err != nil {
			return storage.Info{}, fmt.Errorf("commit %s: %w", w.id, a.err)
		}
		return readInfo(a.header, w.id)
	case <-ctx.Done():
		return storage.Info{}, fmt.Errorf("commit %s: %w", w.id, ctx.Err())
	}
}

// Cancel breaks the connection, if the put is not over: the node sees a body that ends before its trailers, and keeps nothing.
func (w *streamWriter) Cancel() {
	if w.done {
		return
	}
	w.done = true
	w.pipe.fail(errCancelled)
	w.k.end()
	<-w.answer // the request is over: nothing of it touches the caller's bytes or the node any more
	w.buf = nil
}
