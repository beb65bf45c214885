package door

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	stdout    = "X-Manta-Stream: stdout"
	directory = "Content-Type: application/json; type=directory"
)

func TestOutsideOfATask(t *testing.T) {
	r, _, _ := realRig(t)
	refused := func(when string) {
		t.Helper()
		for _, path := range []string{"/alice/stor", "/my/jobs/task/commit", "/my/jobs/task/fail", "/my/jobs/task/live", "/my/jobs/task/perturb?p=1"} {
			method := "POST"
			if path == "/alice/stor" {
				method = "GET"
			}
			if status, body := r.do(method, path, ""); status != 409 || !strings.Contains(body, `"message":"invalid zone state"`) {
				t.Errorf("%s: %s %s = %d %s, want 409", when, method, path, status, body)
			}
		}
		r.want(204, "", "GET", "/my/jobs/task/task", "")
	}
	refused("before")
	r.begin("t1")
	r.want(200, `"taskId":"t1"`, "GET", "/my/jobs/task/task", "")
	r.want(200, `"taskId":"t1"`, "GET", "//my/jobs/task/task", "")
	r.want(200, "", "GET", "/alice/stor", "")
	r.want(200, "", "POST", "/my/jobs/task/live", "")
	r.want(405, "", "GET", "/my/jobs/task/live", "")
	r.want(404, "", "POST", "/my/jobs/task/none", "")
	r.End()
	refused("after")
	if res := r.End(); res != (Result{}) {
		t.Errorf("End outside of a task = %+v", res)
	}

	r.begin("t2")
	r.want(204, "", "PUT", "/alice/stor/o", "x", stdout)
	r.want(204, "", "POST", "/my/jobs/task/commit", `{"key":"/alice/stor/in"}`, "Content-Type: application/json")
	<-r.ended
	refused("after commit")
	if res := r.End(); !res.Committed || res.Failed != nil || res.Emitted != 1 {
		t.Errorf("End after commit = %+v", res)
	}
}

func TestFail(t *testing.T) {
	long := strings.Repeat("ä", maxMessage)
	tests := []struct {
		name, body, contentType string
		want                    Failure
	}{
		{"nothing", "", "", Failure{"UserTaskError", "no message given"}},
		{"form", "a=b", "application/x-www-form-urlencoded", Failure{"UserTaskError", "no message given"}},
		{"both", `{"error":{"code":"MyError","message":"was\nwrong"}}`, "application/json", Failure{"MyError", "was\nwrong"}},
		{"other types", `{"error":{"code":7,"message":["x"]}}`, "application/json", Failure{"UserTaskError", "no message given"}},
		{"error of another type", `{"error":7}`, "application/json", Failure{"UserTaskError", "no message given"}},
		{"bad code", `{"error":{"code":"a b","message":"m"}}`, "application/json; charset=utf-8", Failure{"UserTaskError", "m"}},
		{"long", `{"error":{"message":"` + long + `"}}`, "application/json", Failure{"UserTaskError", long[:maxMessage]}},
	}
	r, _, _ := realRig(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.begin(tt.name)
			if status, body := r.do("POST", "/my/jobs/task/fail", tt.body, "Content-Type: "+tt.contentType); status != 204 {
				t.Errorf("fail = %d %s", status, body)
			}
			<-r.ended
			res := r.End()
			if res.Committed || res.Failed == nil {
				t.Fatalf("End() = %+v, want a failure", res)
			}
			if diff := cmp.Diff(tt.want, *res.Failed); diff != "" {
				t.Error(diff)
			}
		})
	}
	r.begin("bad")
	r.want(400, "InvalidContent", "POST", "/my/jobs/task/fail", "{", "Content-Type: application/json")
	r.want(413, "RequestTooLarge", "POST", "/my/jobs/task/fail", strings.Repeat("x", maxControl+1))
	if res := r.End(); res.Failed != nil {
		t.Errorf("a call that was refused ended the task: %+v", res.Failed)
	}
}

func TestWaitForATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := New(Config{Front: front(nil), FrontURL: "http://store", Login: "alice", Token: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		ask := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			d.serve(w, httptest.NewRequest("GET", "/my/jobs/task/task?wait=true", nil))
			return w
		}
		start := time.Now()
		if w := ask(); w.Code != 204 || time.Since(start) != pollTimeout {
			t.Errorf("answer %d after %v, want 204 after %v", w.Code, time.Since(start), pollTimeout)
		}
		go func() {
			time.Sleep(time.Minute)
			d.Begin(Task{ID: "t1", About: map[string]int{"n": 1}})
		}()
		start = time.Now()
		if w := ask(); w.Code != 200 || w.Body.String() != `{"n":1}` || time.Since(start) != time.Minute {
			t.Errorf("answer %d %s after %v, want the task after a minute", w.Code, w.Body, time.Since(start))
		}
	})
}

