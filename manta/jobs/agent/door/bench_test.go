package door

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkForward is a small request through the door to a store that does nothing, on one connection.
func BenchmarkForward(b *testing.B) {
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer store.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	r := newRig(b, Config{FrontURL: store.URL, Token: "secret", Front: tr})
	r.begin("t")
	for b.Loop() {
		req, _ := http.NewRequest("PUT", r.url+"/alice/stor/x", strings.NewReader("hello"))
		req.Header.Set("X-Manta-Stream", "stdout")
		resp, err := r.http.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
	r.End()
}

// BenchmarkDownload is an object of 64 MiB through the door.
func BenchmarkDownload(b *testing.B) {
	const size = 64 << 20
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(w, zeros{}, size)
	}))
	defer store.Close()
	tr := &http.Transport{ReadBufferSize: 64 << 10}
	defer tr.CloseIdleConnections()
	r := newRig(b, Config{FrontURL: store.URL, Token: "secret", Front: tr})
	r.begin("t")
	b.SetBytes(size)
	for b.Loop() {
		resp, err := r.http.Get(r.url + "/alice/stor/x")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			b.Fatal(n, err)
		}
		resp.Body.Close()
	}
	r.End()
}
