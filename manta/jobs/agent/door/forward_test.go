package door

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForward_store(t *testing.T) {
	r, s, c := realRig(t)
	r.begin("t1")
	r.want(204, "", "PUT", "/alice/stor/d", "", directory)
	r.want(204, "", "PUT", "/alice/stor/d/a%20b%2Bc", "hello", "Authorization: Token of-somebody-else", "Cookie: a=b", "X-Auth-Token: zzz")
	if got := s.Get(c, "/alice/stor/d/a b+c"); got != "hello" {
		t.Errorf("stored %q", got)
	}
	r.want(200, "hello", "GET", "/alice/stor//d/a%20b%2Bc", "")
	r.want(206, "ell", "GET", "/alice/stor/d/a%20b%2Bc", "", "Range: bytes=1-3")
	r.want(200, `"name":"a b+c"`, "GET", "/alice/stor/d?limit=5", "")
	r.want(404, "DirectoryDoesNotExist", "PUT", "/alice/stor/none/x", "hello")
	r.want(404, "ResourceNotFound", "GET", "/alice/stor/none", "")
	r.want(405, "MethodNotAllowed", "TRACE", "/alice/stor/d", "")
	r.want(405, "MethodNotAllowed", "PATCH", "/alice/stor/d", "")
	r.want(409, "bad object name", "GET", "/alice/stor/../x", "")
	if status, _ := r.do("HEAD", "/alice/stor/d/a%20b%2Bc", ""); status != 200 {
		t.Errorf("HEAD = %d", status)
	}
	r.want(204, "", "DELETE", "/alice/stor/d/a%20b%2Bc", "")
	if e := r.taken(); len(e) != 0 {
		t.Errorf("emitted %v by requests that ask for nothing", e)
	}
	res := r.End()
	if res.ExplicitStdout || res.Emitted != 0 || res.Committed || res.Failed != nil {
		t.Errorf("End() = %+v, want nothing but bytes", res)
	}
	if res.InBytes < 1000 || res.OutBytes < 1000 {
		t.Errorf("End() counted %d bytes in and %d out; a dozen requests have more", res.InBytes, res.OutBytes)
	}
}

