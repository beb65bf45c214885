package webapi

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
)

// Listener wraps a clear-text listener for [Server.HTTPServer], so that requests which net/http refuses before any handler sees them are answered as the
// protocol has it, too: as JSON, with a code. Bad escapes in the path are the usual reason. It is of no use below TLS, where answers pass encrypted.
func (s *Server) Listener(l net.Listener) net.Listener { return &listener{l, s} }

type listener struct {
	net.Listener
	s *Server
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: c, s: l.s}, nil
}

// A plainConn remembers how the present request begins, and puts a proper answer in the place of net/http's own.
type plainConn struct {
	net.Conn
	s     *Server
	state atomic.Int32

	mu   sync.Mutex
	head []byte
}

// States of a plainConn.
const (
	headAhead  = iota // nothing of the next request has been read
	headInside        // a part of its head has
	headPast          // all of its head, or as much as is kept
)

// remembered is how much of a request's head is kept: enough for its line and the usual headers.
const remembered = 8 << 10

func (c *plainConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.state.Load() != headPast {
		c.remember(p[:n])
	}
	return n, err
}

func (c *plainConn) remember(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.CompareAndSwap(headAhead, headInside) {
		c.head = c.head[:0]
	}
	c.head = append(c.head, p[:min(len(p), remembered-len(c.head))]...)
	if len(c.head) == remembered || bytes.Contains(c.head, []byte("\r\n\r\n")) {
		c.state.Store(headPast)
	}
}

// refused matches what net/http writes when it refuses a request by itself. No handler of ours answers with text/plain and nothing else.
var refused = regexp.MustCompile(`^HTTP/1\.1 ([45]\d\d) [^\r\n]*\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n`)

func (c *plainConn) Write(p []byte) (int, error) {
	c.state.Store(headAhead)
	if len(p) < 1024 && (bytes.HasPrefix(p, []byte("HTTP/1.1 4")) || bytes.HasPrefix(p, []byte("HTTP/1.1 5"))) {
		if m := refused.FindSubmatch(p); m != nil {
			status, _ := strconv.Atoi(string(m[1]))
			if _, err := c.Conn.Write(c.refusal(status)); err != nil {
				return 0, err
			}
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
}

// ReadFrom lets the kernel copy where it can.
func (c *plainConn) ReadFrom(r io.Reader) (int64, error) {
	c.state.Store(headAhead)
	if rf, ok := c.Conn.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// CloseWrite is what net/http calls so that a client that still sends can read the refusal.
func (c *plainConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

var (
	badEscape      = regexp.MustCompile(`^\S+ [^ ?]*%(?:[^0-9a-fA-F]|[0-9a-fA-F][^0-9a-fA-F]|.? )`)
	negativeLength = regexp.MustCompile(`(?i)\r\ncontent-length:[ \t]*-`)
)

// refusal makes the answer to a request that net/http could not read.
func (c *plainConn) refusal(status int) []byte {
	c.mu.Lock()
	head := c.head
	e := manta.Errorf(status, manta.CodeBadRequest, "%s", http.StatusText(status))
	switch {
	case status == http.StatusBadRequest && badEscape.Match(head):
		e = manta.Errorf(status, manta.CodeInvalidResource, "the path is invalid")
	case status == http.StatusBadRequest && negativeLength.Match(head):
		e = manta.Errorf(http.StatusLengthRequired, manta.CodeContentLengthRequired, "Content-Length must be >= 0")
	case status == http.StatusNotImplemented:
		e.Code = manta.CodeNotImplemented
	}
	isHead := bytes.HasPrefix(head, []byte("HEAD "))
	c.mu.Unlock()
	body, err := json.Marshal(map[string]string{"code": e.Code, "message": e.Message})
	if err != nil {
		panic(err) // two strings
	}
	sum := md5.Sum(body)
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nServer: %s\r\nDate: %s\r\nx-request-id: %s\r\nx-response-time: 0\r\nx-server-name: %s\r\nConnection: close\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\nContent-MD5: %s\r\n\r\n",
		e.Status, http.StatusText(e.Status), c.s.cfg.Dialect, time.Now().UTC().Format(http.TimeFormat), uuid.NewString(), c.s.cfg.Name, len(body),
		base64.StdEncoding.EncodeToString(sum[:]))
	if !isHead {
		b.Write(body)
	}
	c.s.met.request("", "", e.Status, 0, 0)
	return b.Bytes()
}
