package tools

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestClients_objects(t *testing.T) {
	z := newZone(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "local file")
	if err := os.WriteFile(file, []byte("of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	z.want(0, "", "", "", "mmkdir", "~~/stor/d")
	z.want(1, "", "mmkdir: DirectoryDoesNotExistError: ", "", "mmkdir", "/alice/stor/x/y/z")
	z.want(0, "", "", "", "mmkdir", "-p", "/alice/stor/x/y/z", "d/below/")
	z.want(0, "", "", "hello\n", "mput", "-H", "m-colour: blue", "-c", "1", "~~/stor/d/a b")
	z.want(0, "", "", "", "mput", "-m", "-f", file, "~~/stor/d")
	z.want(0, "", "", "", "mput", "-p", "--file="+file, "/alice/stor/new/dir/f")
	z.want(1, "", "mput: DirectoryDoesNotExistError: ", "x", "mput", "/alice/stor/none/f")
	z.want(0, "", "", "hi", "mput", "-p", "/alice/stor/other/dir/f")
	z.want(0, "hi", "", "", "mget", "other/dir/f")
	z.want(0, "", "", "", "mrm", "-r", "other")
	z.want(1, "", "cannot infer name", "x", "mput", "/alice/stor/d")
	z.want(1, "", "requires --file", "x", "mput", "-m", "/alice/stor/d")
	z.want(0, "hello\nof a file", "", "", "mget", "-q", "~~/stor/d/a b", "d/local file")
	z.want(0, "", "", "", "mget", "-o", filepath.Join(dir, "out"), "d/a b")
	if b, err := os.ReadFile(filepath.Join(dir, "out")); err != nil || string(b) != "hello\n" {
		t.Errorf("mget -o wrote %q, %v", b, err)
	}
	z.want(1, "", "mget: ResourceNotFoundError: ", "", "mget", "/alice/stor/none")
	z.want(1, "", "is a directory", "", "mget", "/alice/stor/d")

	z.want(0, "a b\nbelow/\nlocal file\n", "", "", "mls", "d")
	z.want(0, "local file\nbelow/\na b\n", "", "", "mls", "-r", "/alice/stor/d")
	z.want(0, "below/\n", "", "", "mls", "--type", "d", "~~/stor/d")
	z.want(0, "local file\n", "", "", "mls", "--type=o", "-m", "b", "d")
	z.want(0, "d/\nnew/\nx/\n", "", "", "mls")
	z.want(1, "", "mls: ResourceNotFoundError: ", "", "mls", "/alice/stor/none")
	z.want(1, "", "invalid type", "", "mls", "--type", "x")
	if got := z.run("", "mls", "-lh", "d"); got.Code != 0 || !regexp.MustCompile(`(?m)^-rwxr-xr-x 1 alice +6 \w{3} \d\d \d\d:\d\d a b$`).MatchString(got.Out) ||
		!regexp.MustCompile(`(?m)^drwxr-xr-x 1 alice +0 .* below$`).MatchString(got.Out) {
		t.Errorf("mls -lh = %+v", got)
	}
	got := z.run("", "mls", "-j", "d/a b")
	var e struct {
		Type string
		Size int
	}
	if err := json.Unmarshal([]byte(got.Out), &e); err != nil || e.Type != "object" || e.Size != 6 {
		t.Errorf("mls -j = %+v, %v", got, err)
	}

	z.want(0, "", "", "", "mln", "d/a b", "d/link")
	z.want(0, "hello\n", "", "", "mget", "d/link")
	z.want(1, "", "mln: source and dest required", "", "mln", "d/a b")
	if got := z.run("", "minfo", "d/link", "/alice/stor/none"); got.Code != 0 || !strings.HasPrefix(got.Out, "HTTP/1.1 200 OK\n") ||
		!strings.Contains(got.Out, "\nm-colour: blue\n") || !strings.Contains(got.Out, "HTTP/1.1 404 Not Found\n") {
		t.Errorf("minfo = %+v", got)
	}

	z.want(0, "/alice/stor/d/a b\n/alice/stor/d/below\n/alice/stor/d/link\n/alice/stor/d/local file\n", "", "", "mfind", "d")
	z.want(0, "/alice/stor/new/dir/f\n", "", "", "mfind", "-t", "o", "-s", "9", "-n", "^f$", "~~/stor")
	z.want(0, "/alice/stor/d\n/alice/stor/new\n/alice/stor/x\n", "", "", "mfind", "--maxdepth", "1", "/alice/stor")
	z.want(0, "/alice/stor/x/y/z\n", "", "", "mfind", "--mindepth", "3", "-t", "d", "~~/stor/")
	z.want(0, "/alice/stor/d\n/alice/stor/d/a b\n", "", "", "mfind", "-l", "2", "~~/stor/")
	z.want(0, "/alice/stor/d/a b\n", "", "", "mfind", "d/a b")
	z.want(1, "/alice/stor/x/y\n/alice/stor/x/y/z\n", "mfind: in /alice/stor/none: ResourceNotFoundError: ", "", "mfind", "/alice/stor/none", "x")
	if got := z.run("", "mfind", "-j", "-t", "o", "new"); !strings.Contains(got.Out, `"parent":"/alice/stor/new/dir"}`) {
		t.Errorf("mfind -j = %+v", got)
	}

	z.want(1, "", "is not an object", "", "mrm", "x")
	z.want(1, "", "is not a directory", "", "mrmdir", "d/link")
	z.want(1, "", "DirectoryNotEmptyError", "", "mrmdir", "x")
	z.want(1, "", "must be a tty", "", "mrm", "-I", "x")
	z.want(0, "", "", "", "mrmdir", "x/y/z")
	z.want(0, "", "", "", "mrm", "-r", "x", "d", "new/")
	z.want(0, "", "", "", "mls")
	if e := z.taken(); len(e) != 0 {
		t.Errorf("plain clients emitted %v", e)
	}
}

func TestClients_usage(t *testing.T) {
	z := newZone(t)
	for _, name := range []string{"mls", "mfind", "mget", "mput", "mln", "mmkdir", "mrm", "mrmdir", "minfo", "msign"} {
		if got := z.run("", name, "--help"); got.Code != 0 || !strings.Contains(got.Out, "usage: "+name) || !strings.Contains(got.Out, "MANTA_URL") {
			t.Errorf("%s --help = %+v", name, got)
		}
		if got := z.run("", name, "--no-such-option"); got.Code != 1 || !strings.Contains(got.Err, name+": unknown option") {
			t.Errorf("%s --no-such-option = %+v", name, got)
		}
		if name != "mls" {
			if got := z.run("", name); got.Code != 1 || !strings.Contains(got.Err, "required") {
				t.Errorf("%s without arguments = %+v", name, got)
			}
		}
		if got := runWith(t, nil, "", name, "/a", "/b"); got.Code != 1 || !strings.Contains(got.Err, name+": ") {
			t.Errorf("%s without an environment = %+v", name, got)
		}
	}
	z.want(1, "", "SignURL needs a key", "", "msign", "/alice/stor/x")
	z.want(1, "", "cannot be specified together", "", "msign", "-e", "1", "-E", "1h", "/alice/stor/x")
	z.want(1, "", "invalid expires", "", "msign", "-E", "1 hour", "/alice/stor/x")
	z.want(1, "", "method invalid", "", "msign", "-m", "TRACE", "/alice/stor/x")
	// An option goes before the environment.
	asked := ""
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.URL.Path; w.WriteHeader(404) }))
	defer other.Close()
	if got := z.run("", "mls", "-u", other.URL, "-a", "bob"); got.Code != 1 || asked != "/bob/stor" {
		t.Errorf("mls at another address = %+v, which was asked for %q", got, asked)
	}
}

