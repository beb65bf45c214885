package admin

import (
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
)

// Struct returns a collector for a part that offers its numbers as a plain struct. Each numeric field becomes a metric named prefix and the
// field's name in snake case; durations and times are in seconds. Unsigned fields only ever grow and are counters, all others gauges.
func Struct[T any](prefix string, labels prometheus.Labels, read func() T) prometheus.Collector {
	s := &structCollector{read: func() reflect.Value { return reflect.ValueOf(read()) }}
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		m := structMetric{field: i, kind: prometheus.GaugeValue}
		name := prefix + "_" + snake(f.Name)
		switch {
		case f.Type == reflect.TypeFor[time.Duration]():
			m.value = func(v reflect.Value) float64 { return time.Duration(v.Int()).Seconds() }
			name += "_seconds"
		case f.Type == reflect.TypeFor[time.Time]():
			m.value = func(v reflect.Value) float64 {
				if t := v.Interface().(time.Time); !t.IsZero() {
					return float64(t.UnixMilli()) / 1e3
				}
				return 0
			}
			name += "_timestamp_seconds"
		case f.Type.Kind() >= reflect.Int && f.Type.Kind() <= reflect.Int64:
			m.value = func(v reflect.Value) float64 { return float64(v.Int()) }
		case f.Type.Kind() >= reflect.Uint && f.Type.Kind() <= reflect.Uint64:
			m.value = func(v reflect.Value) float64 { return float64(v.Uint()) }
			m.kind, name = prometheus.CounterValue, name+"_total"
		case f.Type.Kind() == reflect.Float64:
			m.value = reflect.Value.Float
		default:
			continue
		}
		m.desc = prometheus.NewDesc(name, f.Name+" of "+t.String()+".", nil, labels)
		s.metrics = append(s.metrics, m)
	}
	return s
}

type structMetric struct {
	field int
	kind  prometheus.ValueType
	desc  *prometheus.Desc
	value func(reflect.Value) float64
}

type structCollector struct {
	read    func() reflect.Value
	metrics []structMetric
}

func (s *structCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range s.metrics {
		ch <- m.desc
	}
}

func (s *structCollector) Collect(ch chan<- prometheus.Metric) {
	v := s.read()
	for _, m := range s.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(v.Field(m.field)))
	}
}

// snake turns BytesInFlight into bytes_in_flight and MD5Sums into md5_sums.
func snake(s string) string {
	var b strings.Builder
	runes := []rune(s)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || unicode.IsDigit(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
