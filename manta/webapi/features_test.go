package webapi

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
)

func sumOf(s string) string {
	sum := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestObjectHeaders(t *testing.T) {
	w := newWorld(t, worldOptions{})
	big := strings.Repeat("v", 3000)
	put := w.put("/alice/stor/o", "body", "Content-Type: jpg", "Cache-Control: max-age=1", "Surrogate-Key: k", "m-a: 1", "M-B: \xe9", "m-big1: "+big, "m-big2: "+big,
		"Content-Disposition: Attachment; Filename=x.txt", "Durability-Level: 3", "Access-Control-Allow-Origin: https://a, https://b", "Origin: https://any",
		"X-Request-Id: my-id", "Content-MD5: "+sumOf("body"))
	if put.Header.Get("Access-Control-Allow-Origin") != "https://any" || put.Header.Get("X-Request-Id") != "my-id" || put.Header.Get("Computed-Md5") != sumOf("body") {
		t.Errorf("PUT: %v", put.Header)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/jpeg", "Cache-Control": "max-age=1", "Surrogate-Key": "k", "M-A": "1", "M-B": "\xe9", "M-Big1": big, "M-Big2": "",
		"Content-Disposition": `attachment; filename="x.txt"`, "Durability-Level": "3", "Access-Control-Allow-Origin": "https://a, https://b",
		"Content-Length": "4", "Content-Md5": sumOf("body"), "Etag": put.Header.Get("Etag"), "Last-Modified": put.Header.Get("Last-Modified"),
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := w.want(200, "", call{as: "alice", method: method, path: "/alice/stor/o"})
			checkCommon(t, a)
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s %s: %q, want %q", method, name, got, want)
			}
		}
	}
	for origin, want := range map[string]string{"https://b": "https://b", "https://c": ""} {
		if got := w.get("/alice/stor/o", "Origin: "+origin).Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("Origin %s: allowed %q, want %q", origin, got, want)
		}
	}
	again := w.put("/alice/stor/o", "other")
	if again.Header.Get("Etag") == put.Header.Get("Etag") || len(again.Header.Values("Etag")) != 1 {
		t.Errorf("overwritten with etags %q", again.Header.Values("Etag"))
	}
	if h := w.get("/alice/stor/o").Header; h.Get("M-A") != "" || h.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("old headers on a new object: %v", h)
	}
	w.put("/alice/public/p", "x")
	if got := w.want(200, "", call{method: "GET", path: "/alice/public/p"}).Header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("public object allows %q", got)
	}
	w.want(200, "", call{method: "GET", path: "/alice/public/p", clear: true})
}

func TestEmptyObject(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.put("/alice/stor/e1", "")
	w.put("/alice/stor/e2", "", "Transfer-Encoding: chunked")
	for _, path := range []string{"/alice/stor/e1", "/alice/stor/e2"} {
		a := w.get(path, "Range: bytes=0-5")
		if a.body != "" || a.Header.Get("Content-Length") != "0" || a.Header.Get("Content-Md5") != "1B2M2Y8AsgTpgAmY7PhCfg==" || a.Header.Get("Durability-Level") != "0" {
			t.Errorf("%s: %v", path, a.Header)
		}
	}
	if n := w.objects(); n != 0 {
		t.Errorf("%d copies of nothing", n)
	}
}

func TestRange(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.put("/alice/stor/o", "0123456789")
	for header, want := range map[string]string{
		"bytes=0-0": "0", "bytes=2-4": "234", "bytes=7-": "789", "bytes=-3": "789", "bytes=-99": "0123456789", "bytes=5-99": "56789", "Bytes = 1 - 2 ": "12",
		"bytes=0-99999999999999999999": "0123456789",
	} {
		a := w.want(206, "", call{as: "alice", method: "GET", path: "/alice/stor/o", header: []string{"Range: " + header}})
		start := strings.Index("0123456789", want)
		if a.body != want || a.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/10", start, start+len(want)-1) || a.Header.Get("Content-Md5") != "" {
			t.Errorf("%s: %q, %v", header, a.body, a.Header)
		}
	}
	for _, header := range []string{"items=0-1", "nonsense"} {
		if a := w.get("/alice/stor/o", "Range: "+header); a.body != "0123456789" {
			t.Errorf("%s: %q", header, a.body)
		}
	}
	if a := w.want(200, "", call{as: "alice", method: "HEAD", path: "/alice/stor/o", header: []string{"Range: bytes=1-2"}}); a.Header.Get("Content-Length") != "10" {
		t.Errorf("HEAD with a range: %v", a.Header)
	}
}

