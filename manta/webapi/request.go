package webapi

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// A Request is one request on its way through the server, and the answer to it. It belongs to the goroutine that handles it.
type Request struct {
	*http.Request

	ID     string            // x-request-id
	Path   manta.Path        // decoded
	Query  url.Values        // decoded
	Route  *Route            // which was matched
	Params map[string]string // of the route's pattern
	Caller *authcache.Caller
	Owner  *sdc.Account // whose tree the path is in
	Key    manta.Key    // the path as records know it

	// Object and Replaced are noted for the audit: the ids of the object served or stored, and of the one it replaced.
	Object, Replaced string

	s         *Server
	w         http.ResponseWriter
	ctl       *http.ResponseController
	start     time.Time
	clearText bool
	body      body
	status    int // 0 until the head is written
	headAt    time.Time
	sent      int64      // bytes of the answer's body
	values    [16]string // those of the answer's headers, in one piece
	nvalues   int
	breakOff  bool // the connection is of no further use
}

// Context is the request's: it ends when the client goes away.
func (r *Request) Context() context.Context { return r.Request.Context() }

// Answer returns the headers of the answer. Names that are set there go out as they are spelt.
func (r *Request) Answer() http.Header { return r.w.Header() }

// set puts a header in place of any other of its name.
func (r *Request) set(name, value string) {
	if r.nvalues == len(r.values) {
		r.w.Header()[name] = []string{value}
		return
	}
	v := r.values[r.nvalues : r.nvalues+1 : r.nvalues+1]
	v[0] = value
	r.nvalues++
	r.w.Header()[name] = v
}

// WriteHead sends the status and the headers. The body, if any, goes through Write.
func (r *Request) WriteHead(status int) {
	if r.status != 0 {
		return
	}
	r.status, r.headAt = status, time.Now()
	r.set("x-response-time", strconv.FormatInt(r.headAt.Sub(r.start).Milliseconds(), 10))
	r.w.WriteHeader(status)
}

// Write sends bytes of the body. A client that takes none for as long as [Config.IdleTimeout] is given up.
func (r *Request) Write(p []byte) (int, error) {
	r.pushWriteDeadline()
	n, err := r.w.Write(p)
	r.sent += int64(n)
	return n, err
}

func (r *Request) pushWriteDeadline() {
	r.body.pushDeadline(&r.body.writeBy, r.s.cfg.IdleTimeout, r.ctl.SetWriteDeadline)
}

// Empty answers without a body.
func (r *Request) Empty(status int) {
	if status != http.StatusNoContent && status != http.StatusNotModified {
		h := r.Answer()
		if h["Content-Type"] == nil {
			r.set("Content-Type", "application/json")
		}
		if h["Content-Length"] == nil {
			r.set("Content-Length", "0")
		}
	}
	r.WriteHead(status)
}

// JSON answers with a value as JSON.
func (r *Request) JSON(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.blob(status, "application/json", b)
	return nil
}

// Blob answers with a small body, its length and the sum that clients verify.
func (r *Request) Blob(status int, contentType string, b []byte) { r.blob(status, contentType, b) }

// blob answers with a small body whose sum clients verify.
func (r *Request) blob(status int, contentType string, b []byte) {
	sum := md5.Sum(b)
	r.set("Content-Type", contentType)
	r.set("Content-Length", strconv.Itoa(len(b)))
	r.set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
	r.WriteHead(status)
	if r.Method != http.MethodHead {
		r.Write(b)
	}
}

// ReadBody reads all of the request's body, which must not be longer than limit bytes.
func (r *Request) ReadBody(limit int64) ([]byte, error) { return r.body.all(limit) }

// BodyReader returns the request's body as a stream that gives up on clients that stall. Its first Read sends "100 Continue" to those who wait for it.
func (r *Request) BodyReader() io.Reader { return &r.body }

// BodyPatience sets how long the request's body may bring no bytes, in place of [Config.StallTimeout].
func (r *Request) BodyPatience(d time.Duration) { r.body.patience = d }

// Hijack takes the connection over, for protocols other than HTTP. Nothing of this package touches it any more.
func (r *Request) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := r.ctl.Hijack()
	if err == nil {
		r.status, r.headAt = http.StatusSwitchingProtocols, time.Now()
	}
	return c, rw, err
}

// describe sets the headers by which conditions are judged; they are on refusals too.
func (r *Request) describe(e *manta.Entry) {
	if e == nil {
		return
	}
	if etag := e.Etag(); etag != "" {
		r.set("Etag", etag)
	}
	if !e.Mtime.IsZero() && e.Mtime.UnixMilli() != 0 {
		r.set("Last-Modified", e.Mtime.UTC().Format(http.TimeFormat))
	}
}

// header returns a request header, or "".
func (r *Request) header(canonical string) string {
	if v := r.Request.Header[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}