func TestParse(t *testing.T) {
	options := []option{flag("", "long", "l"), value("X", "", "name", "n"), flag("", "a")}
	tests := []struct {
		args  []string
		mixed bool
		want  *parsed
	}{
		{[]string{"-la", "x", "-nfoo", "--name", "y", "--name=z=1", "--", "-l"}, true, &parsed{[]setting{{"long", "true"}, {"a", "true"}, {"name", "foo"}, {"name", "y"}, {"name", "z=1"}}, []string{"x", "-l"}}},
		{[]string{"-l", "x", "-n", "foo"}, false, &parsed{[]setting{{"long", "true"}}, []string{"x", "-n", "foo"}}},
		{[]string{"-", "--", "x"}, true, &parsed{nil, []string{"-", "x"}}},
		{[]string{"-n", "-l"}, true, &parsed{[]setting{{"name", "-l"}}, nil}},
	}
	for _, tt := range tests {
		got, err := parse(tt.args, options, tt.mixed)
		if err != nil {
			t.Errorf("parse(%q): %v", tt.args, err)
			continue
		}
		same(t, strings.Join(tt.args, " "), tt.want.settings, got.settings)
		same(t, strings.Join(tt.args, " "), tt.want.args, got.args)
	}
	for _, bad := range [][]string{{"-x"}, {"--x"}, {"-n"}, {"--name"}, {"--long=1"}, {"-lx"}, {"--a"}, {"---"}} {
		if o, err := parse(bad, options, true); err == nil {
			t.Errorf("parse(%q) = %+v", bad, o)
		}
	}
}

// With a key the programs work anywhere.
func TestClients_withAKey(t *testing.T) {
	z := newZone(t)
	home := t.TempDir()
	z.env = map[string]string{"MANTA_URL": z.store.URL, "MANTA_USER": "alice", "MANTA_KEY_ID": z.store.Key("alice", home), "HOME": home}
	z.want(0, "", "", "hello", "mput", "~~/stor/x")
	z.want(0, "hello", "", "", "mget", "~~/stor/x")
	for _, method := range []string{"GET", "get"} {
		got := z.run("", "msign", "-E", "5m", "-m", method, "~~/stor/x")
		resp, err := http.Get(strings.TrimSpace(got.Out))
		if err != nil || got.Code != 0 {
			t.Fatalf("msign = %+v: %v", got, err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(b) != "hello" {
			t.Errorf("the signed URL gives %s %s, %v", resp.Status, b, err)
		}
	}
	z.env["MANTA_KEY_ID"] = "00:11"
	z.want(1, "", "no private key with fingerprint 00:11", "", "mls")
	z.env["MANTA_KEY_ID"], z.env["MANTA_NO_AUTH"] = "", "true"
	z.want(1, "", "AuthorizationFailedError", "", "mget", "~~/stor/x")
}
