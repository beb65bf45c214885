package webapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mobulacloud/mobula/internal/httpsig"
	"github.com/mobulacloud/mobula/manta"
)

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=-5", "bytes=5-", "bytes=9-1", "bytes=1-2,3-4", "items=1-2", "bytes=", "bytes=--", "bytes=18446744073709551616-", ""} {
		f.Add(s, int64(10))
	}
	s := &Server{}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size <= 0 {
			return
		}
		off, n, ok, err := s.parseRange(header, size)
		if err != nil && answerFor(err, manta.Path{}).Status != 416 && answerFor(err, manta.Path{}).Status != 501 {
			t.Errorf("%q: %v", header, err)
		}
		if ok && (err != nil || off < 0 || n <= 0 || off+n > size) {
			t.Errorf("%q of %d: %d+%d", header, size, off, n)
		}
	})
}

func FuzzDisposition(f *testing.F) {
	for _, s := range []string{"inline", `attachment; filename="a\"b"`, "attachment; filename*=UTF-8''%e2%82%ac", "A; b=c; D=e", "a/b", "; x", `x; y="`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		canonical, err := canonicalDisposition(v)
		if err != nil {
			return
		}
		if strings.ContainsAny(canonical, "\r\n") {
			t.Errorf("%q became %q", v, canonical)
		}
		kind, params, err := mime.ParseMediaType(canonical)
		if err != nil {
			t.Fatalf("%q became %q: %v", v, canonical, err)
		}
		wantKind, want, _ := mime.ParseMediaType(v)
		if kind != wantKind || want["filename"] != "" && utf8.ValidString(want["filename"]) && params["filename"] != path.Base(want["filename"]) {
			t.Errorf("%q became %q: %v, want %v", v, canonical, params, want)
		}
		if again, err := canonicalDisposition(canonical); err != nil || again != canonical {
			t.Errorf("%q, and again %q, %v", canonical, again, err)
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add("text/*;q=0.5, */*", "text/plain; charset=utf-8")
	f.Add("", "")
	f.Add(";q=x,,", "nonsense")
	f.Fuzz(func(t *testing.T, accept, contentType string) {
		acceptable(accept, contentType)
		if !acceptable("*/*", contentType) {
			t.Errorf("*/* does not take %q", contentType)
		}
		r := &http.Request{Header: http.Header{"Content-Type": {contentType}}}
		fixContentType(r)
		if got := r.Header.Get("Content-Type"); contentType != "" && !isMediaType(got) {
			t.Errorf("%q became %q", contentType, got)
		}
	})
}

// FuzzStoredHeaders: what is stored of a request's headers stays within its bound and comes back as it was.
func FuzzStoredHeaders(f *testing.F) {
	f.Add("m-a", "v", "Cache-Control", "x")
	f.Add("m-\xff", "\x80é", "access-control-allow-origin", "*")
	f.Add("m-", "v", "m-a", strings.Repeat("x", 5000))
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		h := http.Header{}
		h.Add(name1, value1)
		h.Add(name2, value2)
		size := 0
		for name, value := range storedHeaders(h) {
			if name != strings.ToLower(name) {
				t.Errorf("stored as %q", name)
			}
			if strings.HasPrefix(name, "m-") {
				size += len(toLatin1(value))
			}
			if _, err := json.Marshal(value); err != nil {
				t.Errorf("%q: %v", value, err)
			}
			found := false
			for n, v := range h {
				found = found || strings.ToLower(n) == name && strings.Join(v, ", ") == toLatin1(value)
			}
			if !found {
				t.Errorf("stored %q: %q, sent %v", name, toLatin1(value), h)
			}
		}
		if size >= MaxUserHeaders {
			t.Errorf("%d bytes of user headers", size)
		}
	})
}

