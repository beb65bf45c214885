package client

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// GetObjectInput names an object and what of it is wanted.
type GetObjectInput struct {
	Path string

	// Offset and Length select a part: Length bytes from Offset on, or all that follows when Length is 0.
	Offset, Length int64

	Conditions
}

// GetObjectOutput is an object that is being read.
type GetObjectOutput struct {
	Info

	// Total is the size of the whole object, while Info.Size is that of the part that was asked for.
	Total int64

	// Body must be closed. When the connection breaks it goes on from the same byte with If-Match; should the object have changed by then, the read ends with
	// ErrPreconditionFailed. When a whole object was asked for its check sum is verified, and the last read ends with ErrChecksum instead of io.EOF if it differs.
	Body io.ReadCloser
}

// GetObject opens an object for reading. A directory is refused: use List.
func (c *Client) GetObject(ctx context.Context, in *GetObjectInput) (*GetObjectOutput, error) {
	if in.Offset < 0 || in.Length < 0 {
		return nil, fmt.Errorf("%w: range %d+%d", ErrInput, in.Offset, in.Length)
	}
	resp, err := c.get(ctx, in, in.Offset, in.Length, in.Conditions)
	if err != nil {
		return nil, err
	}
	out := &GetObjectOutput{Info: *newInfo(in.Path, resp.Header)}
	if out.Directory {
		resp.Body.Close()
		return nil, fmt.Errorf("GetObject %s: %w: it is a directory", in.Path, ErrInput)
	}
	out.Size = resp.ContentLength
	out.Total = out.Size
	whole := in.Offset == 0 && in.Length == 0
	if _, total, ok := strings.Cut(resp.Header.Get("Content-Range"), "/"); ok {
		out.Total, _ = strconv.ParseInt(total, 10, 64)
	}
	b := &objectBody{c: c, ctx: ctx, in: in, etag: out.Etag, cur: resp.Body, off: in.Offset, left: out.Size}
	if whole && len(out.MD5) == md5.Size {
		b.md5, b.want = md5.New(), out.MD5
	}
	out.Body = b
	return out, nil
}

func (c *Client) get(ctx context.Context, in *GetObjectInput, off, n int64, cond Conditions) (*http.Response, error) {
	h := http.Header{}
	cond.set(h)
	switch {
	case n > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		h.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	resp, err := c.invoke(ctx, in, &operation{name: "GetObject", method: http.MethodGet, path: in.Path, header: h, repeatable: true})
	if err == nil && h.Get("Range") != "" && resp.StatusCode != http.StatusPartialContent {
		resp.Body.Close()
		return nil, fmt.Errorf("GetObject %s: the server ignored the range", in.Path)
	}
	return resp, err
}

// objectBody reads an object across broken connections.
type objectBody struct {
	c     *Client
	ctx   context.Context // of the GetObject that opened it: reopening is part of that call
	in    *GetObjectInput
	etag  string
	cur   io.ReadCloser // nil between connections
	off   int64         // next byte of the object
	left  int64         // bytes still to come; -1 when the server did not say
	tries int           // without progress
	md5   hash.Hash     // nil when the check sum is not to be verified
	want  []byte
	err   error // sticky
}

func (b *objectBody) Read(p []byte) (int, error) {
	for b.err == nil {
		if b.left == 0 {
			b.err = b.finish()
			break
		}
		if b.cur == nil {
			if b.err = b.reopen(); b.err != nil {
				break
			}
		}
		n, err := b.cur.Read(p)
		b.off += int64(n)
		if b.left > 0 {
			b.left -= int64(n)
		}
		if b.md5 != nil {
			b.md5.Write(p[:n])
		}
		if n > 0 {
			b.tries = 0
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && b.left <= 0:
			b.left = 0
		case b.etag == "" || b.ctx.Err() != nil:
			b.err = fmt.Errorf("GetObject %s: %w", b.in.Path, err)
		default:
			b.c.o.Logger.Info("object read broke off", "path", b.in.Path, "offset", b.off, "err", err)
			b.cur.Close()
			b.cur = nil
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, b.err
}

func (b *objectBody) reopen() error {
	if b.tries++; b.tries > max(b.c.o.MaxRetries, 0) {
		return fmt.Errorf("GetObject %s: connection broke at byte %d: %w", b.in.Path, b.off, io.ErrUnexpectedEOF)
	}
	resp, err := b.c.get(b.ctx, b.in, b.off, b.left, Conditions{IfMatch: b.etag})
	if err != nil {
		return err
	}
	b.cur = resp.Body
	return nil
}

func (b *objectBody) finish() error {
	if b.md5 != nil && !bytes.Equal(b.md5.Sum(nil), b.want) {
		return fmt.Errorf("GetObject %s: %w", b.in.Path, ErrChecksum)
	}
	return io.EOF
}

func (b *objectBody) Close() error {
	if b.err == nil {
		b.err = errors.New("client: body is closed")
	}
	if b.cur == nil {
		return nil
	}
	cur := b.cur
	b.cur = nil
	return cur.Close()
}
