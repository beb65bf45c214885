package webapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// pathFor returns a path that a pattern takes.
func pathFor(pattern string) string {
	const id = "abc0bfe3-719c-43e3-839a-4a5df4be8023"
	return strings.NewReplacer(":login", "alice", ":prefix", "abc", ":upload", id, ":part", "0", ":id", id, ":type", "master", "/*", "/some/thing").Replace(pattern)
}

// TestBadCredentials tries every route with every kind of bad credential. None may be let in, and none may leave anything behind.
func TestBadCredentials(t *testing.T) {
	w := newWorld(t, worldOptions{})
	stranger := newKey(t)
	w.signers["nobody"] = stranger
	w.signers["alice/ghost"] = stranger
	mallory := w.signers["alice"]
	w.user("alice/blocked", "")
	good := w.request(call{as: "alice", method: "GET", path: "/alice/stor"}).Header.Get("Authorization")
	kinds := []struct {
		name   string
		status int // of reads and writes alike, but for anonymous ones
		code   string
		spoil  func(*http.Request)
	}{
		{"none", 403, "AuthorizationFailed", func(r *http.Request) {}},
		{"no second word", 400, "InvalidHeader", func(r *http.Request) { r.Header.Set("Authorization", "Signature") }},
		{"another scheme", 403, "AuthorizationSchemeNotAllowed", func(r *http.Request) { r.Header.Set("Authorization", "Basic YTpi") }},
		{"not a signature", 400, "InvalidHeader", func(r *http.Request) { r.Header.Set("Authorization", "Signature xyz") }},
		{"bad key id", 403, "InvalidKeyId", func(r *http.Request) {
			r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
			r.Header.Set("Authorization", `Signature keyId="/alice/kees/x",algorithm="rsa-sha256",signature="AAAA"`)
		}},
		{"bad algorithm", 401, "InvalidAlgorithm", func(r *http.Request) {
			r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
			r.Header.Set("Authorization", `Signature keyId="/alice/keys/x",algorithm="hmac-sha1",signature="AAAA"`)
		}},
		{"unknown account", 403, "AccountDoesNotExist", func(r *http.Request) { w.sign(r, "nobody") }},
		{"unknown user", 403, "UserDoesNotExist", func(r *http.Request) { w.sign(r, "alice/ghost") }},
		{"unknown key", 403, "KeyDoesNotExist", func(r *http.Request) {
			w.signers["alice"] = stranger
			w.sign(r, "alice")
			w.signers["alice"] = mallory
		}},
		{"another text", 403, "InvalidSignature", func(r *http.Request) {
			w.sign(r, "alice")
			r.Header.Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
		}},
		{"no date", 400, "InvalidHeader", func(r *http.Request) { r.Header.Set("Authorization", good) }},
		{"old date", 400, "", func(r *http.Request) {
			r.Header.Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			w.sign(r, "alice")
		}},
		{"token", 403, "InvalidAuthenticationToken", func(r *http.Request) { r.Header.Set("Authorization", "Token aGVsbG8=") }},
		{"another's", 403, "AuthorizationFailed", func(r *http.Request) { w.sign(r, "bob") }},
		{"user without roles", 403, "", func(r *http.Request) { w.sign(r, "alice/blocked") }},
		{"broken presigned", 403, "InvalidQueryStringAuthentication", func(r *http.Request) { r.URL.RawQuery = "expires=1&signature=x" }},
		{"expired presigned", 403, "InvalidQueryStringAuthentication", func(r *http.Request) {
			r.URL.RawQuery = "expires=1&signature=x&keyId=%2Falice%2Fkeys%2Fx&algorithm=RSA-SHA256"
		}},
	}
	// Something to be found at the paths, so that what protects is not its absence.
	w.mkdir("/alice/stor/some")
	w.put("/alice/stor/some/thing", "secret")
	before := w.objects()
	tried := 0
	for _, route := range w.Routes() {
		if route.Open {
			continue
		}
		path := pathFor(route.Pattern)
		for _, kind := range kinds {
			r := w.request(call{method: route.Method, path: path})
			if route.Type != "" {
				r.Header.Set("Content-Type", "application/json; type="+route.Type)
				r.Header.Set("Location", "/alice/stor/some/thing")
			}
			kind.spoil(r)
			resp, err := noRedirects.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			b := readAll(t, resp)
			tried++
			public := strings.HasPrefix(path, "/alice/public") && kind.name == "none"
			exists := strings.HasPrefix(path, "/alice/stor/some")
			known := kind.name == "another's" || kind.name == "user without roles"
			a := answer{resp, b}
			switch {
			case resp.StatusCode < 300 || resp.StatusCode >= 500 || strings.Contains(b, "secret"):
				t.Errorf("%s %s with %s: let in with %d %s", route.Method, path, kind.name, resp.StatusCode, b)
			case (known || public) && !exists && (resp.StatusCode == 404 || resp.StatusCode == 405):
				// Somebody, but not there: what is not there is said to anybody.
			case public, known && resp.StatusCode == 403:
			case known && resp.StatusCode == 405, known && resp.StatusCode == 409:
			case resp.StatusCode != kind.status || kind.code != "" && route.Method != "HEAD" && a.code() != kind.code:
				t.Errorf("%s %s with %s: %d %s, want %d %s", route.Method, path, kind.name, resp.StatusCode, b, kind.status, kind.code)
			}
		}
	}
	if tried < 500 {
		t.Errorf("only %d combinations were tried", tried)
	}
	if w.objects() != before {
		t.Errorf("%d copies were stored", w.objects()-before)
	}
	if a := w.get("/alice/stor/some/thing"); a.body != "secret" {
		t.Errorf("after all that: %q", a.body)
	}
	for _, top := range []string{"public", "jobs", "reports", "uploads"} {
		if a := w.get("/alice/" + top); a.body != "" {
			t.Errorf("%s holds %s", top, a.body)
		}
	}
}

