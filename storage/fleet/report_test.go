package fleet

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/storagetest"
)

func TestValidate(t *testing.T) {
	good := Report{Node: "1.stor", Datacenter: "dc", Usage: storage.Usage{Capacity: 2, Available: 1}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Report){
		"no id":               func(r *Report) { r.Node = "" },
		"path in id":          func(r *Report) { r.Node = "../x" },
		"long id":             func(r *Report) { r.Node = strings.Repeat("x", 129) },
		"no datacentre":       func(r *Report) { r.Datacenter = "" },
		"long address":        func(r *Report) { r.Address = strings.Repeat("x", 1025) },
		"negative capacity":   func(r *Report) { r.Usage.Capacity = -1 },
		"no object id":        func(r *Report) { r.Damaged = []string{"x"} },
		"too much damage":     func(r *Report) { r.Damaged = make([]string, MaxDamaged+1) },
		"more free than room": func(r *Report) { r.Usage.Available = 3 },
	} {
		r := good
		spoil(&r)
		if err := r.Validate(); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWire tells a Registry through client and handler what it would hear directly.
func TestWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		peer := "1.stor"
		h := NewHandler(w.registry, func(*http.Request) (string, error) {
			if peer == "" {
				return "", errors.New("no certificate")
			}
			return peer, nil
		}, nil)
		client, err := NewClient(&http.Client{Transport: direct{h}}, "https://head/base/")
		if err != nil {
			t.Fatal(err)
		}
		client.url = "https://head" + ReportPath
		report := Report{Node: "1.stor", Datacenter: "dc", Address: "https://1.stor:1234", Version: "v1", Usage: storage.Usage{Capacity: 10 << 20, Available: 3 << 20, ReadOnly: "why not"}}
		for range 2 {
			if err := client.Report(t.Context(), report); err != nil {
				t.Fatal(err)
			}
		}
		nodes, err := w.registry.Nodes(t.Context())
		report.Hostname = report.Node
		if err != nil || len(nodes) != 1 || !cmp.Equal(nodes[0].Report, report) {
			t.Errorf("Nodes: %+v, %v", nodes, err)
		}
		peer = "2.stor"
		if err := client.Report(t.Context(), report); err == nil || errors.Is(err, ErrRemoved) {
			t.Errorf("report about another node: %v", err)
		}
		peer = ""
		if err := client.Report(t.Context(), report); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("report without a certificate: %v", err)
		}
		peer = "1.stor"
		bad := report
		bad.Usage.Available = 1 << 40
		if err := client.Report(t.Context(), bad); !errors.Is(err, storage.ErrInvalid) {
			t.Errorf("senseless report: %v", err)
		}
		w.registry.SetState(t.Context(), "1.stor", Lost, "")
		w.registry.Remove(t.Context(), "1.stor", "")
		if err := client.Report(t.Context(), report); !errors.Is(err, ErrRemoved) {
			t.Errorf("removed node: %v", err)
		}
		w.store.Close()
		if err := client.Report(t.Context(), report); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("closed store: %v", err)
		}
		for body, status := range map[string]int{"": 400, "{": 400, `{"usage":5}`: 400, `{"address":"` + strings.Repeat("x", maxReport) + `"}`: 400} {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, ReportPath, strings.NewReader(body)))
			if rec.Code != status {
				t.Errorf("body of %d bytes: %d", len(body), rec.Code)
			}
		}
	})
}

// direct is a transport without a network.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	d.h.ServeHTTP(rec, req)
	return rec.Result(), nil
}

type script struct {
	answers []error
	times   []time.Time
}

func (s *script) Report(context.Context, Report) error {
	s.times = append(s.times, time.Now())
	if n := len(s.times); n <= len(s.answers) {
		return s.answers[n-1]
	}
	return nil
}

func TestReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("head node is down")
		s := &script{answers: []error{nil, down, down, nil}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		node := storagetest.NewMemNode(storagetest.MemConfig{})
		r := &Reporter{Node: node, Registrar: s, Identity: Report{Node: "1.stor", Datacenter: "dc"}}
		if err := r.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v", err)
		}
		for i, want := range [][2]time.Duration{{30 * time.Second, 30 * time.Second}, {time.Second / 2, 2 * time.Second}, {time.Second / 2, 3 * time.Second}, {30 * time.Second, 30 * time.Second}} {
			if d := s.times[i+1].Sub(s.times[i]); d < want[0] || d > want[1] {
				t.Errorf("report %d came %v after the one before, want %v", i+1, d, want)
			}
		}
		s.answers = append(make([]error, len(s.times)), ErrRemoved)
		if err := r.Run(t.Context()); !errors.Is(err, ErrRemoved) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestReporterOfBrokenNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes["1.stor"].Kill()
		w.report("1.stor")
		nodes, err := w.registry.Nodes(t.Context())
		if err != nil || !strings.Contains(nodes[0].Usage.ReadOnly, "killed") || nodes[0].Usage.PercentUsed() != 100 {
			t.Errorf("Nodes: %+v, %v", nodes, err)
		}
	})
}

// TestDamageIsReported has a node find damage while the head node is away.
func TestDamageIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		heard := map[storage.ObjectID]int{}
		w.registry.Damaged = func(node string, ids []storage.ObjectID) {
			if node != "1.stor" || len(ids) > MaxDamaged {
				t.Errorf("%s reports %d objects", node, len(ids))
			}
			for _, id := range ids {
				heard[id]++
			}
		}
		gate := &gated{Registrar: w.registry}
		r := w.reporter("1.stor")
		r.Registrar = gate
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		r.Damaged(storagetest.NewID())
		synctest.Wait()
		if len(heard) != 1 {
			t.Errorf("at once: heard of %d", len(heard))
		}
		gate.closed.Store(true)
		for range 2*MaxDamaged + 7 {
			r.Damaged(storagetest.NewID())
		}
		time.Sleep(time.Minute)
		if len(heard) != 1 {
			t.Errorf("through a closed gate: heard of %d", len(heard))
		}
		gate.closed.Store(false)
		time.Sleep(time.Minute)
		cancel()
		<-done
		if len(heard) != 2*MaxDamaged+8 {
			t.Errorf("heard of %d", len(heard))
		}
		for id, n := range heard {
			if n != 1 {
				t.Errorf("heard %d times of %s", n, id)
			}
		}
	})
}

type gated struct {
	Registrar
	closed atomic.Bool
}

func (g *gated) Report(ctx context.Context, r Report) error {
	if g.closed.Load() {
		return errors.New("head node is away")
	}
	return g.Registrar.Report(ctx, r)
}
