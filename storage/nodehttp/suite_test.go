package nodehttp

import (
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/objfile"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

// serve puts a node on a loopback port and returns the listener's address.
func serve(t testing.TB, cfg HandlerConfig, s *Server) string {
	t.Helper()
	h, err := NewHandler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s == nil {
		s = &Server{}
	}
	s.Handler = h
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func client(t testing.TB, cfg ClientConfig) *Client {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// remote is a client whose node the suite can damage.
type remote struct {
	*Client
	storagetest.Corrupter
}

func TestNode(t *testing.T) {
	storagetest.TestNode(t, func(t *testing.T) storage.Node {
		n := storagetest.NewMemNode(storagetest.MemConfig{})
		return remote{client(t, ClientConfig{URL: "http://" + serve(t, HandlerConfig{Node: n}, nil)}), n}
	})
}

func TestNodeOnDisk(t *testing.T) {
	storagetest.TestNode(t, func(t *testing.T) storage.Node {
		n, err := objfile.Open(t.TempDir(), objfile.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
		return client(t, ClientConfig{URL: "http://" + serve(t, HandlerConfig{Node: n}, nil)})
	})
}

func TestAgainst(t *testing.T) {
	for seed := range uint64(5) {
		n := storagetest.NewMemNode(storagetest.MemConfig{})
		storagetest.TestAgainst(t, client(t, ClientConfig{URL: "http://" + serve(t, HandlerConfig{Node: n}, nil)}), seed, 300, nil)
	}
}

// TestLeaks: whatever way a request ends, nothing of it stays behind.
func TestLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("requests", func(t *testing.T) {
		n := storagetest.NewMemNode(storagetest.MemConfig{})
		c := client(t, ClientConfig{URL: "http://" + serve(t, HandlerConfig{Node: n}, nil)})
		data := storagetest.Data(1, 2<<20)
		for i := range 20 {
			id := storagetest.NewID()
			if _, err := storagetest.Put(t.Context(), c, id, data); err != nil {
				t.Fatal(err)
			}
			r, _, err := c.Open(t.Context(), id, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			r.Close()
			w, err := c.Create(t.Context(), storagetest.NewID(), storage.CreateOptions{Size: -1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data[:i*100_000]); err != nil {
				t.Fatal(err)
			}
			w.Cancel()
			for range c.List(t.Context(), storage.ObjectID{}) {
				break
			}
		}
		if u, _ := n.Usage(t.Context()); u.Objects != 20 {
			t.Errorf("%d objects, want 20", u.Objects)
		}
	})
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		runtime.Gosched() // those that are on their way out
	}
	if n := runtime.NumGoroutine(); n > before {
		buf := make([]byte, 1<<14)
		t.Errorf("%d goroutines, %d before:\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
}
