package webapi

import (
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/manta"
)

// TestRefusals goes through the error codes of objects and directories.
func TestRefusals(t *testing.T) {
	w := newWorld(t, worldOptions{maxEntries: 3, config: func(c *Config) { c.MaxObjectSize = 1 << 20 }})
	w.put("/alice/stor/file", "0123456789", "Content-Type: text/plain")
	w.mkdir("/alice/stor/dir")
	w.put("/alice/stor/dir/child", "x")
	dirType := "Content-Type: application/json; type=directory"
	linkType := "Content-Type: application/json; type=link"
	future := time.Now().Add(time.Hour).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
	for _, test := range []struct {
		name   string
		status int
		code   string
		call   call
	}{
		{"get what is not there", 404, "ResourceNotFound", call{method: "GET", path: "/alice/stor/none"}},
		{"get below an object", 404, "ResourceNotFound", call{method: "GET", path: "/alice/stor/file/x"}},
		{"delete what is not there", 404, "ResourceNotFound", call{method: "DELETE", path: "/alice/stor/none"}},
		{"delete a full directory", 400, "DirectoryNotEmpty", call{method: "DELETE", path: "/alice/stor/dir"}},
		{"delete a root", 400, "OperationNotAllowedOnRootDirectory", call{method: "DELETE", path: "/alice/public"}},
		{"put without a parent", 404, "DirectoryDoesNotExist", call{method: "PUT", path: "/alice/stor/no/x", body: "x"}},
		{"put below an object", 400, "ParentNotDirectory", call{method: "PUT", path: "/alice/stor/file/x", body: "x"}},
		{"put over a directory", 400, "OperationNotAllowedOnDirectory", call{method: "PUT", path: "/alice/stor/dir", body: "x"}},
		{"put over a root", 400, "OperationNotAllowedOnDirectory", call{method: "PUT", path: "/alice/stor", body: "x"}},
		{"put over a root, typed", 400, "OperationNotAllowedOnRootDirectory", call{method: "PUT", path: "/alice/stor", body: "x", header: []string{"Content-Type: text/plain"}}},
		{"mkdir without a parent", 404, "DirectoryDoesNotExist", call{method: "PUT", path: "/alice/stor/no/x", header: []string{dirType}}},
		{"mkdir below an object", 400, "ParentNotDirectory", call{method: "PUT", path: "/alice/stor/file/x", header: []string{dirType}}},
		{"no durability", 400, "InvalidDurabilityLevel", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"Durability-Level: 0"}}},
		{"too much durability", 400, "InvalidDurabilityLevel", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"X-Durability-Level: 10"}}},
		{"durability in words", 400, "InvalidDurabilityLevel", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"Durability-Level: two"}}},
		{"more copies than nodes", 507, "NotEnoughSpace", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"Durability-Level: 9"}}},
		{"bad md5", 400, "BadRequest", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"Content-MD5: x"}}},
		{"md5 of something else", 400, "ContentMD5Mismatch", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"Content-MD5: " + manta.ZeroMD5}}},
		{"md5 of something, empty body", 400, "ContentMD5Mismatch", call{method: "PUT", path: "/alice/stor/x", header: []string{"Content-Length: 0", "Content-MD5: nRaKzI4d8KTfBDPTWcNNTg=="}}},
		{"bad disposition", 400, "BadRequest", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"Content-Disposition: a/b; c"}}},
		{"negative limit", 400, "InvalidMaxContentLength", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"Transfer-Encoding: chunked", "Max-Content-Length: -1"}}},
		{"beyond its limit", 413, "MaxContentLengthExceeded", call{method: "PUT", path: "/alice/stor/x", body: strings.Repeat("x", 100), header: []string{"Transfer-Encoding: chunked", "Max-Content-Length: 99"}}},
		{"beyond the server's limit", 413, "MaxContentLengthExceeded", call{method: "PUT", path: "/alice/stor/x", body: strings.Repeat("x", 1<<20+1)}},
		{"chunked beyond the server's limit", 413, "MaxContentLengthExceeded", call{method: "PUT", path: "/alice/stor/x", body: strings.Repeat("x", 1<<20+1), header: []string{"Transfer-Encoding: chunked"}}},
		{"unknown role tag", 409, "InvalidRoleTag", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"Role-Tag: nosuch"}}},
		{"unknown role", 409, "InvalidRole", call{method: "GET", path: "/alice/stor/file", header: []string{"Role: nosuch"}}},
		{"other etag", 412, "PreconditionFailed", call{method: "GET", path: "/alice/stor/file", header: []string{"If-Match: other"}}},
		{"put over another etag", 412, "PreconditionFailed", call{method: "PUT", path: "/alice/stor/file", body: "x", header: []string{"If-Match: other"}}},
		{"put where there must be something", 412, "PreconditionFailed", call{method: "PUT", path: "/alice/stor/x", body: "x", header: []string{"If-Match: a"}}},
		{"put where there must be nothing", 412, "PreconditionFailed", call{method: "PUT", path: "/alice/stor/file", body: "x", header: []string{`If-Match: ""`}}},
		{"put unless any", 412, "PreconditionFailed", call{method: "PUT", path: "/alice/stor/file", body: "x", header: []string{"If-None-Match: *"}}},
		{"put unless modified", 412, "PreconditionFailed", call{method: "PUT", path: "/alice/stor/file", body: "x", header: []string{"If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT"}}},
		{"put if modified", 412, "PreconditionFailed", call{method: "PUT", path: "/alice/stor/file", body: "x", header: []string{"If-Modified-Since: " + future}}},
		{"delete another etag", 412, "PreconditionFailed", call{method: "DELETE", path: "/alice/stor/file", header: []string{"If-Match: other"}}},
		{"not modified", 304, "", call{method: "GET", path: "/alice/stor/file", header: []string{"If-Modified-Since: " + future}}},
		{"not modified, any", 304, "", call{method: "HEAD", path: "/alice/stor/file", header: []string{"If-None-Match: *"}}},
		{"not acceptable", 406, "NotAcceptable", call{method: "GET", path: "/alice/stor/file", header: []string{"Accept: image/png"}}},
		{"several ranges", 501, "NotImplemented", call{method: "GET", path: "/alice/stor/file", header: []string{"Range: bytes=0-1,3-4"}}},
		{"range beyond", 416, "RequestedRangeNotSatisfiable", call{method: "GET", path: "/alice/stor/file", header: []string{"Range: bytes=10-"}}},
		{"range backwards", 416, "RequestedRangeNotSatisfiable", call{method: "GET", path: "/alice/stor/file", header: []string{"Range: bytes=5-3"}}},
		{"range of nothing", 416, "RequestedRangeNotSatisfiable", call{method: "GET", path: "/alice/stor/file", header: []string{"Range: bytes=-0"}}},
		{"range of no numbers", 416, "RequestedRangeNotSatisfiable", call{method: "GET", path: "/alice/stor/file", header: []string{"Range: bytes=a-b"}}},
		{"limit 0", 400, "InvalidArgumentError", call{method: "GET", path: "/alice/stor?limit=0"}},
		{"limit 1025", 400, "InvalidArgumentError", call{method: "GET", path: "/alice/stor?limit=1025"}},
		{"limit x", 400, "InvalidArgumentError", call{method: "GET", path: "/alice/stor?limit=x"}},
		{"no date", 400, "InvalidParameter", call{method: "GET", path: "/alice/stor?sort=mtime&marker=yesterday"}},
		{"operators only", 403, "QueryParameterForbidden", call{method: "GET", path: "/alice/stor?sort=none&skip_owner_check=true"}},
		{"metadata of nothing", 404, "ResourceNotFound", call{method: "PUT", path: "/alice/stor/x?metadata=true", header: []string{"Transfer-Encoding: chunked"}}},
		{"metadata with a length", 400, "InvalidUpdate", call{method: "PUT", path: "/alice/stor/file?metadata=true", header: []string{"Content-Length: 0"}, body: "x"}},
		{"metadata with md5", 400, "InvalidUpdate", call{method: "PUT", path: "/alice/stor/file?metadata=true", header: []string{"Content-MD5: x", "Transfer-Encoding: chunked"}}},
		{"metadata with durability", 400, "InvalidUpdate", call{method: "PUT", path: "/alice/stor/file?metadata=true", header: []string{"Durability-Level: 2", "Transfer-Encoding: chunked"}}},
		{"metadata of a directory with a length", 400, "InvalidUpdate", call{method: "PUT", path: "/alice/stor/dir?metadata=true", body: "x"}},
		{"link to nowhere", 400, "LocationRequired", call{method: "PUT", path: "/alice/stor/x", header: []string{linkType}}},
		{"link to nothing", 404, "SourceObjectNotFound", call{method: "PUT", path: "/alice/stor/x", header: []string{linkType, "Location: /alice/stor/none"}}},
		{"link to nobody's", 404, "SourceObjectNotFound", call{method: "PUT", path: "/alice/stor/x", header: []string{linkType, "Location: /nobody/stor/none"}}},
		{"link to no path", 400, "InvalidLink", call{method: "PUT", path: "/alice/stor/x", header: []string{linkType, "Location: /alice/stor/%zz"}}},
		{"link to a directory", 400, "LinkNotObject", call{method: "PUT", path: "/alice/stor/x", header: []string{linkType, "Location: /alice/stor/dir"}}},
		{"link over a directory", 400, "OperationNotAllowedOnDirectory", call{method: "PUT", path: "/alice/stor/dir", header: []string{linkType, "Location: /alice/stor/file"}}},
		{"link over a root", 400, "OperationNotAllowedOnRootDirectory", call{method: "PUT", path: "/alice/stor", header: []string{linkType, "Location: /alice/stor/file"}}},
		{"link without a parent", 404, "DirectoryDoesNotExist", call{method: "PUT", path: "/alice/stor/no/x", header: []string{linkType, "Location: /alice/stor/file"}}},
		{"link of another etag", 412, "PreconditionFailed", call{method: "PUT", path: "/alice/stor/x", header: []string{linkType, "Location: /alice/stor/file", "If-Match: other"}}},
		{"somebody else's", 403, "AuthorizationFailed", call{as: "bob", method: "GET", path: "/alice/stor/file"}},
		{"somebody else's, to write", 403, "AuthorizationFailed", call{as: "bob", method: "PUT", path: "/alice/stor/x", body: "x"}},
		{"a root of somebody else's", 403, "AuthorizationFailed", call{as: "bob", method: "GET", path: "/alice"}},
		{"clear text", 403, "SecureTransportRequired", call{method: "GET", path: "/alice/stor/file", clear: true}},
		{"clear text, to write to public", 403, "SecureTransportRequired", call{method: "PUT", path: "/alice/public/file", body: "x", clear: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.call.as == "" {
				test.call.as = "alice"
			}
			a := w.want(test.status, test.code, test.call)
			checkCommon(t, a)
			if a.StatusCode == 416 && a.Header.Get("Content-Range") != "bytes */10" {
				t.Errorf("Content-Range: %s", a.Header.Get("Content-Range"))
			}
			if (a.StatusCode == 412 || a.StatusCode == 304) && strings.HasSuffix(test.call.path, "file") && (a.Header.Get("Etag") == "" || a.Header.Get("Last-Modified") == "") {
				t.Errorf("refusal without Etag and Last-Modified: %v", a.Header)
			}
		})
	}
	t.Run("full directory", func(t *testing.T) {
		w.put("/alice/stor/third", "x")
		w.want(409, "DirectoryLimitExceeded", call{as: "alice", method: "PUT", path: "/alice/stor/fourth", body: "x"})
		w.put("/alice/stor/third", "y")
	})
	if n := w.objects(); n != 8 { // file, child, third twice
		t.Errorf("%d copies are stored, want 8", n)
	}
}

