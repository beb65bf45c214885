package tools

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/jobs/agent/door"
)

func TestIs(t *testing.T) {
	for _, name := range append(Names(), Self) {
		if !Is(name) || !Is("/opt/mobula/bin/"+name) {
			t.Errorf("Is(%q) = false", name)
		}
	}
	for _, name := range []string{"", "coal", "storagenode", "manta", "m", "mpipe.old", "/usr/bin/mpipe/"} {
		if want := name == "/usr/bin/mpipe/"; Is(name) != want {
			t.Errorf("Is(%q) = %v", name, !want)
		}
	}
	if !slices.IsSorted(Names()) {
		t.Errorf("Names() = %q, want them in order", Names())
	}
	for path, name := range Places() {
		if !Is(name) || !filepath.IsAbs(path) {
			t.Errorf("Places() has %s for %s", name, path)
		}
	}
}

func TestSelf(t *testing.T) {
	if got := runWith(t, nil, "a 1\na 2\n", Self, "maggr", "-c1=key", "sum"); got.Out != "a 3\n" || got.Code != 0 {
		t.Errorf("mtools maggr = %+v", got)
	}
	if got := runWith(t, nil, "", Self); got.Code != 2 || !strings.Contains(got.Err, "mpipe") {
		t.Errorf("mtools = %+v", got)
	}
	if got := runWith(t, nil, "", Self, "sh"); got.Code != 2 {
		t.Errorf("mtools sh = %+v", got)
	}
}

func TestMpipe(t *testing.T) {
	z := newZone(t)
	got := z.run("1\n2\n", "mpipe")
	path := strings.TrimSpace(got.Out)
	if got.Code != 0 || !strings.HasPrefix(path, outputBase) || got.Err != "" {
		t.Fatalf("mpipe = %+v", got)
	}
	same(t, "emitted", []door.Emitted{{Path: path, Reducer: -1}}, z.taken())
	if s := z.store.Get(z.alice, path); s != "1\n2\n" {
		t.Errorf("stored %q", s)
	}

	z.want(0, "~~/stor/n\n", "", "named", "mpipe", "-r", "7", "-H", "Content-Type: text/plain", "-H", "m-a:b:c", "-H", "m-d: e: f", "~~/stor/n")
	same(t, "emitted", []door.Emitted{{Path: "/alice/stor/n", Reducer: 7}}, z.taken())
	info, err := z.alice.HeadObject(t.Context(), &client.HeadObjectInput{Path: "/alice/stor/n"})
	if err != nil {
		t.Fatal(err)
	}
	if info.ContentType != "text/plain" || info.Metadata["a"] != "b:c" || info.Metadata["d"] != "e: f" {
		t.Errorf("headers are %q %q", info.ContentType, info.Metadata)
	}

	z.want(1, "", "mpipe: DirectoryDoesNotExistError: ", "x", "mpipe", "/alice/stor/1/2/3")
	same(t, "emitted", []door.Emitted(nil), z.taken())
	z.want(0, "/alice/stor/1/2/3\n", "", "x", "mpipe", "-p", "/alice/stor/1/2/3")
	z.want(0, "/alice/stor/empty\n", "", "", "mpipe", "/alice/stor/empty")
	same(t, "emitted", 2, len(z.taken()))

	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	z.want(0, "/alice/stor/f\n", "", "not this", "mpipe", "-f", file, "/alice/stor/f")
	if s := z.store.Get(z.alice, "/alice/stor/f"); s != "of a file" {
		t.Errorf("stored %q", s)
	}
	for _, wrong := range [][]string{{"-h"}, {"-r", "x"}, {"-r"}, {"-H", "foo"}, {"-f", "/nowhere"}, {"-f", "/"}} {
		if got := z.run("", append([]string{"mpipe"}, wrong...)...); got.Code != 2 || !strings.Contains(got.Err, "usage: mpipe") {
			t.Errorf("mpipe %q = %+v, want usage", wrong, got)
		}
	}
	z.want(1, "", "invalid reducer", "", "mpipe", "-r", "128", "/alice/stor/f")
	delete(z.env, "MANTA_OUTPUT_BASE")
	z.want(2, "", "manta configuration not found in environment", "", "mpipe")
}

// What may pass is tried three times, with all of the content; a refusal is not.
func TestMpipe_retries(t *testing.T) {
	defer func(d time.Duration) { retryWait = d }(retryWait)
	retryWait = time.Millisecond
	var statuses []int
	var bodies []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		w.Header().Set("Etag", "e")
		w.WriteHeader(statuses[0])
		statuses = statuses[1:]
	}))
	defer srv.Close()
	for _, tt := range []struct {
		statuses []int
		code     int
	}{
		{[]int{500, 503, 204}, 0}, {[]int{500, 500, 500, 204}, 1}, {[]int{409, 204}, 1},
	} {
		statuses, bodies = tt.statuses, nil
		tries := min(len(tt.statuses), attempts)
		if tt.statuses[0] == 409 {
			tries = 1
		}
		got := runWith(t, map[string]string{"MANTA_URL": srv.URL, "MANTA_NO_AUTH": "true", "MANTA_USER": "alice"}, "content", "mpipe", "~~/stor/x")
		if got.Code != tt.code || len(bodies) != tries || slices.ContainsFunc(bodies, func(s string) bool { return s != "content" }) {
			t.Errorf("%v: mpipe = %+v after %q", tt.statuses, got, bodies)
		}
	}
}

