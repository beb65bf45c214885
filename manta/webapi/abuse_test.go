package webapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
)

// A wire is a connection on which a test speaks HTTP by hand.
type wire struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func (w *world) dial(t *testing.T) *wire {
	t.Helper()
	c, err := net.Dial("tcp", w.web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{t, c, bufio.NewReader(c)}
}

func (c *wire) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// head sends the head of a signed request.
func (c *wire) head(w *world, method, path string, header ...string) {
	c.t.Helper()
	r := w.request(call{as: "alice", method: method, path: path})
	c.send(method + " " + path + " HTTP/1.1\r\nHost: x\r\nDate: " + r.Header.Get("Date") + "\r\nAuthorization: " + r.Header.Get("Authorization") + "\r\n" +
		strings.Join(append(header, "", ""), "\r\n"))
}

func (c *wire) answer(method string) answer {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read answer: %v", err)
	}
	return answer{resp, readAll(c.t, resp)}
}

// TestContinue: a refusal comes instead of "100 Continue", and 100 only when nothing but the body can go wrong any more.
func TestContinue(t *testing.T) {
	w := newWorld(t, worldOptions{})
	c := w.dial(t)
	c.head(w, "PUT", "/alice/stor/no/x", "Expect: 100-continue", "Content-Length: 5")
	if a := c.answer("PUT"); a.StatusCode != 404 || a.code() != "DirectoryDoesNotExist" {
		t.Errorf("put without a parent: %d %s", a.StatusCode, a.body)
	}
	for _, bad := range [][]string{
		{"Durability-Level: 7"}, {"Content-MD5: x"}, {"Content-Disposition: a/b;"}, {"If-Match: x"}, {"Role-Tag: none"},
	} {
		c := w.dial(t)
		c.head(w, "PUT", "/alice/stor/x", append(bad, "Expect: 100-continue", "Content-Length: 500000")...)
		if a := c.answer("PUT"); a.StatusCode < 400 {
			t.Errorf("%s: %d before the body", bad, a.StatusCode)
		}
	}
	for _, length := range []string{"Content-Length: 5", "Transfer-Encoding: chunked"} {
		c = w.dial(t)
		c.head(w, "PUT", "/alice/stor/x", "Expect: 100-continue", length)
		if a := c.answer("PUT"); a.StatusCode != 100 {
			t.Fatalf("%s: %d instead of 100", length, a.StatusCode)
		}
		if strings.HasPrefix(length, "T") {
			c.send("5\r\nhello\r\n0\r\n\r\n")
		} else {
			c.send("hello")
		}
		if a := c.answer("PUT"); a.StatusCode != 204 || a.Header.Get("Computed-Md5") != sumOf("hello") {
			t.Errorf("%s: %d %v", length, a.StatusCode, a.Header)
		}
		// The connection goes on.
		c.head(w, "GET", "/alice/stor/x")
		if a := c.answer("GET"); a.body != "hello" {
			t.Errorf("%s: then %d %s", length, a.StatusCode, a.body)
		}
	}
}

// TestDrain: a client that sends all of a refused body before it reads gets the answer, and may go on where the body was not too long.
func TestDrain(t *testing.T) {
	w := newWorld(t, worldOptions{config: func(c *Config) { c.MaxDrain = 8 << 20 }})
	for _, size := range []int{1000, 300 << 10, 4 << 20} {
		c := w.dial(t)
		c.head(w, "PUT", "/alice/stor/no/x", fmt.Sprint("Content-Length: ", size))
		c.send(strings.Repeat("x", size))
		if a := c.answer("PUT"); a.code() != "DirectoryDoesNotExist" {
			t.Errorf("%d bytes: %d %s", size, a.StatusCode, a.body)
		}
		c.head(w, "GET", "/alice/stor")
		if a := c.answer("GET"); a.StatusCode != 200 {
			t.Errorf("after %d bytes: %d", size, a.StatusCode)
		}
	}
	c := w.dial(t)
	c.head(w, "PUT", "/alice/stor/no/x", "Content-Length: 999999999")
	if a := c.answer("PUT"); a.code() != "DirectoryDoesNotExist" {
		t.Errorf("a body that is too long: %d %s", a.StatusCode, a.body)
	}
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
}

func TestStall(t *testing.T) {
	w := newWorld(t, worldOptions{config: func(c *Config) { c.StallTimeout = 60 * time.Millisecond }})
	for _, length := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
		c := w.dial(t)
		c.head(w, "PUT", "/alice/stor/x", length)
		if strings.HasPrefix(length, "T") {
			c.send("5\r\nhel")
		} else {
			c.send("hel")
		}
		a := c.answer("PUT")
		if a.StatusCode != 408 || a.code() != "UploadTimeout" || !a.Close {
			t.Errorf("%s: %d %s, close %v", length, a.StatusCode, a.body, a.Close)
		}
	}
	w.want(404, "", call{as: "alice", method: "GET", path: "/alice/stor/x"})
}