func TestRouting(t *testing.T) {
	w := newWorld(t, worldOptions{config: func(c *Config) { c.DocsURL = "https://docs.example/" }})
	id := uuid.NewString()
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/nosuch", 403, "AccountDoesNotExist"},
		{"GET", "/alice/nosuch", 404, "ResourceNotFound"},
		{"GET", "/alice/nosuch/x", 404, "ResourceNotFound"},
		{"GET", "/1alice/stor", 404, "ResourceNotFound"},
		{"PATCH", "/alice/stor/x", 405, ""},
		{"POST", "/alice/stor/x", 405, ""},
		{"GET", "/alice/tokens", 405, ""},
		{"POST", "/ping", 405, ""},
		{"GET", "/alice/jobs/" + id + "/live/status", 404, "ResourceNotFound"},
		{"GET", "/alice/medusa/attach/x/master", 404, "ResourceNotFound"},
		{"GET", "/alice/stor/%ff", 400, "InvalidResource"},
		{"GET", "/alice/stor/a%00b", 400, "InvalidResource"},
		{"GET", "/alice/stor/%2e%2e/x", 400, "InvalidResource"},
		{"GET", "/alice/public/..%2fstor", 400, "InvalidResource"},
		{"GET", "/alice/stor/" + strings.Repeat("x", 4096), 400, "InvalidResource"},
		{"GET", "/alice/stor/" + strings.Repeat("x", 4000), 404, "ResourceNotFound"},
		{"GET", "//alice///stor//", 200, ""},
		{"HEAD", "/alice/stor/", 200, ""},
		{"GET", "/alice", 200, ""},
		{"PUT", "/alice", 400, "OperationNotAllowedOnRootDirectory"},
		{"POST", "/alice", 400, "OperationNotAllowedOnRootDirectory"},
		{"DELETE", "/alice", 400, "OperationNotAllowedOnRootDirectory"},
		{"DELETE", "/alice/stor", 400, "OperationNotAllowedOnRootDirectory"},
		{"GET", "/", 302, ""},
		{"GET", "/docs", 302, ""},
		{"GET", "/docs/any/thing", 302, ""},
		{"GET", "/ping", 200, ""},
		{"GET", "/crossdomain.xml", 200, ""},
		{"PUT", "/alice/uploads", 405, ""},
		{"HEAD", "/alice/uploads", 200, ""},
		{"GET", "/alice/uploads/" + id, 404, "ResourceNotFound"},
		{"GET", "/alice/uploads/abc/" + id + "/state", 404, "ResourceNotFound"},
		{"PUT", "/alice/uploads/abc/" + id + "/state", 405, ""},
		{"HEAD", "/alice/uploads/abc/" + id + "/state", 405, ""},
		{"GET", "/alice/uploads/abc/" + id + "/abort", 405, ""},
		{"DELETE", "/alice/uploads/abc/" + id + "/commit", 405, ""},
		{"PUT", "/alice/uploads/abc/" + id, 405, ""},
		{"DELETE", "/alice/uploads/abc/" + id, 405, ""},
		{"GET", "/alice/uploads/abc/" + id + "/0", 405, ""},
		{"PUT", "/alice/uploads/abc", 405, ""},
	} {
		a := w.want(test.status, test.code, call{as: "alice", method: test.method, path: test.path})
		if a.StatusCode == 405 && a.body != "" {
			t.Errorf("%s %s: 405 with a body: %s", test.method, test.path, a.body)
		}
		if a.StatusCode == 302 && a.Header.Get("Location") != "https://docs.example/" {
			t.Errorf("%s leads to %s", test.path, a.Header.Get("Location"))
		}
		checkCommon(t, a)
	}
}