func TestMpipe_large(t *testing.T) {
	z := newZone(t)
	big := strings.Repeat("0123456789abcdef", 3*inMemory/16)
	z.want(0, "/alice/stor/big\n", "", big, "mpipe", "/alice/stor/big")
	if z.store.Get(z.alice, "/alice/stor/big") != big {
		t.Error("content differs")
	}
	if left, _ := os.ReadDir(z.env["TMPDIR"]); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	z.env["TMPDIR"] = "/nowhere"
	z.want(1, "", "mpipe: save stdin: ", big, "mpipe", "/alice/stor/big")
}

func TestMtee(t *testing.T) {
	z := newZone(t)
	z.want(0, "1\n2\n", "", "1\n2\n", "mtee", "-c", "1", "-H", "m-a: b", "~~/stor/tee")
	info, err := z.alice.HeadObject(t.Context(), &client.HeadObjectInput{Path: "/alice/stor/tee"})
	if err != nil || info.Copies != 1 || info.Metadata["a"] != "b" || info.Size != 4 {
		t.Errorf("stored %+v, %v", info, err)
	}
	same(t, "emitted", []door.Emitted(nil), z.taken())
	if z.door.End().ExplicitStdout {
		t.Error("mtee counts as an output")
	}
	for _, wrong := range [][]string{{}, {"-c", "foo", "/x"}, {"-H", "foo", "/x"}, {"-x"}} {
		if got := z.run("", append([]string{"mtee"}, wrong...)...); got.Code != 2 {
			t.Errorf("mtee %q = %+v, want 2", wrong, got)
		}
	}
}

func TestMcat(t *testing.T) {
	z := newZone(t)
	z.want(0, "", "", "", "mcat", "-r", "3", "/alice/stor/none", "~~/stor//a b/", "/")
	same(t, "emitted", []door.Emitted{{Path: "/alice/stor/none", Reducer: 3}, {Path: "/alice/stor/a b", Reducer: 3}, {Path: "/", Reducer: 3}}, z.taken())
	z.want(0, "", "", "", "mcat", "/alice/stor/x%y")
	same(t, "emitted", []door.Emitted{{Path: "/alice/stor/x%y", Reducer: -1}}, z.taken())
	z.want(2, "", "usage: mcat", "", "mcat")
	z.want(2, "", "invalid reducer", "", "mcat", "-r", "x", "/a")
	z.want(1, "", "server returned 409", "", "mcat", "-r", "200", "/a")
	z.want(1, "", "not an absolute path", "", "mcat", "a")
	z.door.End()
	z.want(1, "", "server returned 409", "", "mcat", "/alice/stor/x")
}

// What the original's own tests have recorded.
func TestMsplit(t *testing.T) {
	numbers := "1\n2\n3\n4\n"
	objects := "{\"x\":1}\n{\"x\":2}\n{\"x\":3}\n{\"x\":4}\n"
	tests := []struct {
		name, stdin string
		args        []string
		want        []string // by reducer
		node        bool
	}{
		{"basic", numbers, []string{"-n", "2"}, []string{"1\n3\n", "2\n4\n"}, false},
		{"no newline at the end", "1\n2", []string{"-n2"}, []string{"1\n", "2\n"}, false},
		{"other field", "1,2,3\n1,2,2\n1,1,1\n1,3,4\n", []string{"-n", "2", "-f", "3", "-d", ","}, []string{"1,2,3\n1,1,1\n", "1,2,2\n1,3,4\n"}, false},
		{"json", objects, []string{"-n", "2", "-j", "-f", "x"}, []string{"{\"x\":1}\n{\"x\":3}\n", "{\"x\":2}\n{\"x\":4}\n"}, false},
		{"deep json", "{\"a\":{\"b\":1}}\n{\"a\":{\"b\":2}}\n{\"a\":null}\n", []string{"-n2", "-j", "-f", "a.b"}, []string{"{\"a\":{\"b\":1}}\n", "{\"a\":{\"b\":2}}\n{\"a\":null}\n"}, false},
		{"index", "0\n2\n1 x\n", []string{"-n", "3", "-i", "-d", " "}, []string{"0\n", "1 x\n", "2\n"}, false},
		{"none of the fields", "a\nb\n", []string{"-n", "2", "-f", "5,6"}, []string{"", "a\nb\n"}, false},
		{"nothing", "", []string{"-n", "3"}, []string{"", "", ""}, false},
		{"exec", numbers, []string{"-n", "2", "-e", `return (line < 3 ? "1" : "2")`}, []string{"1\n2\n", "3\n4\n"}, true},
		{"exec, json", objects, []string{"-n", "2", "-j", "-e", `this.x < 3 ? "1" : "2"`}, []string{"{\"x\":1}\n{\"x\":2}\n", "{\"x\":3}\n{\"x\":4}\n"}, true},
		{"exec, semicolon", numbers, []string{"-n", "2", "-e", `line < 3 ? "1" : "2";`}, []string{"1\n2\n", "3\n4\n"}, true},
		{"exec, index", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", []string{"-i", "-n", "3", "-e", "parseInt(line, 10) % 3"}, []string{"3\n6\n9\n", "1\n4\n7\n10\n", "2\n5\n8\n"}, true},
	}
	z := newZone(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.node {
				testenv.NeedTool(t, "node", "node")
			}
			if got := z.run(tt.stdin, append([]string{"msplit"}, tt.args...)...); got != (ran{}) {
				t.Fatalf("msplit %q = %+v", tt.args, got)
			}
			got := make([]string, len(tt.want))
			for _, e := range z.taken() {
				if !strings.HasSuffix(e.Path, fmt.Sprint(".", e.Reducer)) || !strings.HasPrefix(e.Path, outputBase) {
					t.Errorf("emitted %+v", e)
				}
				got[e.Reducer] = z.store.Get(z.alice, e.Path)
			}
			same(t, "outputs", tt.want, got)
		})
	}
}

