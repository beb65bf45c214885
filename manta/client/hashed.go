package client

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"hash"
	"io"
)

// A hashed body sums what is sent, and starts anew when it is rewound for a retry.
type hashed struct {
	r        io.Reader
	md5      hash.Hash
	sent     int64
	progress func(int64)
}

// hashedSeeker is a hashed body that can be rewound. The two are types of their own because the stack asks a body what it can do.
type hashedSeeker struct {
	*hashed
	start int64
}

type requestBody interface {
	io.Reader
	sum() []byte
	// rewind makes the body ready to be sent from its beginning, or says that it cannot be.
	rewind() bool
}

// newHashed wraps a body and finds out its size; -1 means unknown.
func newHashed(r io.Reader, size int64, progress func(int64)) (requestBody, int64, error) {
	if r == nil {
		r = bytes.NewReader(nil)
	}
	if size < 0 {
		return nil, 0, fmt.Errorf("%w: size %d", ErrInput, size)
	}
	h := &hashed{r: r, md5: md5.New(), progress: progress}
	seeker, ok := r.(io.Seeker)
	if !ok {
		if size == 0 {
			size = -1
		}
		return h, size, nil
	}
	start, err := seeker.Seek(0, io.SeekCurrent)
	if err != nil { // a pipe, say: it has the method and cannot do it
		if size == 0 {
			size = -1
		}
		return h, size, nil
	}
	if size == 0 {
		end, err := seeker.Seek(0, io.SeekEnd)
		if err != nil {
			return nil, 0, err
		}
		if _, err := seeker.Seek(start, io.SeekStart); err != nil {
			return nil, 0, err
		}
		size = end - start
	}
	return &hashedSeeker{hashed: h, start: start}, size, nil
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.md5.Write(p[:n])
	h.sent += int64(n)
	if h.progress != nil && n > 0 {
		h.progress(h.sent)
	}
	return n, err
}

func (h *hashed) sum() []byte  { return h.md5.Sum(nil) }
func (h *hashed) rewind() bool { return h.sent == 0 }

// Seek moves to a place relative to where the body began. Only rewinding is asked for in earnest; the rest tells the length.
func (h *hashedSeeker) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		offset += h.start
	}
	pos, err := h.r.(io.Seeker).Seek(offset, whence)
	if err != nil {
		return 0, err
	}
	if pos == h.start {
		h.md5.Reset()
		h.sent = 0
	}
	return pos - h.start, nil
}

func (h *hashedSeeker) rewind() bool {
	_, err := h.Seek(0, io.SeekStart)
	return err == nil
}
