package sessions

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/internal/storetest"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/jobapi"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// A world is a store with two front doors and their reflectors.
type world struct {
	*storetest.Store
	t       testing.TB
	records *jobs.Records
	one     *Reflector
	two     *Reflector
	urlTwo  string // of the second front door; URL is the first's
	alice   *client.Client
	token   string
	close   func() // ends the first reflector
}

func newWorld(t testing.TB, fns ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t}
	addresses := map[string]string{} // of handlers, by reflector
	w.Store = storetest.New(t, func(s *storetest.Store, cfg *webapi.Config) {
		var err error
		w.records, err = jobs.NewRecords(s.Records)
		w.must(err)
		w.must(w.records.Define(t.Context()))
		api, err := jobapi.New(jobapi.Config{Records: w.records, Namespace: s.Namespace, Identity: s.Identity})
		w.must(err)
		reflector := func(address string) *Reflector {
			c := Config{Store: s.Records, Job: api.Job, Address: address, Pulse: 5 * time.Millisecond, Dial: func(ctx context.Context, address string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", addresses[address])
			}}
			for _, fn := range fns {
				fn(&c)
			}
			r, err := New(c)
			w.must(err)
			w.must(r.Define(t.Context()))
			srv := httptest.NewServer(r.Handler())
			t.Cleanup(srv.Close)
			addresses[address] = srv.Listener.Addr().String()
			return r
		}
		w.one, w.two = reflector("one"), reflector("two")
		cfg.Routes = append(api.Routes(), w.one.Routes()...)
		second := *cfg
		second.Routes = append(api.Routes(), w.two.Routes()...)
		web, err := webapi.New(second)
		w.must(err)
		srv := httptest.NewUnstartedServer(nil)
		srv.Config = web.HTTPServer(web)
		srv.Start()
		t.Cleanup(srv.Close)
		w.urlTwo = srv.URL
	})
	w.alice = w.Account("alice")
	w.token = w.Token(w.alice)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.one.Run(ctx) }() // ends with ctx
	w.close = func() { cancel(); <-done }
	t.Cleanup(w.close)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// job makes a job of alice's.
func (w *world) job() *jobs.Job {
	w.t.Helper()
	a, err := w.Identity.AccountByLogin("alice")
	w.must(err)
	j := &jobs.Job{ID: uuid.NewString(), Owner: a.UUID, Login: "alice", Phases: []jobs.Phase{{Type: jobs.Map, Exec: "x"}}}
	w.must(w.records.Create(w.t.Context(), j))
	return j
}

func (w *world) header() http.Header { return http.Header{"Authorization": {"Token " + w.token}} }

// dial attaches to a session. A refusal is its status and body.
func (w *world) dial(base, job, kind string, protocols ...string) (c *websocket.Conn, status int, body string) {
	w.t.Helper()
	c, resp, err := websocket.Dial(w.t.Context(), base+"/alice/medusa/attach/"+job+"/"+kind, &websocket.DialOptions{HTTPHeader: w.header(), Subprotocols: protocols})
	if err != nil {
		if resp == nil {
			w.t.Fatal(err)
		}
		var b strings.Builder
		buf := make([]byte, 1024)
		n, _ := resp.Body.Read(buf) // what there is
		b.Write(buf[:n])
		return nil, resp.StatusCode, b.String()
	}
	w.t.Cleanup(func() { c.CloseNow() })
	return c, resp.StatusCode, ""
}

func (w *world) attach(base, job, kind string, protocols ...string) *websocket.Conn {
	w.t.Helper()
	c, status, body := w.dial(base, job, kind, protocols...)
	if c == nil {
		w.t.Fatalf("attach as %s: %d %s", kind, status, body)
	}
	return c
}

func (w *world) send(c *websocket.Conn, kind websocket.MessageType, s string) {
	w.t.Helper()
	w.must(c.Write(w.t.Context(), kind, []byte(s)))
}

// expect reads until a message, leaving out that one side waits.
func (w *world) expect(c *websocket.Conn, kind websocket.MessageType, want string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	for {
		got, data, err := c.Read(ctx)
		w.must(err)
		if s := string(data); strings.Contains(s, `{"type":"wait"}`) && s != want {
			continue
		}
		if got != kind || string(data) != want {
			w.t.Fatalf("message %v %.200q, want %v %.200q", got, data, kind, want)
		}
		return
	}
}

// closed reads until the end and returns how it was.
func (w *world) closed(c *websocket.Conn) (code websocket.StatusCode, reason string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	for {
		_, _, err := c.Read(ctx)
		if err == nil {
			continue
		}
		if code = websocket.CloseStatus(err); code >= 0 {
			var e websocket.CloseError
			if asClose(err, &e) {
				reason = e.Reason
			}
		}
		return code, reason
	}
}

// gone waits until there is no session and no record of one.
func (w *world) gone(job string) {
	w.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for range 10000 {
		_, _, err := w.one.where(w.t.Context(), job)
		if err != nil && w.one.find(job) == nil && w.two.find(job) == nil {
			return
		}
		<-ticker.C
	}
	w.t.Fatal("the session does not end")
}
