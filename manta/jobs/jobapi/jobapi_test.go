package jobapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/manta/jobs"
)

func (w *world) claim(id string) *jobs.Claim {
	w.t.Helper()
	c, err := w.records.Claim(w.t.Context(), id, "test")
	w.must(err)
	return c
}

func done(j *jobs.Job) error {
	j.State, j.TimeDone = jobs.Done, time.Now()
	return nil
}

func TestLife(t *testing.T) {
	w := newWorld(t)
	id := w.create("alice", "alice", `{"name":"count","phases":[{"exec":"grep -c a < b & c"},{"type":"reduce","exec":"sum","count":2}]}`)
	live := "/alice/jobs/" + id + "/live/"

	// The directories are there.
	for _, dir := range []string{"", "/live", "/stor"} {
		a := w.want(200, "", "alice", "GET", "/alice/jobs/"+id+dir, "")
		if a.Header.Get("Content-Type") != "application/x-json-stream; type=directory" {
			t.Errorf("%s is %v", dir, a.Header)
		}
	}
	j, err := w.records.Get(t.Context(), id)
	w.must(err)
	if j.Owner != w.uuids["alice"] || j.Login != "alice" || j.Auth.Login != "alice" || j.Auth.UUID != w.uuids["alice"] || j.Auth.User != "" {
		t.Errorf("record %+v", j)
	}
	// Its token is alice's.
	r := w.request("", "GET", "/alice/stor", nil)
	r.Header.Set("Authorization", "Token "+j.Auth.Token)
	if a := w.send(r); a.StatusCode != 200 {
		t.Errorf("with the job's token: %d %s", a.StatusCode, a.body)
	}

	a := w.want(200, "", "alice", "GET", live+"status", "")
	want := fmt.Sprintf(`{"id":"%s","name":"count","state":"queued","cancelled":false,"inputDone":false,"transient":false,`+
		`"stats":{"errors":0,"outputs":0,"retries":0,"tasks":0,"tasksDone":0},"timeCreated":"%s",`+
		`"phases":[{"type":"map","exec":"grep -c a < b & c"},{"type":"reduce","exec":"sum","count":2}]}`, id, j.TimeCreated.Format("2006-01-02T15:04:05.000Z"))
	if a.body != want || a.Header.Get("Content-Type") != "application/json" || strings.Contains(a.body, "oken") {
		t.Errorf("status\n%s\nwant\n%s", a.body, want)
	}

	for _, path := range []string{"in", "out", "fail", "err"} {
		if a := w.want(200, "", "alice", "GET", live+path, ""); a.body != "" {
			t.Errorf("%s of a new job: %q", path, a.body)
		}
	}
	w.want(204, "", "alice", "POST", live+"in", "/alice/stor/a\r\n\r\n/alice/stor/b\n\n/alice/stor/ \xc3\xa9\r\n/alice/stor/last")
	if a := w.want(200, "", "alice", "GET", live+"in", ""); a.body != "/alice/stor/a\n/alice/stor/b\n/alice/stor/ é\n/alice/stor/last\n" || a.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("inputs %q", a.body)
	}
	for range 2 {
		w.want(202, "", "alice", "POST", live+"in/end", "")
	}
	w.want(409, CodeInvalidJobState, "alice", "POST", live+"in", "/x")

	c := w.claim(id)
	commit := jobs.Commit{}
	for i := range 150 {
		commit.Outputs = append(commit.Outputs, fmt.Sprint("/o", i))
		commit.Errors = append(commit.Errors, jobs.Failure{Code: jobs.CodeUserTask, Message: fmt.Sprint("m", i), Internal: "hidden", Input: fmt.Sprint("/i", i)})
	}
	commit.Errors = append(commit.Errors, jobs.Failure{Phase: 1, Code: jobs.CodeTaskInit, Task: "t"})
	w.must(c.Commit(t.Context(), &commit))
	if a := w.want(200, "", "alice", "GET", live+"out", ""); a.body != strings.Join(commit.Outputs[50:], "\n")+"\n" {
		t.Errorf("outputs %.200q", a.body)
	}
	a = w.want(200, "", "alice", "GET", live+"err", "")
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	if len(lines) != 100 || a.Header.Get("Content-Type") != "application/x-json-stream; type=job-error" || strings.Contains(a.body, "hidden") ||
		lines[0] != `{"phase":"0","what":"phase 0: input \"/i51\"","code":"UserTaskError","message":"m51","input":"/i51"}` ||
		lines[99] != `{"phase":"1","what":"phase 1: reduce","code":"TaskInitError","message":"unknown error"}` {
		t.Errorf("%d errors, first %s, last %s", len(lines), lines[0], lines[len(lines)-1])
	}
	if a := w.want(200, "", "alice", "GET", live+"fail", ""); strings.Count(a.body, "\n") != 99 || !strings.HasSuffix(a.body, "/i149\n") {
		t.Errorf("failures %q", a.body)
	}

	_, err = c.Update(t.Context(), done)
	w.must(err)
	for _, path := range []string{"cancel", "in", "in/end"} {
		a := w.want(409, CodeInvalidJobState, "alice", "POST", live+path, "")
		if !strings.Contains(a.body, "job "+id+" is in state 'done'") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	w.want(200, "", "alice", "GET", live+"status", "")
	w.must(w.records.Delete(t.Context(), id))
	for _, path := range []string{"status", "in", "out", "fail", "err"} {
		w.want(404, "ResourceNotFound", "alice", "GET", live+path, "")
	}
	w.want(200, "", "alice", "GET", "/alice/jobs/"+id, "")
}

