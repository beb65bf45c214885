package task_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
)

// A network is a listener and a dialer without sockets, so that it lives in a bubble of synctest.
type network struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	wrap  func(net.Conn) net.Conn // of the client's ends
}

func newNetwork() *network { return &network{conns: make(chan net.Conn), done: make(chan struct{})} }

func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}
func (n *network) Close() error   { n.once.Do(func() { close(n.done) }); return nil }
func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case n.conns <- b:
		if n.wrap != nil {
			return n.wrap(a), nil
		}
		return a, nil
	case <-n.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve puts client, network and handler in front of an agent.
func serve(t testing.TB, agent task.Agent) (*task.Client, *network) {
	t.Helper()
	n := newNetwork()
	h, err := task.NewHandler(task.HandlerConfig{Agent: agent})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(n) }()
	t.Cleanup(func() { h.Close(); srv.Close(); <-done })
	c, err := task.NewClient(task.ClientConfig{URL: "http://agent", Dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	return c, n
}

func fake(t testing.TB, run func(context.Context, *tasktest.Task) error) *tasktest.Agent {
	a := tasktest.New(tasktest.Config{Storage: []string{"1.stor"}, Zones: 4, Run: run})
	t.Cleanup(a.Close)
	return a
}

func TestAgentOverHTTP(t *testing.T) {
	tasktest.TestAgent(t, func(t *testing.T) tasktest.World {
		var objects tasktest.Objects
		client, _ := serve(t, fake(t, tasktest.Shell(&objects)))
		return tasktest.World{
			Agent: client, Login: "alice", Owner: "930896af-bf8c-48d4-885c-6573a94b1853", Token: "token",
			Put: func(path, content string) task.Input { return objects.Put(path, content, "1.stor") }, Get: objects.Get,
		}
	})
}

func open() task.Order {
	return task.Order{Open: &task.Open{Job: "j", Login: "u", Phases: []jobs.Phase{{Type: jobs.Map, Exec: "cat"}}}}
}

func start(id string) task.Order {
	return task.Order{Start: &task.Start{Job: "j", Task: id, Input: &task.Input{Path: "/u/stor/a"}}}
}

// TestSilence holds that beats keep an idle stream alive, and that a connection on which nothing comes is given up on both sides.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := fake(t, func(ctx context.Context, _ *tasktest.Task) error { <-ctx.Done(); return ctx.Err() })
		client, n := serve(t, agent)
		hole := make(chan struct{})
		n.wrap = func(c net.Conn) net.Conn { return &holed{c, hole} }
		s, err := client.Connect(t.Context(), "one")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Send(t.Context(), open(), start("t")); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { _, err := s.Receive(context.Background()); ended <- err }()
		time.Sleep(20 * task.Silence)
		synctest.Wait()
		if _, now := agent.Started(); now != 1 || len(ended) > 0 {
			t.Fatalf("an idle stream ended, %d tasks run", now)
		}
		before := time.Now()
		close(hole)
		err = <-ended
		if took := time.Since(before); err == nil || took > task.Silence+task.Silence/4 {
			t.Errorf("the client noticed after %v: %v", took, err)
		}
		time.Sleep(task.Silence)
		synctest.Wait()
		if _, now := agent.Started(); now != 0 {
			t.Errorf("%d tasks run on after the stream was lost", now)
		}
	})
}

// holed is a connection whose bytes vanish, both ways, once hole is closed.
type holed struct {
	net.Conn
	hole chan struct{}
}

func (c *holed) gone() bool {
	select {
	case <-c.hole:
		return true
	default:
		return false
	}
}

func (c *holed) Write(p []byte) (int, error) {
	if c.gone() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *holed) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.gone() {
			return n, err
		}
	}
}

// TestBackpressure holds that whoever takes no reports stops the sender, and not the beats.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 400
		name := strings.Repeat("x", 64<<10)
		agent := fake(t, func(_ context.Context, t *tasktest.Task) error {
			for range n {
				t.Emit("/u/stor/"+name, -1)
			}
			return nil
		})
		client, _ := serve(t, agent)
		s, err := client.Connect(t.Context(), "one")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Send(t.Context(), open(), start("t")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * task.Silence)
		synctest.Wait()
		emitted := 0
		for {
			list, err := s.Receive(t.Context())
			if err != nil {
				t.Fatalf("after %d outputs: %v", emitted, err)
			}
			for _, r := range list {
				if r.Done != nil {
					if emitted != n {
						t.Errorf("%d outputs before the end, want %d", emitted, n)
					}
					return
				}
				emitted++
			}
			if size := len(list) * len(name); size > 10<<20 {
				t.Errorf("%d bytes were under way", size)
			}
		}
	})
}

// blocked is an agent whose streams take no orders.
type blocked struct{ task.Agent }

func (b blocked) Connect(ctx context.Context, s string) (task.Stream, error) {
	stream, err := b.Agent.Connect(ctx, s)
	if err != nil {
		return nil, err
	}
	return blockedStream{stream}, nil
}

type blockedStream struct{ task.Stream }

func (b blockedStream) Send(ctx context.Context, _ ...task.Order) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestBlockedAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := fake(t, func(context.Context, *tasktest.Task) error { return nil })
		client, _ := serve(t, blocked{agent})
		s, err := client.Connect(t.Context(), "one")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		big := task.Order{Cancel: strings.Repeat("x", 1<<20)}
		ctx, cancel := context.WithTimeout(t.Context(), 10*task.Silence)
		defer cancel()
		sent := 0
		for err == nil {
			if err = s.Send(ctx, big); err == nil {
				sent++
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) || sent < 8 || sent > 20 {
			t.Errorf("%d MiB were sent to an agent that takes none, then: %v", sent, err)
		}
	})
}

func TestConnectRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := fake(t, func(context.Context, *tasktest.Task) error { return nil })
		client, n := serve(t, agent)
		agent.Refuse(true)
		if _, err := client.Connect(t.Context(), "one"); !errors.Is(err, task.ErrUnavailable) {
			t.Errorf("an agent that refuses: %v", err)
		}
		agent.Refuse(false)
		if _, err := client.Connect(t.Context(), "no name"); err == nil || errors.Is(err, task.ErrUnavailable) {
			t.Errorf("a supervisor without a proper name: %v", err)
		}
		n.Close()
		if _, err := client.Connect(t.Context(), "one"); !errors.Is(err, task.ErrUnavailable) {
			t.Errorf("an agent that is not there: %v", err)
		}
		mute := newNetwork()
		go func() {
			c, err := mute.Accept()
			if err == nil {
				io.Copy(io.Discard, c)
				c.Close()
			}
		}()
		client, err := task.NewClient(task.ClientConfig{URL: "http://agent", Dial: mute.dial})
		if err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		if _, err := client.Connect(t.Context(), "one"); !errors.Is(err, task.ErrUnavailable) || time.Since(before) != 15*time.Second {
			t.Errorf("an agent that does not answer, after %v: %v", time.Since(before), err)
		}
	})
}

// TestForeignPeers holds that a handler refuses what is no stream, and ends one whose peer does not keep to the protocol.
func TestForeignPeers(t *testing.T) {
	upgrade := "GET " + task.Path + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: mobula-tasks/1\r\nMobula-Supervisor: one\r\n\r\n"
	for _, c := range []struct {
		name, send string
		status     int
	}{
		{"plain", "GET " + task.Path + " HTTP/1.1\r\nHost: a\r\n\r\n", 426},
		{"post", strings.Replace(upgrade, "GET", "POST", 1), 426},
		{"elsewhere", strings.Replace(upgrade, task.Path, "/", 1), 404},
		{"websocket", strings.Replace(upgrade, "mobula-tasks/1", "websocket", 1), 426},
		{"nameless", strings.Replace(upgrade, "Mobula-Supervisor: one", "A: b", 1), 400},
		{"garbage", upgrade + "\xff\xff\xff\xff\xff\xff", 101},
		{"long frame", upgrade + "\x02\x7f\xff\xff\xff", 101},
		{"no JSON", upgrade + "\x02\x00\x00\x00\x01x", 101},
		{"two fields", upgrade + "\x02\x00\x00\x00\x1b" + `[{"cancel":"a","shut":"b"}]`, 101},
		{"empty batch", upgrade + "\x02\x00\x00\x00\x02[]", 101},
		{"credit", upgrade + "\x05\x00\x00\x00\x04\x00\x00\x00\x01", 101},
	} {
		t.Run(c.name, func(t *testing.T) {
			agent := fake(t, func(context.Context, *tasktest.Task) error { return nil })
			_, n := serve(t, agent)
			conn, err := n.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go io.WriteString(conn, c.send)
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
			if c.status == 101 {
				conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := io.Copy(io.Discard, r); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
					t.Errorf("the stream goes on")
				}
			}
		})
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

func BenchmarkStream(b *testing.B) {
	agent := tasktest.New(tasktest.Config{Storage: []string{"1.stor"}, Zones: 64, Run: func(_ context.Context, t *tasktest.Task) error {
		t.Emit("/u/jobs/j/stor/u/stor/a.0."+t.Start.Task, -1)
		return nil
	}})
	b.Cleanup(agent.Close)
	client, _ := serve(b, agent)
	s, err := client.Connect(b.Context(), "one")
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Send(b.Context(), open()); err != nil {
		b.Fatal(err)
	}
	const at = 64 // tasks under way
	id, under := 0, 0
	for b.Loop() {
		var orders []task.Order
		for range at - under {
			orders = append(orders, start(fmt.Sprint("task", id)))
			id++
		}
		under = at
		if len(orders) > 0 {
			if err := s.Send(b.Context(), orders...); err != nil {
				b.Fatal(err)
			}
		}
		for done := false; !done; {
			list, err := s.Receive(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for _, r := range list {
				if r.Done != nil {
					under--
					done = true
				}
			}
		}
	}
	b.ReportMetric(float64(id)/b.Elapsed().Seconds(), "tasks/s")
}

// TestMutualTLS holds that a stream runs where both sides show certificates, as between a head node and its storage nodes.
func TestMutualTLS(t *testing.T) {
	agent := fake(t, tasktest.Shell(new(tasktest.Objects)))
	h, err := task.NewHandler(task.HandlerConfig{Agent: agent})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(func() { h.Close(); srv.Close() })
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	connect := func(cfg *tls.Config) error {
		c, err := task.NewClient(task.ClientConfig{URL: srv.URL, TLS: cfg})
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Connect(t.Context(), "one")
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Send(t.Context(), task.Order{Open: &task.Open{Job: "j", Phases: []jobs.Phase{{Exec: "exit 1"}}}}, start("t")); err != nil {
			return err
		}
		_, err = s.Receive(t.Context())
		return err
	}
	if err := connect(&tls.Config{RootCAs: roots, Certificates: srv.TLS.Certificates}); err != nil {
		t.Error(err)
	}
	if err := connect(&tls.Config{RootCAs: roots}); !errors.Is(err, task.ErrUnavailable) {
		t.Errorf("without a certificate: %v", err)
	}
}