func TestPerturb(t *testing.T) {
	r, s, _ := realRig(t)
	r.begin("t1")
	for _, bad := range []string{"?p=x", "?p=NaN", "?p=", "", "?p=1.1", "?p=-0.1", "?p=Inf"} {
		r.want(409, "InvalidArgument", "POST", "/my/jobs/task/perturb"+bad, "")
	}
	r.want(200, "", "GET", "/alice/stor", "")
	r.want(204, "", "POST", "/my/jobs/task/perturb", "p=1", "Content-Type: application/x-www-form-urlencoded")
	r.want(500, "injected failure", "GET", "/alice/stor", "")
	own := func() int {
		req, _ := http.NewRequest("PUT", s.URL+"/alice/stor/stdout", strings.NewReader("out"))
		resp, err := r.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := own(); got != 500 {
		t.Errorf("the agent's own request = %d, want 500", got)
	}
	r.End()
	r.begin("t2") // of the same stream
	r.want(500, "injected failure", "GET", "/alice/stor", "")
	r.want(204, "", "POST", "/my/jobs/task/perturb?p=0", "")
	if got := own(); got != 204 {
		t.Errorf("the agent's own request = %d, want 204", got)
	}
	if len(r.taken()) != 0 || r.End().ExplicitStdout {
		t.Error("the agent's own request counts as the program's")
	}
}

// What is under way when a task ends counts for none: not for that task, and not for the one after it.
func TestEndBreaksOff(t *testing.T) {
	stuck := make(chan struct{}, 8)
	r := newRig(t, Config{FrontURL: "http://store", Token: "secret", Front: front(func(req *http.Request) (*http.Response, error) {
		stuck <- struct{}{}
		switch req.URL.Path {
		case "/wait": // for the end of the request
			<-req.Context().Done()
			return nil, req.Context().Err()
		case "/late": // says yes when it is too late
			<-req.Context().Done()
			return reply(204, strings.NewReader("")), nil
		case "/endless":
			return reply(200, zeros{}), nil
		}
		_, err := io.Copy(io.Discard, req.Body)
		return reply(204, strings.NewReader("")), err
	})})
	r.begin("t1")
	for _, text := range []string{
		"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n",
		"PUT /late HTTP/1.1\r\nHost: x\r\nX-Manta-Stream: stdout\r\nContent-Length: 0\r\n\r\n",
		"PUT /body HTTP/1.1\r\nHost: x\r\nX-Manta-Stream: stdout\r\nContent-Length: 10\r\n\r\nhalf",
		"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", // and never reads the answer
	} {
		io.WriteString(r.dial(), text)
		<-stuck
	}
	res := r.End()
	if res.Emitted != 0 || !res.ExplicitStdout {
		t.Errorf("End() = %+v, want no output, though one was tried", res)
	}
	r.begin("t2")
	if e := r.taken(); len(e) != 0 {
		t.Errorf("emitted %v", e)
	}
	if res := r.End(); res.Emitted != 0 || res.ExplicitStdout {
		t.Errorf("End() of the next task = %+v", res)
	}
}

// Outputs are told before the program has its answer, and End waits for the telling.
func TestEmitGoesFirst(t *testing.T) {
	r := newRig(t, Config{FrontURL: "http://store", Token: "secret", Front: front(func(*http.Request) (*http.Response, error) {
		return reply(204, strings.NewReader("")), nil
	})})
	inside, release := make(chan struct{}), make(chan struct{})
	var told atomic.Int32
	r.Begin(Task{ID: "t", Emit: func(Emitted) { close(inside); <-release; told.Add(1) }})
	io.WriteString(r.dial(), "PUT /a HTTP/1.1\r\nHost: x\r\nX-Manta-Stream: stdout\r\nX-Manta-Reference: true\r\nContent-Length: 0\r\n\r\n")
	<-inside
	ended := make(chan Result)
	go func() { ended <- r.End() }()
	select {
	case <-ended:
		t.Error("End returned while an output was being told")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if res := <-ended; res.Emitted != 1 || told.Load() != 1 {
		t.Errorf("End() = %+v, %d told", res, told.Load())
	}
}

func TestExpectContinue(t *testing.T) {
	r, s, c := realRig(t)
	r.begin("t1")
	send := func(path string) (first string, br *bufio.Reader, conn net.Conn) {
		conn = r.dial()
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", path)
		br = bufio.NewReader(conn)
		first, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(first), br, conn
	}
	if line, _, _ := send("/alice/stor/none/x"); line != "HTTP/1.1 404 Not Found" {
		t.Errorf("a refusal begins with %q: the body was asked for, or lost", line)
	}
	line, br, conn := send("/alice/stor/x")
	if line != "HTTP/1.1 100 Continue" {
		t.Fatalf("first line %q", line)
	}
	br.ReadString('\n')
	io.WriteString(conn, "hello")
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 204 {
		t.Fatalf("answer %v, %v", resp, err)
	}
	if got := s.Get(c, "/alice/stor/x"); got != "hello" {
		t.Errorf("stored %q", got)
	}
}

func TestUpgrade(t *testing.T) {
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Authorization") != "Token secret" {
			w.WriteHeader(400)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(conn, rw)
	}))
	defer back.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	r := newRig(t, Config{FrontURL: back.URL, Token: "secret", Front: tr})
	r.begin("t1")
	conn := r.dial()
	io.WriteString(conn, "GET /alice/medusa/attach/1/slave HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("answer %v, %v", resp, err)
	}
	big := strings.Repeat("0123456789", 100_000)
	go io.WriteString(conn, big)
	got := make([]byte, len(big))
	if _, err := io.ReadFull(br, got); err != nil || string(got) != big {
		t.Fatalf("echo: %v", err)
	}
	res := r.End()
	if res.InBytes < uint64(len(big)) || res.OutBytes < uint64(len(big)) {
		t.Errorf("counted %d and %d bytes of %d", res.InBytes, res.OutBytes, len(big))
	}
	if _, err := br.ReadByte(); err == nil {
		t.Error("the connection outlived the task")
	}
}

