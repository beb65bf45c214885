package nodehttp

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/mobulacloud/mobula/storage"
)

func (x *exchange) get(id storage.ObjectID) {
	if x.r.Method == http.MethodHead {
		x.head(id)
		return
	}
	off, n, partial, err := x.wanted(id)
	if err != nil {
		x.refuseRange(id, err)
		return
	}
	r, info, err := x.node.Open(x.ctx(), id, off, n)
	if err != nil {
		if partial && errors.Is(err, storage.ErrInvalid) {
			x.refuseRange(id, err)
			return
		}
		x.fail(err)
		return
	}
	defer r.Close()
	if n < 0 {
		n = info.Size - off
	}
	h := x.w.Header()
	status := http.StatusOK
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Accept-Ranges", "bytes")
	h.Set("Expires", "Thu, 31 Dec 2037 23:55:55 GMT")
	if partial {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, info.Size))
	} else if n == info.Size {
		h.Set(headerMD5, formatMD5(info.MD5))
	}
	writeInfo(h, info)
	if n <= smallBody {
		x.sendSmall(r, status, n)
		return
	}
	x.sendLarge(r, status, n)
}

// sendSmall reads all before it answers, so that damage becomes an error answer.
func (x *exchange) sendSmall(r io.Reader, status int, n int64) {
	b := smallBuffers.Get().(*[smallBody]byte)
	defer smallBuffers.Put(b)
	buf := b[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		x.w.Header().Del(headerMD5)
		x.w.Header().Del("Content-Range")
		x.fail(err)
		return
	}
	h := x.w.Header()
	h.Set(headerSent, formatCRC(crc32.Checksum(buf, castagnoli)))
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	x.w.WriteHeader(status)
	_, _ = x.w.Write(buf)
}

// sendLarge streams. What goes wrong in the middle is told in a trailer to those who accept one; others see the connection break.
func (x *exchange) sendLarge(r io.Reader, status int, n int64) {
	h := x.w.Header()
	trailers := acceptsTrailers(x.r)
	if trailers {
		h.Set("Trailer", headerSent+", "+headerError)
	} else {
		h.Set("Content-Length", strconv.FormatInt(n, 10))
	}
	x.w.WriteHeader(status)
	s := &sender{x: x}
	_, err := io.Copy(s, r)
	if err == nil && s.n != n {
		err = fmt.Errorf("%w: %d bytes instead of %d", storage.ErrUnavailable, s.n, n)
	}
	if err != nil {
		x.h.cfg.Log.ErrorContext(x.ctx(), "answer broke off", "request_id", x.id, "path", x.r.URL.Path, "sent", s.n, "err", err)
	}
	if err != nil && (!trailers || s.failed) {
		panic(http.ErrAbortHandler) // breaks the connection: nobody must take this for a whole body
	}
	if trailers {
		h.Set(headerSent, formatCRC(s.crc))
		if err != nil {
			code, _ := codeOf(err)
			h.Set(headerError, code)
		} else {
			h.Set(headerError, "none")
		}
	}
}

// sender writes a body and sums it up.
type sender struct {
	x      *exchange
	n      int64
	crc    uint32
	failed bool // the peer is gone
}

func (s *sender) Write(p []byte) (int, error) {
	s.x.moving()
	n, err := s.x.w.Write(p)
	s.n += int64(n)
	s.crc = crc32.Update(s.crc, castagnoli, p[:n])
	s.failed = err != nil
	return n, err
}

func acceptsTrailers(r *http.Request) bool {
	for _, te := range r.Header.Values("Te") {
		for t := range strings.SplitSeq(te, ",") {
			if strings.EqualFold(strings.TrimSpace(t), "trailers") {
				return true
			}
		}
	}
	return false
}

func (x *exchange) head(id storage.ObjectID) {
	info, err := x.node.Stat(x.ctx(), id)
	if err != nil {
		x.fail(err)
		return
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(info.Size, 10))
	h.Set(headerMD5, formatMD5(info.MD5))
	x.done(http.StatusOK, info)
}

// wanted reads what part of the object is asked for. partial is a Range of HTTP's, whose answer has its own status.
func (x *exchange) wanted(id storage.ObjectID) (off, n int64, partial bool, err error) {
	if s := x.r.Header.Get(headerRange); s != "" {
		a, b, ok := strings.Cut(s, ",")
		off, err1 := strconv.ParseInt(a, 10, 64)
		n, err2 := strconv.ParseInt(b, 10, 64)
		if !ok || err1 != nil || err2 != nil {
			return 0, 0, false, fmt.Errorf("%w: %s %.60q", storage.ErrInvalid, headerRange, s)
		}
		return off, n, false, nil
	}
	spec := x.r.Header.Get("Range")
	if spec == "" {
		return 0, -1, false, nil
	}
	first, last, ok := parseRange(spec)
	if !ok {
		return 0, -1, false, nil // as HTTP has it, what is not understood is not there
	}
	info, err := x.node.Stat(x.ctx(), id)
	if err != nil {
		return 0, 0, false, err
	}
	switch {
	case first < 0: // the last so many
		first, last = max(0, info.Size-last), info.Size-1
		if last < first {
			return 0, 0, true, errRange
		}
	case first >= info.Size:
		return 0, 0, true, errRange
	case last < 0 || last >= info.Size:
		last = info.Size - 1
	}
	return first, last - first + 1, true, nil
}

var errRange = fmt.Errorf("%w: range not satisfiable", storage.ErrInvalid)

// parseRange reads one range of bytes: FIRST-LAST, FIRST- (last = -1) or -COUNT (first = -1). Several are not understood.
func parseRange(s string) (first, last int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes=")
	a, b, dash := strings.Cut(s, "-")
	if !ok || !dash {
		return 0, 0, false
	}
	number := func(s string) (int64, bool) {
		n, err := strconv.ParseUint(s, 10, 63)
		return int64(n), err == nil && s[0] != '+'
	}
	switch {
	case a == "":
		last, ok = number(b)
		return -1, last, ok
	case b == "":
		first, ok = number(a)
		return first, -1, ok
	}
	first, ok1 := number(a)
	last, ok2 := number(b)
	return first, last, ok1 && ok2 && first <= last
}

// refuseRange answers a range that is not inside the object.
func (x *exchange) refuseRange(id storage.ObjectID, err error) {
	if !errors.Is(err, errRange) {
		x.fail(err)
		return
	}
	if info, serr := x.node.Stat(x.ctx(), id); serr == nil {
		x.w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", info.Size))
	}
	x.w.Header().Set(headerError, "invalid")
	x.failAs(http.StatusRequestedRangeNotSatisfiable, err)
}
