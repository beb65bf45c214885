package webapi

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Buckets are the upper bounds of the latency histograms, in milliseconds. What is above the last is counted in one more.
var Buckets = []int64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 15000, 60000}

// Metrics are a server's counters since it was made. The original's names for them are http_requests_completed, http_request_latency_ms (to the first byte),
// http_request_time_ms, muskie_inbound_streamed_bytes, muskie_outbound_streamed_bytes and muskie_deleted_bytes.
type Metrics struct {
	Requests []RequestMetrics // by operation, method and status

	Inbound, Outbound, Deleted uint64 // bytes of objects

	Connections, Working, Reading int64 // at present
}

// RequestMetrics counts the requests of one kind.
type RequestMetrics struct {
	Operation, Method string
	Status            int
	Count             uint64
	Latency, Time     Histogram
}

// A Histogram counts durations by [Buckets].
type Histogram struct {
	Counts []uint64 // one for each of Buckets and one for what is above; not cumulative
	Sum    time.Duration
}

type metrics struct {
	inbound, outbound, deleted atomic.Uint64
	reading                    atomic.Int64
	kinds                      sync.Map // kind → *tally
}

type kind struct {
	operation, method string
	status            int
}

type tally struct {
	count         atomic.Uint64
	latency, time tallyHistogram
}

type tallyHistogram struct {
	counts [15]atomic.Uint64
	sum    atomic.Int64
}

func (h *tallyHistogram) add(d time.Duration) {
	ms := d.Milliseconds()
	i := 0
	for i < len(Buckets) && ms > Buckets[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

func (h *tallyHistogram) snapshot() Histogram {
	out := Histogram{Counts: make([]uint64, len(h.counts)), Sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		out.Counts[i] = h.counts[i].Load()
	}
	return out
}

func (m *metrics) request(operation, method string, status int, latency, total time.Duration) {
	if operation == "" {
		method = "" // whatever a stranger makes up must not make a counter
	}
	k := kind{operation, method, status}
	v, ok := m.kinds.Load(k)
	if !ok {
		v, _ = m.kinds.LoadOrStore(k, &tally{})
	}
	t := v.(*tally)
	t.count.Add(1)
	t.latency.add(latency)
	t.time.add(total)
}

// Metrics returns the counters as they stand, in order of operation, method and status.
func (s *Server) Metrics() Metrics {
	m := Metrics{
		Inbound: s.met.inbound.Load(), Outbound: s.met.outbound.Load(), Deleted: s.met.deleted.Load(),
		Connections: s.connections.Load(), Working: s.working.Load(), Reading: s.met.reading.Load(),
	}
	s.met.kinds.Range(func(key, value any) bool {
		k, t := key.(kind), value.(*tally)
		m.Requests = append(m.Requests, RequestMetrics{
			Operation: k.operation, Method: k.method, Status: k.status, Count: t.count.Load(),
			Latency: t.latency.snapshot(), Time: t.time.snapshot(),
		})
		return true
	})
	slices.SortFunc(m.Requests, func(a, b RequestMetrics) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Status, b.Status))
	})
	return m
}