func TestUpgrade_otherProtocols(t *testing.T) {
	r := newRig(t, Config{FrontURL: "http://store", Token: "secret", Front: front(func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("Upgrade") != "" || req.Header.Get("Connection") != "" {
			t.Errorf("asked the store for %q", req.Header)
		}
		return reply(204, strings.NewReader("")), nil
	})})
	r.begin("t1")
	r.want(204, "", "GET", "/alice/stor", "", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
}

// Programs that close their connection in the middle of a download are common: curl … | head.
func TestAbortedDownloads(t *testing.T) {
	var open atomic.Int64
	r := newRig(t, Config{FrontURL: "http://store", Token: "secret", MaxRequests: 4, Front: front(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/fine" {
			return reply(200, strings.NewReader("fine")), nil
		}
		open.Add(1)
		resp := reply(200, zeros{})
		resp.Body = closer{zeros{}, func() { open.Add(-1) }}
		return resp, nil
	})})
	r.begin("t1")
	r.want(200, "fine", "GET", "/fine", "")
	before := runtime.NumGoroutine()
	for range 100 {
		conn := r.dial()
		io.WriteString(conn, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
		conn.Read(make([]byte, 1000))
		conn.Close()
	}
	r.want(200, "fine", "GET", "/fine", "")
	res := r.End()
	if open.Load() != 0 {
		t.Errorf("%d downloads are still open", open.Load())
	}
	if res.Failed != nil {
		t.Error("the task was disturbed")
	}
	for range 1000 {
		if runtime.NumGoroutine() <= before+4 {
			return
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond) // connections close on their own goroutines; there is nothing to wait on
	}
	t.Errorf("%d goroutines, before it were %d", runtime.NumGoroutine(), before)
}

