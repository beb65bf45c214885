package webapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
)

// discardWriter is an answer that goes nowhere.
type discardWriter struct {
	h      http.Header
	status int
}

func (d *discardWriter) Header() http.Header              { return d.h }
func (d *discardWriter) WriteHeader(status int)           { d.status = status }
func (d *discardWriter) Write(p []byte) (int, error)      { return len(p), nil }
func (d *discardWriter) SetReadDeadline(time.Time) error  { return nil }
func (d *discardWriter) SetWriteDeadline(time.Time) error { return nil }

func benchRequest(b *testing.B, w *world, method, path string) (*http.Request, string) {
	r := httptest.NewRequest(method, path, nil)
	signer := w.signers["alice"]
	if err := httpsig.SignRequest(context.Background(), signer, "/alice/keys/"+signer.PublicKey().MD5(), r, time.Now()); err != nil {
		b.Fatal(err)
	}
	return r, path
}

func run(b *testing.B, w *world, r *http.Request, want int) {
	d := &discardWriter{h: http.Header{}}
	w.ServeHTTP(d, r)
	if d.status != want {
		b.Fatalf("%s %s: %d", r.Method, r.RequestURI, d.status)
	}
}

func BenchmarkPut1K(b *testing.B) {
	w := newWorld(b, worldOptions{nodes: 2, capacity: 8 << 30})
	body := bytes.Repeat([]byte("x"), 1024)
	base, _ := benchRequest(b, w, "PUT", "/alice/stor/x")
	base.Header.Set("Content-Length", "1024")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r := *base
		u := *base.URL
		r.URL = &u
		r.RequestURI = fmt.Sprintf("/alice/stor/%d", n%1000)
		r.URL.Path = r.RequestURI
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), 1024
		run(b, w, &r, 204)
		n++
	}
}

func BenchmarkGet1K(b *testing.B) {
	w := newWorld(b, worldOptions{nodes: 2})
	w.put("/alice/stor/x", string(bytes.Repeat([]byte("x"), 1024)))
	base, _ := benchRequest(b, w, "GET", "/alice/stor/x")
	b.ReportAllocs()
	for b.Loop() {
		r := *base
		run(b, w, &r, 200)
	}
}

func BenchmarkList1000(b *testing.B) {
	w := newWorld(b, worldOptions{nodes: 2})
	for i := range 1000 {
		w.put(fmt.Sprintf("/alice/stor/object-%06d", i), "x")
	}
	base, _ := benchRequest(b, w, "GET", "/alice/stor?limit=1000")
	b.ReportAllocs()
	for b.Loop() {
		r := *base
		run(b, w, &r, 200)
	}
}
