package admin

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mobulacloud/mobula/manta/webapi"
)

// FrontDoor returns a collector for an object store's front door, under the names that the original has: what people's
// dashboards look for.
func FrontDoor(read func() webapi.Metrics) prometheus.Collector { return &frontDoor{read} }

type frontDoor struct{ read func() webapi.Metrics }

var (
	requestLabels = []string{"operation", "method", "statusCode"}

	descCompleted = prometheus.NewDesc("http_requests_completed", "Requests that have ended.", requestLabels, nil)
	descLatency   = prometheus.NewDesc("http_request_latency_ms", "Time to the first byte of the answer, in ms.", requestLabels, nil)
	descTime      = prometheus.NewDesc("http_request_time_ms", "Time to the end of the answer, in ms.", requestLabels, nil)
	descInbound   = prometheus.NewDesc("muskie_inbound_streamed_bytes", "Bytes of objects received.", nil, nil)
	descOutbound  = prometheus.NewDesc("muskie_outbound_streamed_bytes", "Bytes of objects sent.", nil, nil)
	descDeleted   = prometheus.NewDesc("muskie_deleted_bytes", "Bytes of objects deleted.", nil, nil)
	descOpen      = prometheus.NewDesc("mobula_front_connections", "Connections that are open.", nil, nil)
	descWorking   = prometheus.NewDesc("mobula_front_requests_working", "Requests at work.", nil, nil)
)

func (f *frontDoor) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, ch) }

func (f *frontDoor) Collect(ch chan<- prometheus.Metric) {
	m := f.read()
	for _, r := range m.Requests {
		labels := []string{r.Operation, r.Method, strconv.Itoa(r.Status)}
		ch <- prometheus.MustNewConstMetric(descCompleted, prometheus.CounterValue, float64(r.Count), labels...)
		ch <- histogram(descLatency, r.Latency, labels)
		ch <- histogram(descTime, r.Time, labels)
	}
	ch <- prometheus.MustNewConstMetric(descInbound, prometheus.CounterValue, float64(m.Inbound))
	ch <- prometheus.MustNewConstMetric(descOutbound, prometheus.CounterValue, float64(m.Outbound))
	ch <- prometheus.MustNewConstMetric(descDeleted, prometheus.CounterValue, float64(m.Deleted))
	ch <- prometheus.MustNewConstMetric(descOpen, prometheus.GaugeValue, float64(m.Connections))
	ch <- prometheus.MustNewConstMetric(descWorking, prometheus.GaugeValue, float64(m.Working))
}

func histogram(desc *prometheus.Desc, h webapi.Histogram, labels []string) prometheus.Metric {
	cumulative := make(map[float64]uint64, len(webapi.Buckets))
	var n uint64
	for i, c := range h.Counts {
		n += c
		if i < len(webapi.Buckets) {
			cumulative[float64(webapi.Buckets[i])] = n
		}
	}
	return prometheus.MustNewConstHistogram(desc, n, float64(h.Sum.Microseconds())/1e3, cumulative, labels...)
}
