package client_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"github.com/mobulacloud/mobula/manta/client"
)

// A faulty store keeps one object per path and misbehaves as it is told. What a right store does is tested against manta/webapi.
type faulty struct {
	mu       sync.Mutex
	objects  map[string][]byte
	requests []*http.Request // heads only

	refuse  []int // statuses for the next requests
	breakAt int   // bytes after which the next answers break off; 0 for never
	lie     bool  // about check sums
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Clone(context.Background()))
	if len(f.refuse) > 0 {
		status := f.refuse[0]
		f.refuse = f.refuse[1:]
		if status == 0 { // no answer at all
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if status == http.StatusNotFound {
			fmt.Fprint(w, `{"code":"DirectoryDoesNotExist","message":"no parent"}`)
		}
		return
	}
	switch r.Method {
	case http.MethodPut:
		if strings.Contains(r.Header.Get("Content-Type"), "type=directory") {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		f.objects[r.URL.Path] = b
		w.Header().Set("Etag", etag(b))
		w.Header().Set("Computed-MD5", f.sum(b))
		w.WriteHeader(http.StatusNoContent)
	case http.MethodGet, http.MethodHead:
		b, ok := f.objects[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if m := r.Header.Get("If-Match"); m != "" && m != etag(b) {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		w.Header().Set("Etag", etag(b))
		status := http.StatusOK
		var from, to int
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n > 0 {
			if n == 1 {
				to = len(b) - 1
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(b)))
			b, status = b[from:to+1], http.StatusPartialContent
		} else {
			w.Header().Set("Content-MD5", f.sum(b))
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.WriteHeader(status)
		if r.Method == http.MethodHead {
			return
		}
		if f.breakAt > 0 && f.breakAt < len(b) {
			_, _ = w.Write(b[:f.breakAt])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(b)
	}
}

func etag(b []byte) string { s := md5.Sum(b); return fmt.Sprintf("%x", s[:4]) }

func (f *faulty) sum(b []byte) string {
	s := md5.Sum(b)
	if f.lie {
		s[0]++
	}
	return base64.StdEncoding.EncodeToString(s[:])
}

func (f *faulty) seen() []*http.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func newFaulty(t *testing.T, fns ...func(*client.Options)) (*faulty, *client.Client) {
	t.Helper()
	f := &faulty{objects: map[string][]byte{}}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := client.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Options{Endpoint: srv.URL, Account: "bob", Signer: signer, RetryWaitMin: time.Millisecond, RetryWaitMax: 2 * time.Millisecond}, fns...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return f, c
}

// stream hides everything but Read: a pipe, as far as a client can tell.
type stream struct{ io.Reader }

func TestPut_seekableBodiesAreRetried(t *testing.T) {
	f, c := newFaulty(t)
	f.refuse = []int{0, 503}
	content := bytes.Repeat([]byte("manta"), 1000)
	out, err := c.PutObject(t.Context(), &client.PutObjectInput{Path: "~~/stor/a b/ü", Body: bytes.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.objects["/bob/stor/a b/ü"]; !bytes.Equal(got, content) {
		t.Errorf("stored %d bytes, want %d", len(got), len(content))
	}
	if want := md5.Sum(content); !bytes.Equal(out.MD5, want[:]) {
		t.Errorf("MD5 = %x, want %x: the sum must start anew with each try", out.MD5, want)
	}
	if n := len(f.seen()); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestPut_bodyStartsWhereItStands(t *testing.T) {
	f, c := newFaulty(t)
	f.refuse = []int{503}
	body := strings.NewReader("skipped:content")
	if _, err := body.Seek(8, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(t.Context(), &client.PutObjectInput{Path: "~~/stor/x", Body: body}); err != nil {
		t.Fatal(err)
	}
	if got := string(f.objects["/bob/stor/x"]); got != "content" {
		t.Errorf("stored %q, want %q", got, "content")
	}
}

func TestPut_streamsAreSentOnceAfterConsent(t *testing.T) {
	f, c := newFaulty(t)
	f.refuse = []int{503}
	_, err := c.PutObject(t.Context(), &client.PutObjectInput{Path: "~~/stor/x", Body: stream{strings.NewReader("once")}})
	if !errors.Is(err, client.ErrServiceUnavailable) {
		t.Errorf("error is %v, want ServiceUnavailable", err)
	}
	if n := len(f.seen()); n != 1 {
		t.Errorf("%d requests, want 1: a stream cannot be sent again", n)
	}
	if got := f.seen()[0].Header.Get("Expect"); got != "100-continue" {
		t.Errorf("Expect is %q, want 100-continue", got)
	}

	// The refusal came before the body: with MakeParents the same stream still has all its bytes.
	f.refuse = []int{404, 204}
	body := stream{strings.NewReader("kept")}
	if _, err := c.PutObject(t.Context(), &client.PutObjectInput{Path: "~~/stor/dir/x", Body: body, MakeParents: true}); err != nil {
		t.Fatal(err)
	}
	if got := string(f.objects["/bob/stor/dir/x"]); got != "kept" {
		t.Errorf("stored %q, want %q", got, "kept")
	}
}

func TestPut_conditionsAreNotRetried(t *testing.T) {
	f, c := newFaulty(t)
	f.refuse = []int{503}
	_, err := c.PutObject(t.Context(), &client.PutObjectInput{Path: "~~/stor/x", Body: strings.NewReader("x"), Conditions: client.Conditions{IfNoneMatch: "*"}})
	if err == nil || len(f.seen()) != 1 {
		t.Errorf("error %v after %d requests, want an error after 1: a lost answer would make the second fail", err, len(f.seen()))
	}
}

func TestPut_wrongSumIsAnError(t *testing.T) {
	f, c := newFaulty(t)
	f.lie = true
	_, err := c.PutObject(t.Context(), &client.PutObjectInput{Path: "~~/stor/x", Body: strings.NewReader("x")})
	if !errors.Is(err, client.ErrChecksum) {
		t.Errorf("error is %v, want ErrChecksum", err)
	}
}

func TestGet_goesOnWhereItBroke(t *testing.T) {
	f, c := newFaulty(t)
	content := make([]byte, 100_000)
	_, _ = rand.Read(content)
	f.objects["/bob/stor/x"] = content
	f.breakAt = 30_000
	out, err := c.GetObject(t.Context(), &client.GetObjectInput{Path: "~~/stor/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	got, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Error("content differs")
	}
	for i, r := range f.seen()[1:] {
		if r.Header.Get("If-Match") != etag(content) || r.Header.Get("Range") == "" {
			t.Errorf("request %d has If-Match %q and Range %q", i+1, r.Header.Get("If-Match"), r.Header.Get("Range"))
		}
	}
}

func TestGet_neverMixesTwoObjects(t *testing.T) {
	f, c := newFaulty(t)
	f.objects["/bob/stor/x"] = bytes.Repeat([]byte("a"), 100_000)
	f.breakAt = 50_000
	out, err := c.GetObject(t.Context(), &client.GetObjectInput{Path: "~~/stor/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if _, err := io.ReadFull(out.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.objects["/bob/stor/x"] = bytes.Repeat([]byte("b"), 100_000)
	f.mu.Unlock()
	got, err := io.ReadAll(out.Body)
	if !errors.Is(err, client.ErrPreconditionFailed) {
		t.Errorf("error is %v, want ErrPreconditionFailed", err)
	}
	if bytes.ContainsRune(got, 'b') {
		t.Error("bytes of the second object came after those of the first")
	}
}

func TestGet_wrongSumIsAnError(t *testing.T) {
	f, c := newFaulty(t)
	f.objects["/bob/stor/x"] = []byte("content")
	f.lie = true
	out, err := c.GetObject(t.Context(), &client.GetObjectInput{Path: "~~/stor/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	if _, err := io.ReadAll(out.Body); !errors.Is(err, client.ErrChecksum) {
		t.Errorf("error is %v, want ErrChecksum", err)
	}
}

func TestErrors_areSmithysAndSayTheOperation(t *testing.T) {
	f, c := newFaulty(t)
	f.refuse = []int{404}
	_, err := c.HeadObject(t.Context(), &client.HeadObjectInput{Path: "~~/stor/x"})
	if !errors.Is(err, client.ErrNotFound) {
		t.Errorf("error is %v, want ErrNotFound", err)
	}
	if op, ok := errors.AsType[*smithy.OperationError](err); !ok || op.Operation() != "HeadObject" || op.Service() != client.ServiceID {
		t.Errorf("error %v is no OperationError of HeadObject", err)
	}
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "ResourceNotFound" || api.ErrorFault() != smithy.FaultClient {
		t.Errorf("error %v is no APIError with the code", err)
	}
}

func TestPaths_areCheckedBeforeAnythingIsSent(t *testing.T) {
	f, c := newFaulty(t)
	for _, path := range []string{"", "stor/x", "/bob/../alice/stor/x", "/bob/./x", "~~/a\x00b"} {
		if _, err := c.HeadObject(t.Context(), &client.HeadObjectInput{Path: path}); !errors.Is(err, client.ErrInput) {
			t.Errorf("HeadObject(%q): %v, want ErrInput", path, err)
		}
	}
	if len(f.seen()) != 0 {
		t.Errorf("%d requests were sent", len(f.seen()))
	}
}

func TestNew_refusesWhatCannotWork(t *testing.T) {
	for _, o := range []client.Options{
		{}, {Endpoint: "localhost:8080"}, {Endpoint: "ftp://x"}, {Endpoint: "http://x/path"}, {Endpoint: "http://u:p@x"},
		{Endpoint: "http://x", User: "u"}, {Endpoint: "http://x", Signer: new(client.Signer)},
	} {
		if _, err := client.New(o); err == nil {
			t.Errorf("New(%+v) succeeded", o)
		}
	}
}