func TestAccept(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.put("/alice/stor/o", "x", "Content-Type: text/plain; charset=utf-8")
	for _, accept := range []string{"*/*", "text/*", "text/plain", "image/png, text/plain;q=0.5", "TEXT/PLAIN", "*"} {
		w.get("/alice/stor/o", "Accept: "+accept)
	}
	for _, accept := range []string{"text/html", "text/plain;q=0, */*", "application/*"} {
		w.want(406, "NotAcceptable", call{as: "alice", method: "GET", path: "/alice/stor/o", header: []string{"Accept: " + accept}})
	}
}

func TestConditionsThatHold(t *testing.T) {
	w := newWorld(t, worldOptions{})
	etag := w.put("/alice/stor/o", "x", `If-Match: ""`).Header.Get("Etag")
	w.get("/alice/stor/o", "If-Match: "+etag)
	w.get("/alice/stor/o", "If-Match: other, W/"+etag)
	w.get("/alice/stor/o", "If-Match: *")
	w.get("/alice/stor/o", "If-None-Match: other", "If-Modified-Since: Mon, 01 Jan 2001 00:00:00 GMT")
	w.get("/alice/stor/o", "If-Modified-Since: nonsense")
	etag = w.put("/alice/stor/o", "y", "If-Match: "+etag).Header.Get("Etag")
	w.want(204, "", call{as: "alice", method: "DELETE", path: "/alice/stor/o", header: []string{"If-Match: " + etag}})
}

func TestMetadata(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put := w.put("/alice/stor/o", "x", "Content-Type: text/plain", "m-old: 1", "Cache-Control: c")
	a := w.put("/alice/stor/o?metadata=false", "", "Transfer-Encoding: chunked", "m-new: 2")
	if a.Header.Get("Etag") != put.Header.Get("Etag") || a.Header.Get("Last-Modified") == "" || a.Header.Get("Computed-Md5") != "" {
		t.Errorf("metadata PUT: %v", a.Header)
	}
	got := w.get("/alice/stor/o")
	if h := got.Header; got.body != "x" || h.Get("M-Old") != "" || h.Get("M-New") != "2" || h.Get("Cache-Control") != "" || h.Get("Content-Type") != "text/plain" || h.Get("Etag") != put.Header.Get("Etag") {
		t.Errorf("after metadata PUT: %v", h)
	}
	w.put("/alice/stor/o?metadata=true", "", "Transfer-Encoding: chunked", "Content-Type: a/b")
	if h := w.get("/alice/stor/o").Header; h.Get("Content-Type") != "a/b" {
		t.Errorf("content type: %v", h)
	}
	w.mkdir("/alice/stor/d", "m-old: 1")
	w.put("/alice/stor/d?metadata=true", "", "Transfer-Encoding: chunked", "m-new: 2", "Content-Type: text/plain")
	if h := w.get("/alice/stor/d").Header; h.Get("M-Old") != "" || h.Get("M-New") != "2" || h.Get("Content-Type") != directoryType {
		t.Errorf("directory after metadata PUT: %v", h)
	}
}

