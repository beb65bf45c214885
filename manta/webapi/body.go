package webapi

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/mobulacloud/mobula/manta"
)

// body is a request's body with the server's patience around it. The first read sends "100 Continue" if the client waits for it.
type body struct {
	r       *Request
	src     io.Reader
	got     int64
	begun   bool // a read was tried
	done    bool // EOF was seen
	err     *manta.Error
	readBy  time.Time
	writeBy time.Time

	patience time.Duration // 0 means the server's StallTimeout
}

// pushDeadline moves a deadline of the connection on, though not at every call: that would be a timer operation per buffer.
func (b *body) pushDeadline(by *time.Time, patience time.Duration, set func(time.Time) error) {
	now := time.Now()
	if by.Sub(now) > patience-patience/16 {
		return
	}
	*by = now.Add(patience)
	set(*by) // a writer without deadlines, as in tests, has no slow client either
}

// Read reads on. Any error but EOF is kept in b.err in the form in which it is answered.
func (b *body) Read(p []byte) (int, error) {
	b.pushDeadline(&b.readBy, cmp.Or(b.patience, b.r.s.cfg.StallTimeout), b.r.ctl.SetReadDeadline)
	b.begun = true
	n, err := b.src.Read(p)
	b.got += int64(n)
	if err == io.EOF {
		b.done = true
	} else if err != nil {
		b.err = b.failure(err)
		return n, b.err
	}
	return n, err
}

func (b *body) failure(err error) *manta.Error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := manta.Errorf(http.StatusRequestTimeout, manta.CodeUploadTimeout, "request took too long to send data")
		e.Err = err
		return e
	case errors.Is(err, io.ErrUnexpectedEOF), isDisconnect(err), b.r.Context().Err() != nil:
		e := manta.Errorf(statusAbandoned, manta.CodeUploadAbandoned, "request was aborted prematurely by the client")
		e.Err = err
		return e
	}
	// What is left is chunking that makes no sense.
	e := manta.Errorf(http.StatusBadRequest, manta.CodeBadRequest, "malformed request body")
	e.Err = err
	return e
}

// waiting reports whether the client still waits for "100 Continue", so that it has sent nothing of the body.
func (b *body) waiting() bool {
	return !b.begun && b.r.header("Expect") != ""
}

// drain reads what is left of a refused body, up to a limit, so that a client that only reads after it has sent gets the answer. What is beyond the limit
// ends with the connection.
func (b *body) drain(limit int64) {
	if !b.done && b.r.ContentLength != 0 {
		// One deadline for all of it: an upload that nobody wants is not waited for byte by byte.
		b.r.ctl.SetReadDeadline(time.Now().Add(b.r.s.cfg.IdleTimeout))
		io.CopyN(io.Discard, b.src, limit)
	}
}

// all reads a body of at most limit bytes, for handlers that parse it.
func (b *body) all(limit int64) ([]byte, error) {
	tooLarge := manta.Errorf(http.StatusRequestEntityTooLarge, manta.CodeMaxContentLength, "request has exceeded %d bytes", limit)
	if b.r.ContentLength > limit {
		return nil, tooLarge
	}
	data, err := io.ReadAll(io.LimitReader(b, limit+1))
	if b.err != nil {
		return nil, b.err
	}
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, tooLarge
	}
	return data, nil
}
