package webapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mobulacloud/mobula/manta/mpu"
)

// create makes an upload and returns its directory.
func (w *world) create(body string) (dir, id string) {
	w.t.Helper()
	a := w.want(201, "", call{as: "alice", method: "POST", path: "/alice/uploads", body: body, header: []string{"Content-Type: application/json"}})
	var made struct{ ID, PartsDirectory string }
	if err := json.Unmarshal([]byte(a.body), &made); err != nil {
		w.t.Fatalf("create upload: %s", a.body)
	}
	return made.PartsDirectory, made.ID
}

func (w *world) part(dir string, n int, body string) string {
	w.t.Helper()
	return w.put(fmt.Sprint(dir, "/", n), body).Header.Get("Etag")
}

func parts(etags ...string) string {
	b, _ := json.Marshal(map[string]any{"parts": append([]string{}, etags...)})
	return string(b)
}

func (w *world) status(dir string) (st mpu.Status) {
	w.t.Helper()
	a := w.get(dir + "/state")
	if err := json.Unmarshal([]byte(a.body), &st); err != nil {
		w.t.Fatalf("state: %s", a.body)
	}
	return st
}

func TestUpload(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.mkdir("/alice/public/d")
	first, last := strings.Repeat("p", mpu.MinPartSize), "the end"
	whole := first + last
	dir, id := w.create(fmt.Sprintf(`{"objectPath":"/alice/public/d/o%%20x","headers":{"Content-Length":%d,"content-md5":%q,"content-type":"text/x","M-A":"1","durability-level":3}}`, len(whole), sumOf(whole)))
	if dir != "/alice/uploads/"+id[:3]+"/"+id || id[len(id)-1] != '3' {
		t.Errorf("upload %s in %s", id, dir)
	}
	if st := w.status(dir); st.State != "created" || st.PartsDirectory != dir || st.TargetObject != "/alice/public/d/o%20x" || st.NumCopies != 3 || st.Created == 0 || st.Headers["m-a"] != "1" {
		t.Errorf("state: %+v", st)
	}
	w.part(dir, 0, "to be replaced")
	e1 := w.part(dir, 1, last)
	e0 := w.part(dir, 0, first)
	if a := w.get(dir); strings.Count(a.body, "\n") != 2 {
		t.Errorf("parts: %s", a.body)
	}
	if a := w.want(200, "", call{as: "alice", method: "HEAD", path: dir + "/1"}); a.Header.Get("Content-Length") != "7" {
		t.Errorf("HEAD of a part: %v", a.Header)
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
		for _, tail := range []string{"", "/7"} {
			a := w.want(301, "", call{as: "alice", method: method, path: "/alice/uploads/" + id + tail})
			if got := a.Header.Get("Location"); got != dir+tail {
				t.Errorf("%s is redirected to %s", tail, got)
			}
		}
	}
	a := w.want(201, "", call{as: "alice", method: "POST", path: dir + "/commit", body: parts(e0, e1)})
	checkCommon(t, a)
	if a.Header.Get("Location") != "/alice/public/d/o%20x" || a.Header.Get("Computed-Md5") != sumOf(whole) || a.Header.Get("Content-Length") != "0" {
		t.Errorf("commit: %v", a.Header)
	}
	got := w.get("/alice/public/d/o%20x")
	if got.body != whole || got.Header.Get("Content-Type") != "text/x" || got.Header.Get("M-A") != "1" || got.Header.Get("Durability-Level") != "3" ||
		got.Header.Get("Access-Control-Allow-Origin") != "*" || got.Header.Get("Content-Md5") != sumOf(whole) {
		t.Errorf("object: %v", got.Header)
	}
	st := w.status(dir)
	if st.State != "done" || st.Result != "committed" || st.PartsMD5 != sumOf(e0+e1) || st.PartsDirectory != "" {
		t.Errorf("state: %+v", st)
	}
	// The same again is as good as once; anything else is too late.
	w.want(201, "", call{as: "alice", method: "POST", path: dir + "/commit", body: parts(e0, e1)})
	w.want(409, "InvalidMultipartUploadState", call{as: "alice", method: "POST", path: dir + "/commit", body: parts(e0)})
	w.want(409, "InvalidMultipartUploadState", call{as: "alice", method: "POST", path: dir + "/abort"})
	w.want(409, "InvalidMultipartUploadState", call{as: "alice", method: "PUT", path: dir + "/2", body: "x"})
	// Operators of v1 may clear up by hand.
	w.want(422, "", call{as: "poseidon", method: "DELETE", path: dir + "/0"})
	w.want(204, "", call{as: "poseidon", method: "DELETE", path: dir + "/0?allowMpuDeletes=true"})
	w.want(405, "", call{as: "alice", method: "DELETE", path: dir + "/1?allowMpuDeletes=true"})
	if got := w.get("/alice/public/d/o%20x"); got.body != whole {
		t.Errorf("object after the part went: %d bytes", len(got.body))
	}
}

