package nodehttp

import (
	"net"
	"testing"

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