// A change of metadata has no length, and must not get one on its way.
func TestForward_metadata(t *testing.T) {
	r, s, c := realRig(t)
	s.Put(c, "/alice/stor/x", "x")
	r.begin("t1")
	for _, head := range []string{"", "Transfer-Encoding: chunked\r\n"} {
		conn := r.dial()
		fmt.Fprintf(conn, "PUT /alice/stor/x?metadata=true HTTP/1.1\r\nHost: localhost\r\n%sm-colour: red\r\n\r\n", head)
		if head != "" {
			fmt.Fprint(conn, "0\r\n\r\n")
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 204 {
			b, _ := io.ReadAll(resp.Body)
			t.Errorf("metadata with %q = %s %s", head, resp.Status, b)
		}
	}
	r.want(400, "", "PUT", "/alice/stor/x?metadata=true", "content")
}

func TestForward_emits(t *testing.T) {
	r, s, c := realRig(t)
	s.Put(c, "/alice/stor/d/there", "x")
	tests := []struct {
		name   string
		status int
		path   string
		header []string
		want   Result
		emit   []Emitted
	}{
		{"plain", 204, "/alice/stor/d/o", nil, Result{}, nil},
		{"stdout", 204, "/alice/stor/d/o", []string{stdout}, Result{ExplicitStdout: true, Emitted: 1}, []Emitted{{"/alice/stor/d/o", -1}}},
		{"normalised", 204, "/alice//stor/d/%6F%20p", []string{stdout}, Result{ExplicitStdout: true, Emitted: 1}, []Emitted{{"/alice/stor/d/o p", -1}}},
		{"reducer", 204, "/alice/stor/d/o", []string{stdout, "X-Manta-Reducer: 127"}, Result{ExplicitStdout: true, Emitted: 1}, []Emitted{{"/alice/stor/d/o", 127}}},
		{"reducer too large", 409, "/alice/stor/d/o", []string{stdout, "X-Manta-Reducer: 128"}, Result{ExplicitStdout: true}, nil},
		{"reducer negative", 409, "/alice/stor/d/o", []string{stdout, "X-Manta-Reducer: -1"}, Result{ExplicitStdout: true}, nil},
		{"reducer no number", 409, "/alice/stor/d/o", []string{"X-Manta-Reducer: one"}, Result{}, nil},
		{"reducer twice", 409, "/alice/stor/d/o", []string{stdout, "X-Manta-Reducer: 1", "X-Manta-Reducer: 2"}, Result{ExplicitStdout: true}, nil},
		{"stderr", 204, "/alice/stor/d/e", []string{"X-Manta-Stream: stderr"}, Result{Stderr: "/alice/stor/d/e"}, nil},
		{"core", 204, "/alice/stor/d/c", []string{"X-Manta-Stream: core"}, Result{Core: "/alice/stor/d/c"}, nil},
		{"other stream", 204, "/alice/stor/d/o", []string{"X-Manta-Stream: stdin"}, Result{}, nil},
		{"stream twice", 204, "/alice/stor/d/o", []string{stdout, stdout}, Result{}, nil},
		{"reference", 204, "/alice/stor/none/at/all/", []string{stdout, "X-Manta-Reference: true"}, Result{ExplicitStdout: true, Emitted: 1}, []Emitted{{"/alice/stor/none/at/all", -1}}},
		{"reference to the root", 204, "/", []string{stdout, "X-Manta-Reference: true", "X-Manta-Reducer: 3"}, Result{ExplicitStdout: true, Emitted: 1}, []Emitted{{"/", 3}}},
		{"directory", 204, "/alice/stor/d/e1", []string{stdout, directory}, Result{ExplicitStdout: true}, nil},
		{"refused", 404, "/alice/stor/none/o", []string{stdout}, Result{ExplicitStdout: true}, nil},
		{"link", 204, "/alice/stor/d/l", []string{stdout, "Content-Type: application/json; type=link", "Location: /alice/stor/d/there"}, Result{ExplicitStdout: true, Emitted: 1},
			[]Emitted{{"/alice/stor/d/l", -1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.begin(tt.name)
			body := "content"
			if tt.name == "directory" || tt.name == "link" || strings.HasPrefix(tt.name, "reference") {
				body = ""
			}
			if status, text := r.do("PUT", tt.path, body, tt.header...); status != tt.status {
				t.Errorf("PUT = %d %s, want %d", status, text, tt.status)
			}
			got := r.End()
			got.InBytes, got.OutBytes = 0, 0
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("End() differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.emit, r.taken()); diff != "" {
				t.Errorf("emitted (-want +got):\n%s", diff)
			}
			if tt.name == "reference" && s.Has(c, "/alice/stor/none") {
				t.Error("a reference stored something")
			}
		})
	}
}

// FuzzForward holds what a program may send against what the store and the agent get.
func FuzzForward(f *testing.F) {
	f.Add("PUT", "/alice/stor/a%2Fb//c/?x=1", "stdout", "5", "", "text/plain")
	f.Add("PUT", "/%zz", "core", "-1", "true", "application/json; type=directory")
	f.Add("GET", "//x/../y", "", "1e9", "", "")
	f.Add("PUT", "/a\x00b", "stdout\r\n", "128", "1", "")
	f.Add("POST", "/my/jobs/task/fail", "", "", "", "application/json")
	f.Fuzz(func(t *testing.T, method, target, stream, reducer, reference, contentType string) {
		reached := false
		d, err := New(Config{FrontURL: "http://store", Token: "secret", Front: front(func(req *http.Request) (*http.Response, error) {
			reached = true
			if req.URL.Host != "store" || req.URL.Scheme != "http" || len(req.Header["Authorization"]) != 1 || req.Header["Authorization"][0] != "Token secret" {
				t.Errorf("went to %s with %q", req.URL, req.Header)
			}
			return reply(204, strings.NewReader("")), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		var emitted []Emitted
		d.Begin(Task{ID: "t", Emit: func(e Emitted) { emitted = append(emitted, e) }})
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Token theirs\r\nX-Manta-Stream: %s\r\nX-Manta-Reducer: %s\r\nX-Manta-Reference: %s\r\nContent-Type: %s\r\n\r\n",
			method, target, stream, reducer, reference, contentType))))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		d.serve(w, req.WithContext(context.WithValue(t.Context(), http.ServerContextKey, &http.Server{})))
		res := d.End()
		if int(res.Emitted) != len(emitted) || len(emitted) > 1 {
			t.Errorf("counted %d outputs, told %d", res.Emitted, len(emitted))
		}
		for _, e := range emitted {
			if !strings.HasPrefix(e.Path, "/") || strings.Contains(e.Path, "//") || strings.Contains(e.Path+"/", "/../") || e.Reducer < -1 || e.Reducer > 127 || req.Method != "PUT" || w.Code >= 400 {
				t.Errorf("emitted %+v with %s, answered %d", e, req.Method, w.Code)
			}
		}
		if strings.HasPrefix(req.URL.Path, "/my/jobs/task/") && reached {
			t.Errorf("a control call reached the store")
		}
	})
}
