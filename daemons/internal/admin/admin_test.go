package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHealth_namesWhatIsWrong(t *testing.T) {
	d := New()
	d.Check("records", func(context.Context) error { return nil })
	ask := func() (int, Health) {
		w := httptest.NewRecorder()
		d.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
		var h Health
		if err := json.Unmarshal(w.Body.Bytes(), &h); err != nil {
			t.Fatal(err)
		}
		return w.Code, h
	}
	if code, h := ask(); code != 200 || h.Status != "ok" || h.Parts["records"] != "ok" {
		t.Errorf("health is %d %+v, want 200 ok", code, h)
	}
	d.Check("nodes", func(context.Context) error { return errors.New("1 of 2 is down") })
	if code, h := ask(); code != 503 || h.Status != "failing" || h.Parts["nodes"] != "1 of 2 is down" || h.Parts["records"] != "ok" {
		t.Errorf("health is %d %+v, want 503 with the part that fails", code, h)
	}
}

func TestStruct_exposesEachKindOfField(t *testing.T) {
	type numbers struct {
		BytesInFlight int64
		Uploads       uint64
		MD5Sums       uint64
		Lag           time.Duration
		Oldest        time.Time
		Share         float64
		Reason        string
	}
	d := New()
	d.Collect(Struct("x", nil, func() numbers {
		return numbers{BytesInFlight: 7, Uploads: 8, MD5Sums: 9, Lag: 1500 * time.Millisecond, Oldest: time.Unix(10, 0), Share: 0.5, Reason: "r"}
	}))
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		"# TYPE x_uploads_total counter", "x_bytes_in_flight 7\n", "x_uploads_total 8\n", "x_md5_sums_total 9\n", "x_lag_seconds 1.5\n", "x_oldest_timestamp_seconds 10\n", "x_share 0.5\n",
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in the metrics", want)
		}
	}
}