func TestDirectories(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for _, top := range []string{"stor", "public", "jobs", "reports"} {
		w.mkdir("/alice/" + top)
		if a := w.get("/alice/" + top); a.Header.Get("Result-Set-Size") != "0" || a.Header.Get("Content-Type") != directoryType {
			t.Errorf("empty %s: %v", top, a.Header)
		}
	}
	w.mkdir("/alice/stor/d", "m-a: 1", "Content-Disposition: a/b; c")
	before := w.get("/alice/stor/d")
	w.mkdir("/alice/stor/d", "m-a: 1")
	if after := w.get("/alice/stor/d"); after.Header.Get("Last-Modified") != before.Header.Get("Last-Modified") {
		t.Errorf("the same directory again was written")
	}
	for i := range 5 {
		w.put(fmt.Sprintf("/alice/stor/d/o%d", i), strings.Repeat("x", i))
	}
	w.mkdir("/alice/stor/d/p%C3%BC%20b%25")
	names := func(query string) (names []string) {
		t.Helper()
		a := w.get("/alice/stor/d" + query)
		if a.Header.Get("Result-Set-Size") != "6" {
			t.Errorf("Result-Set-Size: %s", a.Header.Get("Result-Set-Size"))
		}
		for line := range strings.Lines(a.body) {
			var e struct{ Name string }
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			names = append(names, e.Name)
		}
		return names
	}
	for query, want := range map[string]string{
		"": "o0 o1 o2 o3 o4 pü b%", "?limit=2": "o0 o1", "?marker=o3": "o3 o4 pü b%", "?marker=o3&sort_order=reverse&limit=2": "o3 o2",
		"?dir": "pü b%", "?obj=1&limit=1024": "o0 o1 o2 o3 o4", "?obj&dir": "o0 o1 o2 o3 o4 pü b%", "?directory=false": "pü b%",
	} {
		if got := strings.Join(names(query), " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	if got := names("?sort=mtime"); len(got) != 6 {
		t.Errorf("by mtime: %q", got)
	}
	w.want(200, "", call{as: "poseidon", method: "GET", path: "/alice/stor/d?sort=none&skip_owner_check=true"})
	head := w.want(200, "", call{as: "alice", method: "HEAD", path: "/alice/stor/d"})
	if head.Header.Get("Result-Set-Size") != "6" || head.Header.Get("M-A") != "1" {
		t.Errorf("HEAD: %v", head.Header)
	}
	// A directory in the place of an object, and nothing left of that.
	w.mkdir("/alice/stor/d/o1")
	if a := w.get("/alice/stor/d/o1"); a.Header.Get("Etag") != "" || a.body != "" {
		t.Errorf("directory over object: %v %s", a.Header, a.body)
	}
	root := w.get("/alice")
	if root.Header.Get("Result-Set-Size") != "5" || strings.Count(root.body, "\n") != 5 || !strings.HasPrefix(root.body, `{"name":"jobs","type":"directory","mtime":"2013-05-22T17:39:43.714Z"}`) {
		t.Errorf("root: %v %s", root.Header, root.body)
	}
	if a := w.get("/alice?marker=public"); a.Header.Get("Result-Set-Size") != "3" {
		t.Errorf("root after public: %s", a.body)
	}
}

func TestLinks(t *testing.T) {
	w := newWorld(t, worldOptions{})
	linkType := "Content-Type: application/json; type=link"
	put := w.put("/alice/stor/src", "body", "m-a: 1", "Content-Type: text/plain")
	a := w.want(204, "", call{as: "alice", method: "PUT", path: "/alice/stor/dst", header: []string{linkType, "Location: /alice/stor/src", "m-b: 2"}})
	if a.Header.Get("Etag") != put.Header.Get("Etag") || a.Header.Get("Last-Modified") != put.Header.Get("Last-Modified") {
		t.Errorf("link: %v, want the source's %v", a.Header, put.Header)
	}
	w.want(204, "", call{as: "alice", method: "DELETE", path: "/alice/stor/src"})
	got := w.get("/alice/stor/dst")
	if got.body != "body" || got.Header.Get("M-A") != "1" || got.Header.Get("M-B") != "" || got.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("through the link: %s %v", got.body, got.Header)
	}
	// Across accounts: what is public may be linked, what is not may not.
	w.put("/alice/public/pub", "public")
	w.want(204, "", call{as: "bob", method: "PUT", path: "/bob/stor/l", header: []string{linkType, "Location: /alice/public/pub"}})
	if a := w.want(200, "", call{as: "bob", method: "GET", path: "/bob/stor/l"}); a.body != "public" {
		t.Errorf("link across accounts: %q", a.body)
	}
	w.want(403, "AuthorizationFailed", call{as: "bob", method: "PUT", path: "/bob/stor/l2", header: []string{linkType, "Location: /alice/stor/dst"}})
}

