package door

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/internal/storetest"
)

// A rig is a Door at work.
type rig struct {
	*Door
	t    testing.TB
	url  string
	addr string
	http *http.Client
	log  *syncBuffer

	mu      sync.Mutex
	emitted []Emitted
	ended   chan struct{}
}

func newRig(t testing.TB, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, log: &syncBuffer{}}
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.Door, r.addr, r.url = d, l.Addr().String(), "http://"+l.Addr().String()
	r.http = &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute, DisableCompression: true}}
	served := make(chan error, 1)
	go func() { served <- d.Serve(l) }()
	t.Cleanup(func() {
		r.http.CloseIdleConnections()
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v, want nil after Close", err)
		}
	})
	return r
}

// realRig is a Door before a real store, with a client of its account "alice".
func realRig(t testing.TB) (*rig, *storetest.Store, *client.Client) {
	t.Helper()
	s := storetest.New(t)
	c := s.Account("alice")
	return newRig(t, Config{Front: s.Transport(), FrontURL: s.URL, Login: "alice", Token: s.Token(c)}), s, c
}

func (r *rig) begin(id string) {
	r.ended = make(chan struct{})
	ended := r.ended
	r.Begin(Task{ID: id, Emit: func(e Emitted) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.emitted = append(r.emitted, e)
	}, Ended: func() { close(ended) }})
}

func (r *rig) taken() []Emitted {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.emitted
	r.emitted = nil
	return e
}

// do makes a request and returns status and body of the answer.
func (r *rig) do(method, path, body string, header ...string) (int, string) {
	r.t.Helper()
	var b io.Reader
	if body != "" {
		b = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, r.url+path, b)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %s: read the answer: %v", method, path, err)
	}
	return resp.StatusCode, string(text)
}

func (r *rig) want(status int, part, method, path, body string, header ...string) {
	r.t.Helper()
	got, text := r.do(method, path, body, header...)
	if got != status || !strings.Contains(text, part) {
		r.t.Errorf("%s %s %q = %d %s, want %d %s", method, path, header, got, text, status, part)
	}
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second)) // of a test that hangs
	return c
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A front answers as a function says.
type front func(*http.Request) (*http.Response, error)

func (f front) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(status int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(body)}
}