// TestBrokenBodies: whatever goes wrong with a body, nothing is stored and the server lives on.
func TestBrokenBodies(t *testing.T) {
	var mu sync.Mutex
	statuses := map[string]int{}
	w := newWorld(t, worldOptions{config: func(c *Config) {
		c.Audit = func(a *Audit) {
			mu.Lock()
			defer mu.Unlock()
			statuses[a.Target] = a.Status
		}
	}})
	for i, test := range []struct {
		header, body string
		status       int // 0: the client goes away instead of reading
	}{
		{"Content-Length: 10", "hello", 0},
		{"Content-Length: 1000000", strings.Repeat("x", 500000), 0},
		{"Transfer-Encoding: chunked", "5\r\nhello\r\n", 0},
		{"Transfer-Encoding: chunked", "5\r\nhe", 0},
		{"Transfer-Encoding: chunked", "zz\r\nhello\r\n0\r\n\r\n", 400},
		{"Transfer-Encoding: chunked", "ffffffffffffffffff\r\nhello", 400},
		{"Transfer-Encoding: chunked", "5\r\nhelloXX5\r\nworld\r\n0\r\n\r\n", 400},
		{"Transfer-Encoding: chunked", "-5\r\nhello\r\n0\r\n\r\n", 400},
	} {
		path := fmt.Sprint("/alice/stor/broken", i)
		c := w.dial(t)
		c.head(w, "PUT", path, test.header)
		c.send(test.body)
		if test.status == 0 {
			c.Close()
			w.await(func() bool { mu.Lock(); defer mu.Unlock(); return statuses[path] != 0 })
			mu.Lock()
			if statuses[path] != 499 {
				t.Errorf("%s %q: audit says %d", test.header, test.body[:min(20, len(test.body))], statuses[path])
			}
			mu.Unlock()
		} else if a := c.answer("PUT"); a.StatusCode != test.status || a.code() != "BadRequest" {
			t.Errorf("%s %q: %d %s", test.header, test.body, a.StatusCode, a.body)
		}
		w.want(404, "", call{as: "alice", method: "GET", path: path})
	}
	w.await(func() bool { return w.storage.Metrics().BytesInFlight == 0 })
	if n := w.objects(); n != 0 {
		t.Errorf("%d copies are stored", n)
	}
	if m := w.Metrics(); m.Working != 0 {
		t.Errorf("%d requests never ended", m.Working)
	}
}

// TestHalfClosed: a client that stops in the middle and still listens is not told that all is well.
func TestHalfClosed(t *testing.T) {
	w := newWorld(t, worldOptions{})
	c := w.dial(t)
	c.head(w, "PUT", "/alice/stor/x", "Content-Length: 10")
	c.send("hello")
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(c.in); strings.Contains(string(b), "HTTP/1.1 2") {
		t.Errorf("half an object is answered with %s", b)
	}
	w.want(404, "", call{as: "alice", method: "GET", path: "/alice/stor/x"})
}