func TestCancel(t *testing.T) {
	w := newWorld(t)
	id := w.create("alice", "alice", simple)
	live := "/alice/jobs/" + id + "/live/"
	w.want(202, "", "alice", "POST", live+"cancel", "")
	var s jobs.Status
	w.must(json.Unmarshal([]byte(w.want(200, "", "alice", "GET", live+"status", "").body), &s))
	if !s.Cancelled || !s.InputDone {
		t.Errorf("status %+v", s)
	}
	for _, path := range []string{"cancel", "in", "in/end"} {
		if a := w.want(409, CodeInvalidJobState, "alice", "POST", live+path, ""); !strings.Contains(a.body, "'cancelled'") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	id := w.create("alice", "alice", simple)
	for _, body := range []string{
		"", "x", "[]", `{"phases":[]}`, `{"phases":[{"exec":"a"}],"options":{"frequentCheckpoint":true}}`, `{"phases":[{"exec":"a","memory":100}]}`,
	} {
		w.want(400, CodeInvalidJob, "alice", "POST", "/alice/jobs", body)
	}
	if a := w.want(400, CodeInvalidJob, "alice", "POST", "/alice/jobs", `{"phases":[{"exec":""}]}`); !strings.Contains(a.body, `phases[0].exec`) {
		t.Error(a.body)
	}
	w.want(413, "MaxContentLengthExceeded", "alice", "POST", "/alice/jobs", `{"phases":[{"exec":"`+strings.Repeat("x", 100_000)+`"}]}`)
	w.want(403, "AuthorizationFailed", "bob", "POST", "/alice/jobs", simple)
	// Operators may.
	w.create("poseidon", "alice", `{"phases":[{"exec":"a"}],"options":{"frequentCheckpoint":true}}`)
	if a := w.want(200, "", "alice", "GET", "/alice/jobs", ""); strings.Count(a.body, "\n") != 2 {
		t.Errorf("refused jobs have left directories: %s", a.body)
	}

	const nobody = "00000000-0000-4000-8000-000000000000"
	for _, route := range []struct{ method, path string }{
		{"GET", "status"}, {"GET", "in"}, {"GET", "out"}, {"GET", "err"}, {"GET", "fail"}, {"POST", "in"}, {"POST", "in/end"}, {"POST", "cancel"},
	} {
		w.want(404, "ResourceNotFound", "alice", route.method, "/alice/jobs/"+nobody+"/live/"+route.path, "")
		w.want(404, "ResourceNotFound", "alice", route.method, "/alice/jobs/.%20/live/"+route.path, "")
		w.want(404, "ResourceNotFound", "bob", route.method, "/bob/jobs/"+id+"/live/"+route.path, "")
		w.want(404, "ResourceNotFound", "alice", route.method, "/alice/jobs/"+strings.Repeat("x", 100)+"/live/"+route.path, "")
		w.want(403, "AuthorizationFailed", "bob", route.method, "/alice/jobs/"+id+"/live/"+route.path, "")
	}
	w.want(400, "InvalidArgumentError", "alice", "POST", "/alice/jobs/"+id+"/live/in", "/ok\n"+strings.Repeat("x", jobs.MaxInput+1)+"\n/more")
	w.want(400, "InvalidArgumentError", "alice", "POST", "/alice/jobs/"+id+"/live/in", "/ok2\n"+strings.Repeat("x", 1<<20))
	w.want(204, "", "alice", "POST", "/alice/jobs/"+id+"/live/in", strings.Repeat("x", jobs.MaxInput)+"\r\n")
	got, err := w.records.RecentInputs(t.Context(), id, 10)
	w.must(err)
	if !slices.Equal(got, []string{"/ok", "/ok2", strings.Repeat("x", jobs.MaxInput)}) {
		t.Errorf("inputs %.100q", got)
	}
}

// TestUsers has users of an account who may do this and that.
func TestUsers(t *testing.T) {
	w := newWorld(t)
	w.user("alice/none", "CAN getobject *")
	w.user("alice/noput", "CAN createjob *")
	w.user("alice/nodir", "CAN createjob, putobject *")
	role := w.user("alice/may", "CAN createjob and managejob *", "CAN getjob, putobject and putdirectory")
	w.user("alice/reads", "CAN getjob and listjobs *")
	w.want(403, "AuthorizationFailed", "alice/none", "POST", "/alice/jobs", simple)
	for who, missing := range map[string]string{"alice/noput": "putobject", "alice/nodir": "putdirectory"} {
		if a := w.want(403, CodeMissingPermission, who, "POST", "/alice/jobs", simple); !strings.Contains(a.body, "missing role allowing "+missing) {
			t.Error(a.body)
		}
	}
	id := w.create("alice/may", "alice", simple)
	j, err := w.records.Get(t.Context(), id)
	w.must(err)
	if j.Auth.Login != "alice/may" || j.Auth.UUID != w.uuids["alice"] || j.Auth.User != w.uuids["alice/may"] || j.Owner != w.uuids["alice"] {
		t.Errorf("record %+v", j)
	}
	// The directories carry the role, by which this user, whose rule for getjob names no resource, may read the job.
	if a := w.want(200, "", "alice", "GET", "/alice/jobs/"+id+"/stor", ""); a.Header.Get("Role-Tag") != "r-may" {
		t.Errorf("directory of a user's job %v, role %s", a.Header, role)
	}
	live := "/alice/jobs/" + id + "/live/"
	w.want(200, "", "alice/may", "GET", live+"status", "")
	w.want(403, "AuthorizationFailed", "alice/may", "GET", "/alice/jobs/"+w.create("alice", "alice", simple)+"/live/status", "")
	w.want(200, "", "alice/reads", "GET", live+"status", "")
	w.want(200, "", "alice/reads", "GET", "/alice/jobs?state=live", "")
	w.want(403, "AuthorizationFailed", "alice/reads", "POST", live+"in", "/a")
	w.want(204, "", "alice/may", "POST", live+"in", "/a")
	w.want(202, "", "alice/may", "POST", live+"cancel", "")
}

func TestList(t *testing.T) {
	w := newWorld(t)
	var made []string
	for i := range 4 {
		made = append(made, w.create("alice", "alice", fmt.Sprintf(`{"name":"job-%d","phases":[{"exec":"a"}]}`, i%3)))
		for begin := time.Now().UnixMilli(); time.Now().UnixMilli() == begin; { // the order is by milliseconds
		}
	}
	w.create("bob", "bob", simple)
	_, err := w.claim(made[1]).Update(t.Context(), done)
	w.must(err)
	w.claim(made[2])
	for query, want := range map[string][]int{
		"?state=live": {0, 1, 2, 3}, "?state=running": {2}, "?status=running": {2}, "?name=job-0": {0, 3}, "?state=live&name=job-1": {1},
		"?state=live&limit=2": {0, 1}, "?STATE=x": {0, 1, 2, 3}, "?name=nosuch": nil, "/live": {0, 1, 2, 3}, "/live?state=running": {2},
	} {
		a := w.want(200, "", "alice", "GET", "/alice/jobs"+query, "")
		var got, names []string
		for line := range strings.Lines(a.body) {
			var x struct{ Name, Type, Mtime string }
			w.must(json.Unmarshal([]byte(line), &x))
			if _, err := time.Parse("2006-01-02T15:04:05.000Z", x.Mtime); err != nil || x.Type != "directory" {
				t.Errorf("line %s", line)
			}
			got = append(got, x.Name)
		}
		for _, i := range want {
			names = append(names, made[i])
		}
		if diff := cmp.Diff(names, got); diff != "" || a.Header.Get("Content-Type") != "application/x-json-stream; type=job" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	for _, query := range []string{"?state=done", "?status=x", "?name=a.b", "?name=x&limit=x", "?name=x&limit=0"} {
		w.want(400, "InvalidParameter", "alice", "GET", "/alice/jobs"+query, "")
	}
	w.want(403, "AuthorizationFailed", "bob", "GET", "/alice/jobs?state=live", "")
	// Without those parameters it is the directory, with everything that was ever made.
	if a := w.want(200, "", "alice", "GET", "/alice/jobs?limit=3", ""); strings.Count(a.body, "\n") != 3 || a.Header.Get("Result-Set-Size") != "4" {
		t.Errorf("directory: %v %s", a.Header, a.body)
	}
}

// TestBadCredentials tries every route with every kind of bad credential.
func TestBadCredentials(t *testing.T) {
	w := newWorld(t)
	id := w.create("alice", "alice", simple)
	w.signer("nobody", "")
	w.user("alice/blocked", "CAN getobject *")
	good := w.request("alice", "GET", "/alice/stor", nil).Header.Get("Authorization")
	kinds := map[string]struct {
		status int
		code   string
		spoil  func(*http.Request)
	}{
		"none":           {403, "AuthorizationFailed", func(*http.Request) {}},
		"no date":        {400, "InvalidHeader", func(r *http.Request) { r.Header.Set("Authorization", good) }},
		"another scheme": {403, "AuthorizationSchemeNotAllowed", func(r *http.Request) { r.Header.Set("Authorization", "Basic YTpi") }},
		"unknown":        {403, "AccountDoesNotExist", func(r *http.Request) { w.sign(r, "nobody") }},
		"another text": {403, "InvalidSignature", func(r *http.Request) {
			w.sign(r, "alice")
			r.Header.Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
		}},
		"token":              {403, "InvalidAuthenticationToken", func(r *http.Request) { r.Header.Set("Authorization", "Token aGVsbG8=") }},
		"another's":          {403, "AuthorizationFailed", func(r *http.Request) { w.sign(r, "bob") }},
		"user without roles": {403, "", func(r *http.Request) { w.sign(r, "alice/blocked") }},
		"expired presigned": {403, "InvalidQueryStringAuthentication", func(r *http.Request) {
			r.URL.RawQuery += "&expires=1&signature=x&keyId=%2Falice%2Fkeys%2Fx&algorithm=RSA-SHA256"
		}},
	}
	tried := 0
	for _, route := range (&API{}).Routes() {
		path := strings.NewReplacer(":login", "alice", ":id", id).Replace(route.Pattern)
		if len(route.Query) > 0 {
			path += "?" + route.Query[0] + "=live"
		}
		for name, kind := range kinds {
			r := w.request("", route.Method, path, strings.NewReader(simple))
			kind.spoil(r)
			a := w.send(r)
			tried++
			if a.StatusCode != kind.status || kind.code != "" && a.code() != kind.code || strings.Contains(a.body, "wc") {
				t.Errorf("%s %s with %s: %d %s, want %d %s", route.Method, path, name, a.StatusCode, a.body, kind.status, kind.code)
			}
		}
	}
	if tried < 90 {
		t.Errorf("only %d combinations were tried", tried)
	}
	j, err := w.records.Get(t.Context(), id)
	w.must(err)
	if j.InputDone() || !j.TimeInput.IsZero() {
		t.Errorf("the job was changed: %+v", j)
	}
	n := 0
	for _, err := range w.records.List(t.Context(), jobs.ListOptions{}) {
		w.must(err)
		n++
	}
	if n != 1 {
		t.Errorf("%d jobs", n)
	}
}
