// Package admin is the door for the people who run a daemon: whether it is well (and if not, why), and its numbers.
//
//	GET /health    200 {"status":"ok",…}, or 503 with the checks that fail and what they say
//	GET /metrics   Prometheus text format
//	GET /debug/pprof/   Go's profiles
//
// It is for a private address: nobody is asked who they are.
//
// Stability: internal to the daemons.
package admin

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Door collects what a daemon has to tell. Add checks and numbers before it serves.
type Door struct {
	checks   map[string]func(context.Context) error
	registry *prometheus.Registry
	started  time.Time
}

// New returns a door that tells the process's own numbers.
func New() *Door {
	d := &Door{checks: map[string]func(context.Context) error{}, registry: prometheus.NewRegistry(), started: time.Now()}
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return d
}

// Check adds a part whose health is asked for: nil is well, an error is sent to whoever asks, so it must hold no secret.
func (d *Door) Check(part string, check func(context.Context) error) { d.checks[part] = check }

// Collect adds numbers. Names must not have been added before.
func (d *Door) Collect(c prometheus.Collector) { d.registry.MustRegister(c) }

// checkTimeout bounds each part's answer: a part that does not answer is not well.
const checkTimeout = 5 * time.Second

// Health is what /health answers.
type Health struct {
	Status string            `json:"status"` // ok or failing
	Uptime string            `json:"uptime"`
	Parts  map[string]string `json:"parts"` // "ok", or what is wrong
}

// Health asks all parts at once.
func (d *Door) Health(ctx context.Context) Health {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	h := Health{Status: "ok", Uptime: time.Since(d.started).Round(time.Second).String(), Parts: map[string]string{}}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, part := range slices.Sorted(maps.Keys(d.checks)) {
		asked.Go(func() {
			err := d.checks[part](ctx)
			mu.Lock()
			defer mu.Unlock()
			h.Parts[part] = "ok"
			if err != nil {
				h.Status, h.Parts[part] = "failing", err.Error()
			}
		})
	}
	asked.Wait()
	return h
}

// Handler serves the door.
func (d *Door) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		h := d.Health(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if h.Status != "ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(h) // to a peer that may have gone
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	return mux
}

// Server returns an http.Server for a handler of daemons' private doors, with limits that a slow or idle peer meets.
func Server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second, IdleTimeout: 120 * time.Second, MaxHeaderBytes: 16 << 10}
}