func TestUploadRefusals(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.mkdir("/alice/stor/d")
	for body, want := range map[string]string{
		`{`:                   "400 InvalidContent",
		``:                    "400 InvalidContent",
		`[]`:                  "409 MultipartUploadInvalidArgument",
		`{}`:                  "409 MultipartUploadInvalidArgument",
		`{"objectPath":""}`:   "409 MultipartUploadInvalidArgument",
		`{"objectPath":7}`:    "409 MultipartUploadInvalidArgument",
		`{"objectPath":"x"}`:  "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/%"}`: "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/uploads/abc/abc0bfe3-719c-43e3-839a-4a5df4be8023/0"}`:             "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/stor/x","headers":{"m-a b":"c"}}`:                                 "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/stor/x","headers":{"m-a":"\u0001"}}`:                              "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/x/y"}`:                                                            "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/nobody/stor/y"}`:                                                        "403 AccountDoesNotExist",
		`{"objectPath":"/alice/stor/x","headers":7}`:                                             "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/stor/x","headers":{"content-length":"7"}}`:                        "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/stor/x","headers":{"content-length":-7}}`:                         "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/stor/x","headers":{"content-length":999999999999}}`:               "413 MaxContentLengthExceeded",
		`{"objectPath":"/alice/stor/x","headers":{"If-Match":"7"}}`:                              "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/stor/x","headers":{"m-a":["7"]}}`:                                 "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/stor/x","headers":{"m-a":"a\nb"}}`:                                "409 MultipartUploadInvalidArgument",
		`{"objectPath":"/alice/stor/x","headers":{"durability-level":"2"}}`:                      "400 InvalidDurabilityLevel",
		`{"objectPath":"/alice/stor/x","headers":{"x-durability-level":10}}`:                     "400 InvalidDurabilityLevel",
		`{"objectPath":"/alice/stor/x","headers":{"durability-level":9}}`:                        "507 NotEnoughSpace",
		`{"objectPath":"/alice/stor/x","headers":{"content-disposition":"a/b; c"}}`:              "400 BadRequest",
		`{"objectPath":"/alice/stor/x","headers":{"m-a":"` + strings.Repeat("x", 100000) + `"}}`: "413 MaxContentLengthExceeded",
	} {
		a := w.do(call{as: "alice", method: "POST", path: "/alice/uploads", body: body, header: []string{"Content-Type: application/json"}})
		if got := fmt.Sprint(a.StatusCode, " ", a.code()); got != want {
			t.Errorf("%.80s: %s %s, want %s", body, got, a.body, want)
		}
	}
	dir, _ := w.create(`{"objectPath":"/alice/stor/o"}`)
	for _, n := range []string{"-1", "01", "10000", "x"} {
		w.want(409, "MultipartUploadInvalidArgument", call{as: "alice", method: "PUT", path: dir + "/" + n, body: "x"})
	}
	w.want(409, "MultipartUploadInvalidArgument", call{as: "alice", method: "PUT", path: dir + "/0", body: "x", header: []string{"Durability-Level: 2"}})
	w.want(400, "ContentMD5Mismatch", call{as: "alice", method: "PUT", path: dir + "/0", body: "x", header: []string{"Content-MD5: " + sumOf("y")}})
	small := w.part(dir, 0, "small")
	end := w.part(dir, 1, "end")
	for body, message := range map[string]string{
		`{}`:                     "parts",
		`{"parts":"x"}`:          "should not be string",
		`{"parts":[""]}`:         "shorter",
		parts("x"):               `[part 0] invalid etag "x"`,
		parts(small, end):        "[part 0] part is too small (size 5)",
		parts(small, end, small): "[part 0] part is too small",
	} {
		a := w.want(409, "MultipartUploadInvalidArgument", call{as: "alice", method: "POST", path: dir + "/commit", body: body})
		if !strings.Contains(a.body, strings.ReplaceAll(message, `"`, `\"`)) {
			t.Errorf("%s: %s, want %s", body, a.body, message)
		}
	}
	w.want(409, "MultipartUploadInvalidArgument", call{as: "alice", method: "POST", path: dir + "/commit", body: parts(small, end, "x", "y")})
	w.want(403, "AuthorizationFailed", call{as: "bob", method: "POST", path: dir + "/commit", body: parts(small)})
	w.want(404, "", call{as: "bob", method: "POST", path: strings.Replace(dir, "alice", "bob", 1) + "/commit", body: parts(small)})

	for target, want := range map[string]string{
		"/alice/stor":      "400 OperationNotAllowedOnRootDirectory",
		"/alice/stor/d":    "400 OperationNotAllowedOnDirectory",
		"/alice/stor/no/x": "404 DirectoryDoesNotExist",
		"/bob/stor/x":      "403 AuthorizationFailed",
	} {
		dir, _ := w.create(fmt.Sprintf(`{"objectPath":%q}`, target))
		a := w.do(call{as: "alice", method: "POST", path: dir + "/commit", body: parts()})
		if got := fmt.Sprint(a.StatusCode, " ", a.code()); got != want {
			t.Errorf("target %s: %s %s, want %s", target, got, a.body, want)
		}
	}
	for headers, message := range map[string]string{
		`{"content-length":6}`:                            "expected content-length 6, but object was 5",
		fmt.Sprintf(`{"content-md5":%q}`, sumOf("other")): "expected content-md5",
	} {
		dir, _ := w.create(fmt.Sprintf(`{"objectPath":"/alice/stor/o","headers":%s}`, headers))
		etag := w.part(dir, 0, "small")
		a := w.want(409, "MultipartUploadInvalidArgument", call{as: "alice", method: "POST", path: dir + "/commit", body: parts(etag)})
		if !strings.Contains(a.body, message) {
			t.Errorf("%s: %s", headers, a.body)
		}
		// It can still be put right or given up.
		w.part(dir, 0, "again")
		w.want(204, "", call{as: "alice", method: "POST", path: dir + "/abort"})
		w.want(204, "", call{as: "alice", method: "POST", path: dir + "/abort"})
		w.want(409, "InvalidMultipartUploadState", call{as: "alice", method: "POST", path: dir + "/commit", body: parts(etag)})
		if st := w.status(dir); st.State != "done" || st.Result != "aborted" {
			t.Errorf("state: %+v", st)
		}
	}
	empty, _ := w.create(`{"objectPath":"/alice/stor/empty","headers":{"content-length":0}}`)
	w.want(201, "", call{as: "alice", method: "POST", path: empty + "/commit", body: parts()})
	if a := w.get("/alice/stor/empty"); a.body != "" || a.Header.Get("Durability-Level") != "0" {
		t.Errorf("empty object: %v", a.Header)
	}
}

// TestUploadRace: of any number of commits and aborts at the same time, one kind wins and all say so.
func TestUploadRace(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for round := range 10 {
		path := fmt.Sprint("/alice/stor/o", round)
		dir, _ := w.create(fmt.Sprintf(`{"objectPath":%q}`, path))
		etag := w.part(dir, 0, "data")
		var mu sync.Mutex
		outcomes := map[string]int{}
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				c := call{as: "alice", method: "POST", path: dir + "/commit", body: parts(etag)}
				if i%2 == 0 {
					c.path, c.body = dir+"/abort", ""
				}
				a := w.do(c)
				mu.Lock()
				defer mu.Unlock()
				outcomes[fmt.Sprint(a.StatusCode)]++
				if a.StatusCode >= 400 && a.code() != "InvalidMultipartUploadState" && a.code() != "ConcurrentRequest" {
					t.Errorf("%s: %d %s", c.path, a.StatusCode, a.body)
				}
			})
		}
		wg.Wait()
		committed := w.do(call{as: "alice", method: "GET", path: path}).StatusCode == 200
		if committed != (outcomes["201"] > 0) || !committed != (outcomes["204"] > 0) {
			t.Errorf("object there: %v, answers %v", committed, outcomes)
		}
	}
}
