package webapi

import (
	"strings"
	"testing"
)

func TestPutGet(t *testing.T) {
	w := newWorld(t, worldOptions{})
	put := w.put("/alice/stor/hello.txt", "hello, world\n", "Content-Type: text/plain", "m-color: blue")
	etag := put.Header.Get("Etag")
	if etag == "" || put.Header.Get("Computed-Md5") != "IsQqd8qSqbrVhF0lz1glqg==" && put.Header.Get("Computed-Md5") == "" {
		t.Errorf("PUT answered %v", put.Header)
	}
	got := w.get("/alice/stor/hello.txt")
	if got.body != "hello, world\n" {
		t.Errorf("GET = %q", got.body)
	}
	for name, want := range map[string]string{
		"Etag": etag, "Content-Type": "text/plain", "Content-Length": "13", "Durability-Level": "2", "M-Color": "blue", "Accept-Ranges": "bytes",
		"Content-Md5": put.Header.Get("Computed-Md5"), "Server": "Manta", "X-Server-Name": "web1",
	} {
		if v := got.Header.Values(name); len(v) != 1 || v[0] != want {
			t.Errorf("GET %s: %q, want %q", name, v, want)
		}
	}
	list := w.get("/alice/stor")
	if list.Header.Get("Result-Set-Size") != "1" || !strings.HasPrefix(list.body, `{"name":"hello.txt","etag":"`+etag+`","size":13,"type":"object","contentType":"text/plain","contentMD5":"`) {
		t.Errorf("list: %v %s", list.Header, list.body)
	}
	w.want(204, "", call{as: "alice", method: "DELETE", path: "/alice/stor/hello.txt"})
	w.want(404, "ResourceNotFound", call{as: "alice", method: "GET", path: "/alice/stor/hello.txt"})
}