// checkCommon holds what every answer must have.
func checkCommon(t *testing.T, a answer) {
	t.Helper()
	for _, name := range []string{"Date", "Server", "X-Request-Id", "X-Response-Time", "X-Server-Name"} {
		if len(a.Header.Values(name)) != 1 {
			t.Errorf("%s %s: %d times %s", a.Request.Method, a.Request.URL, len(a.Header.Values(name)), name)
		}
	}
	for name, values := range a.Header {
		if len(values) != 1 {
			t.Errorf("%s %s: %s: %q", a.Request.Method, a.Request.URL, name, values)
		}
	}
	if a.StatusCode >= 400 && a.StatusCode != 405 && a.Request.Method != "HEAD" {
		if a.code() == "" || a.Header.Get("Content-Md5") == "" || a.Header.Get("Content-Length") == "" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: not a proper error: %v %s", a.Request.Method, a.Request.URL, a.Header, a.body)
		}
	}
	if a.StatusCode == 200 || a.StatusCode == 201 {
		if a.Header.Get("Content-Type") == "" && a.Request.URL.Path != "/ping" {
			t.Errorf("%s %s: %d without a content type", a.Request.Method, a.Request.URL, a.StatusCode)
		}
	}
}

// TestRouteQuery has a route that only some queries take.
func TestRouteQuery(t *testing.T) {
	w := newWorld(t, worldOptions{config: func(c *Config) {
		c.Routes = []Route{{Name: "Test", Method: "GET", Pattern: "/:login/jobs", Query: []string{"state", "name"}, Handle: func(r *Request) error {
			if err := r.AuthorizeOn("test", r.Path, nil); err != nil {
				return err
			}
			r.Blob(http.StatusOK, "text/plain", []byte("found"))
			return nil
		}}}
	}})
	for query, found := range map[string]bool{
		"": false, "?": false, "?limit=3": false, "?xstate=1": false, "?x=state": false,
		"?state=x": true, "?limit=3&NAME=a": true, "?name": true, "?state=": true,
	} {
		a := w.get("/alice/jobs" + query)
		if (a.body == "found") != found {
			t.Errorf("GET with %s: %q", query, a.body)
		}
		checkCommon(t, a)
		if found && (a.Header.Get("Content-Length") != "5" || a.Header.Get("Content-Md5") != sumOf("found")) {
			t.Errorf("headers %v", a.Header)
		}
	}
	w.want(403, "AuthorizationFailed", call{as: "bob", method: "GET", path: "/alice/jobs?state=x"})
}