// TestReaderLeaves: a client that goes away in the middle of a download leaves nothing behind.
func TestReaderLeaves(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.put("/alice/stor/big", strings.Repeat("0123456789abcdef", 1<<20))
	for range 5 {
		c := w.dial(t)
		c.head(w, "GET", "/alice/stor/big")
		if _, err := io.ReadFull(c.in, make([]byte, 10000)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	w.await(func() bool { m := w.Metrics(); return m.Working == 0 && m.Reading == 0 })
}

// TestSlowReader: a client that takes nothing is given up.
func TestSlowReader(t *testing.T) {
	w := newWorld(t, worldOptions{config: func(c *Config) { c.IdleTimeout = 200 * time.Millisecond }})
	w.put("/alice/stor/big", strings.Repeat("0123456789abcdef", 1<<20))
	c := w.dial(t)
	c.head(w, "GET", "/alice/stor/big")
	w.await(func() bool { return w.Metrics().Reading == 1 })
	w.await(func() bool { m := w.Metrics(); return m.Working == 0 && m.Reading == 0 })
}

func TestLimits(t *testing.T) {
	w := newWorld(t, worldOptions{config: func(c *Config) { c.MaxConnections = 2 }})
	c := []*wire{w.dial(t), w.dial(t), w.dial(t)}
	for i, c := range c {
		c.head(w, "GET", "/alice/stor")
		a := c.answer("GET")
		if i < 2 && a.StatusCode != 200 || i == 2 && (a.StatusCode != 503 || a.code() != "ThrottledError" || a.Header.Get("Retry-After") == "") {
			t.Errorf("connection %d: %d %s", i, a.StatusCode, a.body)
		}
	}
	for _, c := range c {
		c.Close()
	}
	w.await(func() bool { return w.Metrics().Connections == 0 })
	w.get("/alice/stor")
}

func TestThrottle(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.cfg.MaxRequests = 0
	a := w.want(503, "ThrottledError", call{as: "alice", method: "GET", path: "/alice/stor"})
	checkCommon(t, a)
	w.cfg.MaxRequests = 10
	w.put("/alice/stor/o", "x")
	w.cfg.MaxReads = 0
	w.want(503, "ThrottledError", call{as: "alice", method: "GET", path: "/alice/stor/o"})
}

// TestBusy: uploads beyond what memory is there for are told to come back, before they send anything.
func TestBusy(t *testing.T) {
	w := newWorld(t, worldOptions{inFlight: 1 << 20})
	var held []*wire
	for i := range 64 {
		c := w.dial(t)
		c.head(w, "PUT", fmt.Sprint("/alice/stor/", i), "Expect: 100-continue", "Content-Length: 10000000")
		a := c.answer("PUT")
		if a.StatusCode == 100 {
			c.send(strings.Repeat("x", 300<<10)) // more than one buffer
			held = append(held, c)
			continue
		}
		if a.StatusCode != 503 || a.code() != "ThrottledError" || a.Header.Get("Retry-After") == "" {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
		for _, c := range held {
			c.Close()
		}
		w.await(func() bool { return w.storage.Metrics().BytesInFlight == 0 })
		w.put("/alice/stor/later", "x")
		return
	}
	t.Error("64 uploads of 10 MB at once, with memory for 1 MiB")
}

func TestStorageTrouble(t *testing.T) {
	w := newWorld(t, worldOptions{nodes: 2, capacity: 1 << 20})
	w.put("/alice/stor/o", "precious")
	w.want(507, "NotEnoughSpace", call{as: "alice", method: "PUT", path: "/alice/stor/big", body: strings.Repeat("x", 2<<20)})
	for _, n := range w.nodes {
		n.Kill()
	}
	w.want(503, "InternalError", call{as: "alice", method: "GET", path: "/alice/stor/o"})
	a := w.want(503, "InternalError", call{as: "alice", method: "PUT", path: "/alice/stor/x", body: "x"})
	if a.Header.Get("Retry-After") != "30" {
		t.Errorf("Retry-After: %v", a.Header)
	}
	for _, n := range w.nodes {
		n.Revive()
	}
	if a := w.get("/alice/stor/o"); a.body != "precious" {
		t.Errorf("after the nodes came back: %q", a.body)
	}
	id := storage.ObjectID{Owner: uuid.MustParse(w.uuids["alice"]), Object: uuid.MustParse(w.get("/alice/stor/o").Header.Get("Etag"))}
	for _, n := range w.nodes {
		n.Delete(context.Background(), id)
	}
	a = w.want(500, "InternalError", call{as: "alice", method: "GET", path: "/alice/stor/o"})
	if strings.Contains(a.body, "stor.example") || a.Header.Get("Content-Md5") == sumOf("precious") {
		t.Errorf("a lost object says too much: %s %v", a.body, a.Header)
	}
}

// TestLongWork: deadlines for bytes on the wire do not end a request that works on, nor the answers after it.
func TestLongWork(t *testing.T) {
	const patience = 100 * time.Millisecond
	w := newWorld(t, worldOptions{config: func(c *Config) {
		c.StallTimeout, c.IdleTimeout = patience, 2*patience
		c.Routes = []Route{{Name: "Work", Method: "POST", Pattern: "/:login/work", Handle: func(r *Request) error {
			if _, err := r.ReadBody(100); err != nil {
				return err
			}
			select {
			case <-time.After(3 * patience):
				r.Empty(204)
				return nil
			case <-r.Context().Done():
				return r.Context().Err()
			}
		}}}
	}})
	w.put("/alice/stor/o", "x")
	c := w.dial(t)
	for range 2 {
		c.head(w, "GET", "/alice/stor/o")
		if a := c.answer("GET"); a.StatusCode != 200 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		c.head(w, "POST", "/alice/work", "Content-Length: 4")
		c.send("work")
		if a := c.answer("POST"); a.StatusCode != 204 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
}

func TestPanic(t *testing.T) {
	w := newWorld(t, worldOptions{config: func(c *Config) {
		c.Routes = []Route{{Name: "Boom", Method: "GET", Pattern: "/:login/boom", Handle: func(*Request) error { panic("boom") }}}
	}})
	resp, err := noRedirects.Do(w.request(call{as: "alice", method: "GET", path: "/alice/boom"}))
	if err == nil {
		if b := readAllLoose(resp); resp.StatusCode != 500 || strings.Contains(b, "boom") {
			t.Errorf("panic: %d %s", resp.StatusCode, b)
		}
	}
	w.get("/alice/stor")
}

func readAllLoose(resp *http.Response) string {
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// TestNoLeaks runs a mix of good and bad requests and counts goroutines.
func TestNoLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("traffic", func(t *testing.T) {
		w := newWorld(t, worldOptions{})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 20 {
					path := fmt.Sprintf("/alice/stor/%d-%d", i, j%3)
					w.put(path, strings.Repeat("x", 1+(i*j*5000)%200000))
					w.get(path)
					c := w.dial(t)
					c.head(w, "PUT", path, "Content-Length: 100000")
					c.send("partly")
					c.Close()
				}
			})
		}
		wg.Wait()
		noRedirects.CloseIdleConnections()
	})
	noRedirects.CloseIdleConnections()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range 1000 {
		if runtime.NumGoroutine() <= before+2 {
			return
		}
		<-ticker.C
	}
	buf := make([]byte, 1<<20)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

// TestUnreadable sends what net/http refuses by itself.
func TestUnreadable(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for request, want := range map[string]string{
		"GET /alice/stor/%zz HTTP/1.1\r\nHost: x\r\n\r\n":                                       "400 InvalidResource",
		"GET /alice/stor/% HTTP/1.1\r\nHost: x\r\n\r\n":                                         "400 InvalidResource",
		"GET /alice/stor/%a HTTP/1.1\r\nHost: x\r\n\r\n":                                        "400 InvalidResource",
		"GET /alice/stor/a%0g?x=%20 HTTP/1.1\r\nHost: x\r\n\r\n":                                "400 InvalidResource",
		"PUT /alice/stor/x HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n":                   "411 ContentLengthRequired",
		"PUT /alice/stor/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\n":                   "400 BadRequest",
		"PUT /alice/stor/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n":              "501 NotImplemented",
		"GET /alice/stor HTTP/1.1\r\n\r\n":                                                      "400 BadRequest",
		"GET /alice/stor HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n":                             "400 BadRequest",
		"GET /alice/stor HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("x", 80<<10) + "\r\n\r\n": "431 BadRequest",
		"nonsense\r\n\r\n": "400 BadRequest",
	} {
		c := w.dial(t)
		// A request before it, so that what is remembered is of the right one.
		c.head(w, "GET", "/alice/stor")
		if a := c.answer("GET"); a.StatusCode != 200 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		go io.WriteString(c, request)
		a := c.answer("GET")
		if got := fmt.Sprint(a.StatusCode, " ", a.code()); got != want {
			t.Errorf("%.60q: %s, want %s", request, got, want)
		}
		checkCommon(t, a)
	}
}

// TestConcurrentRequest: a conditional put whose entry changes while its body comes is refused, and its bytes go.
func TestConcurrentRequest(t *testing.T) {
	w := newWorld(t, worldOptions{})
	etag := w.put("/alice/stor/o", "first").Header.Get("Etag")
	c := w.dial(t)
	c.head(w, "PUT", "/alice/stor/o", "Expect: 100-continue", "Content-Length: 6", "If-Match: "+etag)
	if a := c.answer("PUT"); a.StatusCode != 100 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	w.put("/alice/stor/o", "second")
	c.send("third!")
	if a := c.answer("PUT"); a.StatusCode != 409 || a.code() != "ConcurrentRequest" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := w.get("/alice/stor/o"); a.body != "second" {
		t.Errorf("object is %q", a.body)
	}
	if n := w.objects(); n != 4 { // the first, which waits for its grace period, and the second
		t.Errorf("%d copies", n)
	}
}

func TestRequestExpired(t *testing.T) {
	w := newWorld(t, worldOptions{})
	old := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	w.want(400, "RequestExpired", call{method: "GET", path: "/alice/public", header: []string{"Date: " + old}})
	w.want(400, "InvalidHeader", call{method: "GET", path: "/alice/public", header: []string{"Date: yesterday"}})
}

// failing is a store of records that cannot be reached while fail is set.
type failing struct {
	metastore.Store
	fail atomic.Bool
}

func (f *failing) Get(ctx context.Context, bucket string, key metastore.Key) (metastore.Record, error) {
	if f.fail.Load() {
		return metastore.Record{}, metastore.ErrUnavailable
	}
	return f.Store.Get(ctx, bucket, key)
}

func TestRecordsUnavailable(t *testing.T) {
	store := &failing{Store: metastoretest.NewMemory()}
	w := newWorld(t, worldOptions{store: store})
	store.fail.Store(true)
	for _, method := range []string{"GET", "DELETE"} {
		a := w.want(503, "ServiceUnavailable", call{as: "alice", method: method, path: "/alice/stor/o"})
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %v", a.Header)
		}
	}
	w.want(503, "ServiceUnavailable", call{as: "alice", method: "PUT", path: "/alice/stor/o", body: "x"})
	store.fail.Store(false)
	w.put("/alice/stor/o", "x")
}
