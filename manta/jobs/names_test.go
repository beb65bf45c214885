package jobs

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestNames(t *testing.T) {
	if got := OutputBase("alice", "J", "/alice/stor/a", 1); got != "/alice/jobs/J/stor/alice/stor/a.1." {
		t.Error(got)
	}
	if got := OutputBase("alice", "J", "", 2); got != "/alice/jobs/J/stor/reduce.2." {
		t.Error(got)
	}
}

func TestInputFile(t *testing.T) {
	long := strings.Repeat("n", 300)
	cut := strings.Repeat("n", 251) + "_..."
	full := strings.Repeat("f", 255)
	for _, test := range []struct {
		path, want string
		unusual    bool
	}{
		{"/alice/stor/a", "/manta/alice/stor/a", false},
		{"/alice/stor/" + full, "/manta/alice/stor/" + full, false},
		{"/alice/stor/" + long + "/x", "/manta/alice/stor/" + cut + "/x", true},
		{"/alice/stor/a" + strings.Repeat("/d", 500), "/manta/alice/stor/a" + strings.Repeat("/d", 500), false},
		{"/alice/stor/a" + strings.Repeat("/d", 510) + "/e", "/manta/alice/stor/a/_.../d/e", true},
		{"/alice/stor" + strings.Repeat("/"+full, 5), "/manta/alice/stor/" + full + "/_.../" + full + "/" + full, true},
		{strings.Repeat("/"+full, 6), "/manta/" + full + "/" + full + "/_.../" + full, true},
		{"/alice/stor/" + strings.Repeat("é", 200), "/manta/alice/stor/" + strings.Repeat("é", 125) + "_...", true},
	} {
		got, unusual := InputFile(test.path)
		if got != test.want || unusual != test.unusual {
			t.Errorf("InputFile(%.40s) = %.80s, %v; want %.80s, %v", test.path, got, unusual, test.want, test.unusual)
		}
	}
}

func FuzzInputFile(f *testing.F) {
	f.Add("/alice/stor/a")
	f.Add("/" + strings.Repeat("é", 200) + strings.Repeat("/x", 600))
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") || strings.HasSuffix(path, "/") {
			t.Skip()
		}
		got, unusual := InputFile(path)
		rest, ok := strings.CutPrefix(got, "/manta/")
		if !ok || len(rest) > maxPath || !unusual && "/"+rest != path || unusual && !strings.Contains(rest, ellipsis) {
			t.Fatalf("InputFile(%q) = %q, %v", path, got, unusual)
		}
		if utf8.ValidString(path) && !utf8.ValidString(got) {
			t.Fatalf("InputFile(%q) = %q cuts a character", path, got)
		}
		for part := range strings.SplitSeq(rest, "/") {
			if len(part) > maxName {
				t.Fatalf("InputFile(%q) has a component of %d bytes", path, len(part))
			}
		}
	})
}

func TestStatus(t *testing.T) {
	j := newJob()
	j.State, j.TimeCreated, j.TimeCancelled = Running, time.Date(2026, 1, 2, 3, 4, 5, 60e6, time.UTC), time.Unix(1, 0)
	j.Stats = Stats{Assigns: 1, Tasks: 5, TasksOK: 2, TasksFailed: 1, Outputs: 3, Errors: 1, Retries: 4}
	j.Phases = []Phase{{Type: Map, Exec: "a < b && c", Uarg: map[string]any{"a": "b"}}, {Type: Reduce, Exec: "cat", Count: 2}}
	b, err := Encode(j.Status())
	want := `{"id":"` + j.ID + `","name":"count","state":"running","cancelled":true,"inputDone":true,"transient":false,` +
		`"stats":{"errors":1,"outputs":3,"retries":4,"tasks":5,"tasksDone":3},"timeCreated":"2026-01-02T03:04:05.060Z",` +
		`"phases":[{"type":"map","exec":"a < b && c","uarg":{"a":"b"}},{"type":"reduce","exec":"cat","count":2}]}`
	if err != nil || string(b) != want {
		t.Errorf("status\n%s, %v\nwant\n%s", b, err, want)
	}
	f := Failure{Phase: 1, Code: CodeUserTask, Input: "/a/b\"<\x01", Origin: "/a", Task: "T", Server: "1.stor"}
	if b, err = Encode(f.Line()); err != nil || string(b) != `{"phase":"1","what":"phase 1: input \"/a/b\\\"<\\u0001\" (from job input \"/a\")","code":"UserTaskError","message":"unknown error","input":"/a/b\"<\u0001","p0input":"/a"}` {
		t.Errorf("line %s, %v", b, err)
	}
	f = Failure{Phase: 2, Code: CodeUserTask, Message: "no", Task: "T", Machine: "z"}
	if b, err = Encode(f.ArchiveLine()); err != nil || string(b) != `{"taskId":"T","phaseNum":"2","machine":"z","what":"phase 2: reduce","code":"UserTaskError","message":"no"}` {
		t.Errorf("line %s, %v", b, err)
	}
	for want, f := range map[string]Failure{"/a": {Input: "/a"}, "/b": {Phase: 1, Input: "/x", Origin: "/b"}, "": {Phase: 1, Input: "/x"}} {
		if got := f.JobInput(); got != want {
			t.Errorf("JobInput of %+v = %q", f, got)
		}
	}
}

func TestTokenIsSecret(t *testing.T) {
	j := newJob()
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("job", "job", j, "auth", j.Auth)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("job", "job", j, "auth", j.Auth)
	fmt.Fprintf(&b, "%v %+v %v %+v %s", *j, *j, j, j, j.Auth)
	if strings.Contains(b.String(), j.Auth.Token) || !strings.Contains(b.String(), "alice") {
		t.Errorf("a text shows the token: %s", b.String())
	}
}