// Neither side can make the door hold more than its buffers.
func TestBoundedMemory(t *testing.T) {
	const ahead = 24 << 20 // socket buffers of both connections are most of it
	var served atomic.Int64
	var offered atomic.Int64
	r := newRig(t, Config{FrontURL: "http://store", Token: "secret", Front: front(func(req *http.Request) (*http.Response, error) {
		if req.Method == "GET" {
			return reply(200, readerFunc(func(p []byte) (int, error) { served.Add(int64(len(p))); return len(p), nil })), nil
		}
		<-req.Context().Done() // never reads the body
		return nil, req.Context().Err()
	})})
	r.begin("t1")
	io.WriteString(r.dial(), "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
	put := r.dial()
	go func() {
		io.WriteString(put, "PUT /endless HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		chunk := append([]byte("10000\r\n"), make([]byte, 0x10002)...)
		copy(chunk[len(chunk)-2:], "\r\n")
		for {
			n, err := put.Write(chunk)
			offered.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	for last := int64(-1); ; {
		time.Sleep(50 * time.Millisecond) // until nothing moves any more
		now := served.Load() + offered.Load()
		if now == last {
			break
		}
		last = now
		if now > 2*ahead {
			break
		}
	}
	if s, o := served.Load(), offered.Load(); s > ahead || o > ahead || s == 0 || o == 0 {
		t.Errorf("%d bytes were taken from the store and %d from the program, though nobody reads on", s, o)
	}
	r.End()
}

func TestLimits(t *testing.T) {
	r := newRig(t, Config{FrontURL: "http://store", Token: "secret", MaxConnections: 2, Front: front(func(*http.Request) (*http.Response, error) {
		return reply(200, strings.NewReader("fine")), nil
	})})
	r.begin("t1")
	if status, _ := r.do("GET", "/", "", "X-Long: "+strings.Repeat("x", maxHeaderBytes+8192)); status != 431 {
		t.Errorf("a head that is too long = %d, want 431", status)
	}
	r.http.CloseIdleConnections()
	a, b := r.dial(), r.dial()
	for _, c := range []net.Conn{a, b} {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
	}
	third := r.dial()
	io.WriteString(third, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	third.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, err := third.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
		t.Errorf("a third connection was served: %d, %v", n, err)
	}
	a.Close()
	third.SetReadDeadline(time.Now().Add(20 * time.Second))
	if resp, err := http.ReadResponse(bufio.NewReader(third), nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("when there is room again: %v, %v", resp, err)
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

func TestNoSecrets(t *testing.T) {
	const token = "VERY-SECRET-TOKEN"
	fail := true
	r := newRig(t, Config{FrontURL: "http://store", Token: token, Front: front(func(req *http.Request) (*http.Response, error) {
		if got := req.Header.Values("Authorization"); len(got) != 1 || got[0] != "Token "+token {
			t.Errorf("Authorization is %q", got)
		}
		if fail {
			return nil, fmt.Errorf("dial store: refused")
		}
		return reply(200, io.MultiReader(strings.NewReader("some"), errReader{})), nil
	})})
	r.begin("t1")
	r.want(503, "ServiceUnavailable", "GET", "/alice/stor/a", "", "Connection: authorization, close")
	r.want(405, "", "TRACE", "/", "")
	r.want(200, "", "GET", "/my/jobs/task/task", "")
	fail = false
	if resp, err := r.http.Get(r.url + "/alice/stor/b"); err == nil {
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("an answer that broke off looks whole")
		}
		resp.Body.Close()
	}
	r.End()
	if log := r.log.String(); strings.Contains(log, token) || log == "" {
		t.Errorf("log: %s", log)
	}
	if s := r.cfg.LogValue().String(); strings.Contains(s, token) {
		t.Errorf("Config logs as %s", s)
	}
	for _, cfg := range []Config{{}, {Front: front(nil), FrontURL: "store", Token: "a"}, {Front: front(nil), FrontURL: "http://store", Token: "a\r\nX: y"},
		{FrontURL: "http://store", Token: "a"}, {Front: front(nil), FrontURL: "http://store/x", Token: "a"}, {Front: front(nil), FrontURL: "http://store", Token: "a", MaxRequests: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("New(%v) took it", cfg.LogValue())
		} else if cfg.Token != "" && len(cfg.Token) > 3 && strings.Contains(err.Error(), cfg.Token) {
			t.Errorf("the error shows the token: %v", err)
		}
	}
}

func TestClose(t *testing.T) {
	d, err := New(Config{Front: front(nil), FrontURL: "http://store", Token: "x"})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	d.Close()
	d.Begin(Task{ID: "t"})
	w := httptest.NewRecorder()
	d.serve(w, httptest.NewRequest("GET", "/a", nil))
	if w.Code != 409 {
		t.Errorf("a request after Close = %d, want 409", w.Code)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("broke") }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type closer struct {
	io.Reader
	fn func()
}

func (c closer) Close() error { c.fn(); return nil }
