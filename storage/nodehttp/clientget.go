package nodehttp

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"

	"github.com/mobulacloud/mobula/storage"
)

// Open implements [storage.Node].
func (c *Client) Open(ctx context.Context, id storage.ObjectID, off, n int64) (io.ReadCloser, storage.Info, error) {
	r, info, err := c.open(ctx, id, off, n)
	if err != nil {
		return nil, storage.Info{}, fmt.Errorf("open %s: %w", id, err)
	}
	return r, info, nil
}

func (c *Client) open(ctx context.Context, id storage.ObjectID, off, n int64) (_ io.ReadCloser, _ storage.Info, err error) {
	k := c.call(ctx, c.cfg.AnswerTimeout)
	defer func() {
		if err != nil {
			k.end()
		}
	}()
	req := k.request(http.MethodGet, "/"+id.String(), nil)
	req.Header.Set("Te", "trailers")
	if off != 0 || n >= 0 {
		req.Header.Set(headerRange, fmt.Sprintf("%d,%d", off, n))
	}
	resp, err := k.do(req)
	if err != nil {
		return nil, storage.Info{}, err
	}
	info, err := readInfo(resp.Header, id)
	if err != nil {
		resp.Body.Close()
		return nil, storage.Info{}, err
	}
	if n < 0 {
		n = info.Size - off
	}
	k.rest()
	return &bodyReader{k: k, resp: resp, id: id, left: n}, info, nil
}

// bodyReader reads an answer, and believes it to be whole only if the node says so at the end and the check sum of what came agrees.
type bodyReader struct {
	k    *call
	resp *http.Response
	id   storage.ObjectID
	left int64
	crc  uint32
	err  error // sticky
}

func (r *bodyReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.err = r.k.parent.Err(); r.err != nil {
		return 0, r.err
	}
	r.k.feed(r.k.c.cfg.Stall)
	n, err := r.resp.Body.Read(p)
	r.k.rest()
	r.crc = crc32.Update(r.crc, castagnoli, p[:n])
	r.left -= int64(n)
	switch {
	case err == io.EOF:
		r.err = r.whole()
	case err != nil:
		r.err = fmt.Errorf("read %s: %w", r.id, r.k.fault(err))
	}
	return n, r.err
}

// whole looks at how the answer ended. io.EOF is the good end.
func (r *bodyReader) whole() error {
	h := r.resp.Header
	if h.Get(headerSent) == "" { // streamed: it stands behind the body
		h = r.resp.Trailer
		if code := h.Get(headerError); code != "none" && code != "" {
			return &remoteError{sentinel: errorOf(code), message: "the content ends here", request: r.resp.Header.Get(headerRequestID)}
		}
	}
	crc, err := parseCRC(h.Get(headerSent))
	if err != nil || crc != r.crc || r.left != 0 {
		return fmt.Errorf("read %s: %w: node %s: content damaged on the way, %d bytes missing", r.id, storage.ErrUnavailable, r.k.c.base, r.left)
	}
	return io.EOF
}

func (r *bodyReader) Close() error {
	if r.err == nil && r.left == 0 { // all is here but the end: take it, and the connection serves on
		_, _ = r.Read(make([]byte, 1))
	}
	if r.err == nil {
		r.err = storage.ErrClosed
	}
	r.k.end()
	return r.resp.Body.Close()
}