// FuzzListOptions: whatever the query says, the answer is a page or a refusal.
func FuzzListOptions(f *testing.F) {
	for _, s := range []string{"limit=5&marker=a", "sort=mtime&marker=2020-01-01T00:00:00.000Z", "dir&obj", "limit=-1", "limit=1e3", "sort_order=reverse&sort=none", "%zz", "marker=%00"} {
		f.Add(s)
	}
	w := newWorld(f, worldOptions{})
	for _, name := range []string{"a", "b", "c"} {
		w.put("/alice/public/"+name, "x")
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/alice/public", nil)
		r.URL.RawQuery = query
		r.RequestURI = "/alice/public?" + query
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code != 200 && (rec.Code < 400 || rec.Code >= 500) {
			t.Errorf("%q: %d %s", query, rec.Code, rec.Body)
		}
	})
}

// FuzzUploadJSON: whatever the bodies of create and commit are, the answer is made by us and no fault.
func FuzzUploadJSON(f *testing.F) {
	for _, s := range []string{`{"objectPath":"/alice/stor/x"}`, `{"parts":["a"]}`, `{"objectPath":"/alice/stor/x","headers":{"content-length":1e400}}`, `{"parts":[null]}`, `[`, `{"headers":{"m-a":{}}}`, `{"objectPath":"/alice/stor/x","headers":{"durability-level":2.5}}`} {
		f.Add([]byte(s))
	}
	w := newWorld(f, worldOptions{})
	dir, _ := w.create(`{"objectPath":"/alice/stor/o"}`)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"/alice/uploads", dir + "/commit"} {
			if path != "/alice/uploads" && bytes.Contains(body, []byte("parts")) && bytes.Contains(body, []byte("[]")) {
				continue // would commit it
			}
			r := httptest.NewRequest("POST", path, bytes.NewReader(body)).WithContext(context.Background())
			r.RequestURI = path
			w.t = t
			w.sign(r, "alice")
			rec := httptest.NewRecorder()
			w.ServeHTTP(rec, r)
			if rec.Code >= 500 && rec.Code != 507 {
				t.Errorf("%s %s: %d %s", path, body, rec.Code, rec.Body)
			}
		}
	})
}

// FuzzRequest: whatever a caller with rights asks, the answer is no fault of ours.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"GET /alice/stor/a HTTP/1.1\r\nRange: bytes=0-\r\nIf-Match: x\r\n\r\n",
		"PUT /alice/stor/new HTTP/1.1\r\nContent-Length: 1\r\nContent-MD5: x\r\nDurability-Level: 2\r\nRole-Tag: x\r\n\r\nx",
		"PUT /alice/stor/d HTTP/1.1\r\nContent-Type: application/json; type=directory\r\nm-a: b\r\n\r\n",
		"PUT /alice/stor/l HTTP/1.1\r\nContent-Type: application/json; type=link\r\nLocation: /alice/stor/a\r\n\r\n",
		"PUT /alice/stor/a?metadata=true HTTP/1.1\r\nContent-Type: x\r\nContent-Disposition: y\r\n\r\n",
		"OPTIONS /alice/public HTTP/1.1\r\nOrigin: x\r\nAccess-Control-Request-Method: GET\r\n\r\n",
		"DELETE /alice/stor/%61 HTTP/1.1\r\n\r\n",
		"HEAD /alice?marker=x HTTP/1.1\r\n\r\n",
		"PUT /alice/stor/c HTTP/1.1\r\nTransfer-Encoding: chunked\r\nMax-Content-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST /alice/uploads/abc/abc0bfe3-719c-43e3-839a-4a5df4be8023/commit HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
	} {
		f.Add([]byte(s))
	}
	w := newWorld(f, worldOptions{config: func(c *Config) { c.Copies = 1; c.MaxObjectSize = 1 << 20 }, maxEntries: 1000})
	w.put("/alice/stor/a", "0123456789")
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			return
		}
		w.t = t
		r.Header.Del("Date")
		r.Header.Del("X-Date")
		signer := w.signers["alice"]
		if httpsig.SignRequest(t.Context(), signer, "/alice/keys/"+signer.PublicKey().MD5(), r, time.Now()) != nil {
			return
		}
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, r)
		if rec.Code >= 500 && rec.Code != 501 && rec.Code != 507 {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}