// TestLengthRequired needs a request that Go's client would not send.
func TestLengthRequired(t *testing.T) {
	w := newWorld(t, worldOptions{})
	r := w.request(call{as: "alice", method: "PUT", path: "/alice/stor/x"})
	text := "PUT /alice/stor/x HTTP/1.1\r\nHost: x\r\nDate: " + r.Header.Get("Date") + "\r\nAuthorization: " + r.Header.Get("Authorization") + "\r\nConnection: close\r\n\r\n"
	if out := w.raw([]byte(text), time.Second); !strings.HasPrefix(out, "HTTP/1.1 411 ") || !strings.Contains(out, `"ContentLengthRequired"`) {
		t.Errorf("PUT without a length: %s", out)
	}
}

func TestSnaplinksDisabled(t *testing.T) {
	linkType := "Content-Type: application/json; type=link"
	w := newWorld(t, worldOptions{config: func(c *Config) { c.Dialect = V2 }})
	w.put("/alice/stor/file", "x")
	a := w.want(403, "SnaplinksDisabledError", call{as: "alice", method: "PUT", path: "/alice/stor/l", header: []string{linkType, "Location: /alice/stor/file"}})
	if a.Header.Get("Server") != "Manta/2" {
		t.Errorf("Server: %s", a.Header.Get("Server"))
	}
	w.want(416, "RangeNotSatisfiable", call{as: "alice", method: "GET", path: "/alice/stor/file", header: []string{"Range: bytes=9-"}})
}