func TestPreflight(t *testing.T) {
	w := newWorld(t, worldOptions{})
	cors := []string{"Access-Control-Allow-Origin: https://a", "Access-Control-Allow-Methods: GET, PUT", "Access-Control-Allow-Headers: x-one, x-two", "Access-Control-Max-Age: 60"}
	w.put("/alice/public/o", "x", cors...)
	w.mkdir("/alice/public/d", cors...)
	for _, test := range []struct {
		path, origin, method, headers string
		allowed                       bool
	}{
		{"/alice/public/o", "https://a", "GET", "", true},
		{"/alice/public/o", "https://a", "GET", "x-one,X-Two", true},
		{"/alice/public/o", "https://a", "GET", "x-three", false},
		{"/alice/public/o", "https://a", "DELETE", "", false},
		{"/alice/public/o", "https://b", "GET", "", false},
		{"/alice/public/o", "", "GET", "", false},
		{"/alice/public/o", "https://a", "", "", false},
		{"/alice/public/d/new", "https://a", "PUT", "", true},
		{"/alice/public/new", "https://a", "PUT", "", false},
	} {
		a := w.want(200, "", call{method: "OPTIONS", path: test.path, header: []string{"Origin: " + test.origin,
			"Access-Control-Request-Method: " + test.method, "Access-Control-Request-Headers: " + test.headers}})
		h := a.Header
		if allowed := h.Get("Access-Control-Allow-Origin") != ""; allowed != test.allowed || allowed && (h.Get("Access-Control-Max-Age") != "60" || h.Get("Access-Control-Allow-Methods") != "GET, PUT") {
			t.Errorf("%+v: %v", test, h)
		}
	}
	w.put("/alice/stor/private", "x", cors...)
	w.want(403, "AuthorizationFailed", call{method: "OPTIONS", path: "/alice/stor/private", header: []string{"Origin: https://a", "Access-Control-Request-Method: GET"}})
	w.want(404, "ResourceNotFound", call{as: "alice", method: "OPTIONS", path: "/alice/public/none", header: []string{"Origin: https://a", "Access-Control-Request-Method: GET"}})
}

func TestRoles(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.user("alice/carol", "readers", "CAN getobject, getdirectory", "CAN putobject /alice/stor/named/*")
	w.user("alice/erin", "lookers", "CAN getobject")
	w.user("alice/dave", "-writers", "CAN *")
	w.mkdir("/alice/stor/named")
	w.put("/alice/stor/plain", "p")
	tagged := w.put("/alice/stor/tagged", "t", "Role-Tag: readers")
	_ = tagged
	w.want(200, "", call{as: "alice/carol", method: "GET", path: "/alice/stor/tagged"})
	w.want(403, "AuthorizationFailed", call{as: "alice/carol", method: "GET", path: "/alice/stor/plain"}) // a rule of hers names resources, but not this one
	w.want(403, "NoMatchingRoleTag", call{as: "alice/erin", method: "GET", path: "/alice/stor/plain"})
	w.want(403, "AuthorizationFailed", call{as: "alice/carol", method: "DELETE", path: "/alice/stor/tagged"})
	w.want(404, "ResourceNotFound", call{as: "alice/carol", method: "GET", path: "/alice/stor/none"})
	if h := w.get("/alice/stor/tagged").Header; h.Get("Role-Tag") != "readers" {
		t.Errorf("Role-Tag: %v", h)
	}
	// What a user creates carries the user's active roles.
	w.want(204, "", call{as: "alice/carol", method: "PUT", path: "/alice/stor/named/o", body: "x"})
	if h := w.get("/alice/stor/named/o").Header; h.Get("Role-Tag") != "readers" {
		t.Errorf("Role-Tag of a user's object: %v", h)
	}
	w.want(403, "", call{as: "alice/dave", method: "GET", path: "/alice/stor/tagged"})
	w.want(204, "", call{as: "alice", method: "PUT", path: "/alice/stor/tagged?metadata=true", header: []string{"Transfer-Encoding: chunked", "Role-Tag: readers, writers"}})
	w.want(200, "", call{as: "alice/dave", method: "GET", path: "/alice/stor/tagged", header: []string{"Role: writers"}})
	w.want(200, "", call{as: "alice/dave", method: "GET", path: "/alice/stor/tagged", header: []string{"Role: *"}})
	w.want(409, "InvalidRole", call{as: "alice/dave", method: "GET", path: "/alice/stor/tagged", header: []string{"Role: readers"}})
	// Making a directory that is there leaves its tags alone, unless others are asked for.
	w.mkdir("/alice/stor/named", "Role-Tag: readers")
	w.mkdir("/alice/stor/named")
	w.mkdir("/alice/stor/named", "m-a: b")
	if h := w.get("/alice/stor/named").Header; h.Get("Role-Tag") != "readers" || h.Get("M-A") != "b" {
		t.Errorf("Role-Tag of a directory made again: %v", h)
	}
	w.mkdir("/alice/stor/named", "Role-Tag: writers")
	if h := w.get("/alice/stor/named").Header; h.Get("Role-Tag") != "writers" || h.Get("M-A") != "" {
		t.Errorf("Role-Tag of a directory tagged again: %v", h)
	}
	// A metadata PUT without tags clears them.
	w.put("/alice/stor/tagged?metadata=true", "", "Transfer-Encoding: chunked")
	w.want(403, "AuthorizationFailed", call{as: "alice/carol", method: "GET", path: "/alice/stor/tagged"})
	w.want(200, "", call{as: "poseidon", method: "GET", path: "/alice/stor/plain"})
	// Users may not use uploads.
	w.want(403, "AuthorizationFailed", call{as: "alice/carol", method: "POST", path: "/alice/uploads", body: `{"objectPath":"/alice/stor/x"}`})
}