func TestMsplit_options(t *testing.T) {
	z := newZone(t)
	z.want(0, "0\t1\n1\t2\n", "", "1\n2\n", "msplit", "-n2", "-t")
	if got := z.run("1\n2\n3\n", "msplit", "-n", "2", "-z"); got.Code != 0 {
		t.Fatalf("msplit -z = %+v", got)
	}
	for _, e := range z.taken() {
		zr, err := gzip.NewReader(strings.NewReader(z.store.Get(z.alice, e.Path)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(zr)
		if want := []string{"1\n3\n", "2\n"}[e.Reducer]; err != nil || string(b) != want {
			t.Errorf("reducer %d got %q, %v", e.Reducer, b, err)
		}
	}
	for _, wrong := range [][]string{{}, {"-n", "x"}, {"-n", "0"}, {"-n", "129"}, {"-n2", "-d", "\n"}, {"-n2", "-f", "a"}, {"-n2", "-f", "0"}, {"-n2", "-j"}, {"-n2", "-q"}} {
		if got := z.run("", append([]string{"msplit"}, wrong...)...); got.Code != 2 || !strings.Contains(got.Err, "usage: msplit") {
			t.Errorf("msplit %q = %+v, want usage", wrong, got)
		}
	}
	z.want(1, "", "valid range of reducers", "4\n", "msplit", "-i", "-n", "2")
	z.want(1, "", "valid range of reducers", "x\n", "msplit", "-i", "-n", "2")
	z.want(1, "", "input is not json: {", "{\n", "msplit", "-n", "2", "-j", "-f", "x")
	same(t, "emitted by failures", []door.Emitted(nil), z.taken())
	delete(z.env, "MANTA_OUTPUT_BASE")
	z.want(2, "", "MANTA_OUTPUT_BASE not set", "", "msplit", "-n", "2")
}

func TestMsplit_scriptsThatFail(t *testing.T) {
	testenv.NeedTool(t, "node", "node")
	z := newZone(t)
	many := strings.Repeat("1\n", 100_000)
	z.want(1, "", "SyntaxError", many, "msplit", "-n", "2", "-e", "return )")
	z.want(1, "", "must be a string", many, "msplit", "-n", "2", "-e", "7")
	z.want(1, "", "valid range of reducers", many, "msplit", "-i", "-n", "2", "-e", "4")
	z.want(1, "", "nowhere", many, "msplit", "-n", "2", "-e", "nowhere")
	z.want(1, "", "input is not json: x", "1\nx\n", "msplit", "-j", "-n", "2", "-e", "String(this)")
	same(t, "emitted by failures", []door.Emitted(nil), z.taken())

	var in, want bytes.Buffer
	for i := range 50_000 {
		fmt.Fprintln(&in, i)
		fmt.Fprintf(&want, "%d\t%d\n", i%3, i)
	}
	z.want(0, want.String(), "", in.String(), "msplit", "-t", "-i", "-n", "3", "-e", "line % 3")
	t.Setenv("PATH", t.TempDir())
	z.want(2, "", "needs node", "", "msplit", "-n", "2", "-e", "line")
}

func TestCtrun(t *testing.T) {
	z := newZone(t)
	z.want(2, "", "usage: ctrun", "", "ctrun", "-i", "core")
	z.want(127, "", "ctrun: ", "", "ctrun", "-i", "core", "-l", "child", "no-such-command-anywhere")
}