func TestToken(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.put("/alice/stor/o", "x")
	a := w.want(201, "", call{as: "alice", method: "POST", path: "/alice/tokens"})
	checkCommon(t, a)
	var body struct{ Token string }
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Token == "" || a.Header.Get("Content-Md5") != sumOf(a.body) {
		t.Fatalf("token: %s, %v", a.body, a.Header)
	}
	w.want(200, "", call{method: "GET", path: "/alice/stor/o", header: []string{"Authorization: Token " + body.Token}})
	w.want(403, "AuthorizationFailed", call{method: "GET", path: "/bob/stor", header: []string{"Authorization: Token " + body.Token}})
}

func TestPresigned(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.put("/alice/stor/a%20b", "x")
	host := strings.TrimPrefix(w.clear.URL, "http://")
	signed, err := httpsig.SignURL(context.Background(), w.signers["alice"], "/alice/keys/"+w.signers["alice"].PublicKey().MD5(), httpsig.URL{
		Methods: []string{"GET", "HEAD"}, Host: host, Path: "/alice/stor/a%20b", Expires: time.Now().Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	signed = w.clear.URL + signed
	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "DELETE": 403} {
		r, _ := http.NewRequest(method, signed, nil)
		resp, err := noRedirects.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if resp.StatusCode != status {
			t.Errorf("%s %s: %d, want %d", method, signed, resp.StatusCode, status)
		}
	}
}

func TestAudit(t *testing.T) {
	var mu sync.Mutex
	var lines []*Audit
	w := newWorld(t, worldOptions{config: func(c *Config) {
		c.Audit = func(a *Audit) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, a)
		}
	}})
	w.put("/alice/stor/o", "12345", "m-a: b", "X-Auth-Token-Not: x")
	w.want(403, "", call{method: "GET", path: "/alice/stor/o?expires=1&signature=SECRET&keyId=x&algorithm=y"})
	w.await(func() bool { mu.Lock(); defer mu.Unlock(); return len(lines) == 2 })
	put, get := lines[0], lines[1]
	if put.Operation != "PutObject" || put.Status != 204 || put.BytesIn != 5 || put.Caller != "alice" || put.CallerUUID != w.uuids["alice"] || put.OwnerUUID != w.uuids["alice"] ||
		put.Object == "" || put.RequestID == "" || put.Header.Get("M-A") != "b" || put.Header.Get("Authorization") != "" {
		t.Errorf("audit of a put: %+v", put)
	}
	if get.Status != 403 || get.Code != "InvalidQueryStringAuthentication" || strings.Contains(get.Target, "SECRET") {
		t.Errorf("audit of a refusal: %+v", get)
	}
	// A log that is not written drops lines rather than wait, and says so.
	var out strings.Builder
	log := NewAuditLog(slog.New(slog.NewTextHandler(&out, nil)), 2)
	for range 5 {
		log.Add(put)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	log.Run(ctx)
	if text := out.String(); strings.Count(text, "_audit=true") != 2 || !strings.Contains(text, "lines=3") || !strings.Contains(text, "operation=PutObject") {
		t.Errorf("log: %s", text)
	}
}

func TestCurlIsClosed(t *testing.T) {
	w := newWorld(t, worldOptions{})
	if a := w.get("/alice/stor", "User-Agent: curl/8"); !a.Close {
		t.Errorf("curl's connection stays open: %v", a.Header)
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.put("/alice/stor/o", "12345")
	w.get("/alice/stor/o")
	w.want(204, "", call{as: "alice", method: "DELETE", path: "/alice/stor/o"})
	w.want(404, "", call{as: "alice", method: "GET", path: "/whatever/the/stranger"})
	m := w.Metrics()
	if m.Inbound != 5 || m.Outbound != 5 || m.Deleted != 5 {
		t.Errorf("bytes: %+v", m)
	}
	var got []string
	for _, r := range m.Requests {
		got = append(got, fmt.Sprint(r.Operation, " ", r.Method, " ", r.Status, " ", r.Count))
	}
	want := []string{"  404 1", "DeleteStorage DELETE 204 1", "GetStorage GET 200 1", "PutObject PUT 204 1"}
	if !slices.Equal(got, want) {
		t.Errorf("requests: %q, want %q", got, want)
	}
}
