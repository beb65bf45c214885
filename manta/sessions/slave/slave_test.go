package slave

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/internal/storetest"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/jobapi"
	"github.com/mobulacloud/mobula/manta/sessions"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// A world is a store with jobs and sessions, and a task's door to it.
type world struct {
	*storetest.Store
	t       testing.TB
	records *jobs.Records
	alice   *client.Client
	token   string
	door    string // URL
	dir     string // of assets
	assets  *os.Root
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.Store = storetest.New(t, func(s *storetest.Store, cfg *webapi.Config) {
		var err error
		w.records, err = jobs.NewRecords(s.Records)
		w.must(err)
		w.must(w.records.Define(t.Context()))
		api, err := jobapi.New(jobapi.Config{Records: w.records, Namespace: s.Namespace, Identity: s.Identity})
		w.must(err)
		r, err := sessions.New(sessions.Config{Store: s.Records, Job: api.Job})
		w.must(err)
		w.must(r.Define(t.Context()))
		cfg.Routes = append(api.Routes(), r.Routes()...)
	})
	w.alice = w.Account("alice")
	w.token = w.Token(w.alice)
	front, err := url.Parse(w.URL)
	w.must(err)
	door := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(front)
		p.Out.Header.Set("Authorization", "Token "+w.token)
	}})
	t.Cleanup(door.Close)
	w.door = door.URL
	w.assets, err = os.OpenRoot(w.dir)
	w.must(err)
	t.Cleanup(func() { w.assets.Close() })
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// asset puts a file where a task finds it.
func (w *world) asset(path, content string) {
	w.t.Helper()
	name := filepath.Join(w.dir, path)
	w.must(os.MkdirAll(filepath.Dir(name), 0o777))
	w.must(os.WriteFile(name, []byte(content), 0o777))
}

func (w *world) config() Config {
	return Config{
		Assets: w.assets, User: "alice", URL: w.door + "/", Log: w.t.Output(),
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "MANTA_INPUT_FILE=/manta/alice/stor/in", "TERM=dumb"},
	}
}

// A master is the user's side, in the form without prefixes.
type master struct {
	w    *world
	job  string
	conn *websocket.Conn
	seen bytes.Buffer // of the terminal
	done chan error   // of the slave
}

// begin makes a session with a slave.
func (w *world) begin() *master {
	w.t.Helper()
	a, err := w.Identity.AccountByLogin("alice")
	w.must(err)
	j := &jobs.Job{ID: uuid.NewString(), Owner: a.UUID, Login: "alice", Phases: []jobs.Phase{{Type: jobs.Map, Exec: "x"}}}
	w.must(w.records.Create(w.t.Context(), j))
	m := &master{w: w, job: j.ID, done: make(chan error, 1)}
	m.conn, _, err = websocket.Dial(w.t.Context(), w.URL+"/alice/medusa/attach/"+j.ID+"/master", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Token " + w.token}}, Subprotocols: []string{sessions.Subprotocol},
	})
	w.must(err)
	w.t.Cleanup(func() { m.conn.CloseNow() })
	text, err := json.Marshal(map[string]any{"signed_url": "https://elsewhere.example:1/alice/medusa/attach/" + j.ID + "/slave?signature=x", "insecure_tls": false})
	w.must(err)
	path := "alice/stor/medusa-config-" + uuid.NewString() + ".json"
	w.Put(w.alice, "/"+path, string(text))
	w.asset(path, string(text))
	go func() { m.done <- Run(w.t.Context(), w.config()) }()
	m.reply("linkup")
	if _, err := w.assets.Stat(path); err == nil {
		w.t.Error("the asset is still there")
	}
	if w.Has(w.alice, "/"+path) {
		w.t.Error("the object is still there")
	}
	return m
}

func (m *master) send(kind websocket.MessageType, s string) {
	m.w.t.Helper()
	m.w.must(m.conn.Write(m.w.t.Context(), kind, []byte(s)))
}

func (m *master) say(s string)   { m.w.t.Helper(); m.send(websocket.MessageText, s) }
func (m *master) hit(s string)   { m.w.t.Helper(); m.send(websocket.MessageBinary, s) }
func (m *master) output() string { return m.seen.String() }

// read takes one message.
func (m *master) read() (reply, bool) {
	m.w.t.Helper()
	ctx, cancel := context.WithTimeout(m.w.t.Context(), 20*time.Second)
	defer cancel()
	kind, data, err := m.conn.Read(ctx)
	if err != nil {
		m.w.t.Fatalf("%v; on the terminal: %q", err, m.seen.String())
	}
	var r reply
	if kind == websocket.MessageBinary {
		m.seen.Write(data)
		return r, false
	}
	m.w.must(json.Unmarshal(data, &r))
	return r, true
}

// reply waits for a text message of a type.
func (m *master) reply(kind string) reply {
	m.w.t.Helper()
	for {
		r, ok := m.read()
		if ok && r.Type == kind {
			return r
		}
		if ok && r.Type != "wait" {
			m.w.t.Fatalf("reply %+v, want %s; on the terminal: %q", r, kind, m.seen.String())
		}
	}
}

// expect waits until the terminal shows something.
func (m *master) expect(s string) {
	m.w.t.Helper()
	for !strings.Contains(m.seen.String(), s) {
		if r, ok := m.read(); ok {
			m.w.t.Fatalf("reply %+v before %q; on the terminal: %q", r, s, m.seen.String())
		}
	}
}

func (m *master) end() error {
	m.w.t.Helper()
	m.w.must(m.conn.Close(websocket.StatusNormalClosure, "done"))
	return <-m.done
}

func TestSession(t *testing.T) {
	w := newWorld(t)
	m := w.begin()
	m.say(`{"type":"start","command":"/usr/bin/ctrun","arguments":["-i","core","-l","child","/bin/bash","--norc"],"term":"vt100","columns":90,"lines":30,"cwd":"/"}`)
	if r := m.reply("started"); r.PID <= 0 {
		t.Errorf("started %+v", r)
	}
	m.expect("Your Manta Object is at: /manta/alice/stor/in")
	m.expect("alice@manta # ")
	m.hit("stty size; echo $TERM-$(pwd)\n")
	m.expect("30 90\r\nvt100-/\r\n")
	m.say(`{"type":"resize","columns":100,"lines":40}`)
	m.say("ping")
	m.say("{")
	m.say(`{"type":"start","command":"/bin/false"}`) // one is enough
	m.hit("stty size\n")
	m.expect("40 100\r\n")
	m.hit("bash -c \"echo begin''; exec sleep 1000\"\n") // says so when it has the terminal
	m.expect("begin\r\n")
	m.seen.Reset()
	m.hit("\x03") // the terminal's own way to interrupt
	m.expect("@manta # ")
	m.hit("head -c 300000 /dev/zero | tr '\\0' x; echo; echo last; exit 3\n")
	m.reply("exit")
	if n := strings.Count(m.output(), "x"); n < 300_000 || !strings.Contains(m.output(), "\r\nlast\r\n") {
		t.Errorf("%d bytes of output, which end with %q", n, m.output()[max(0, m.seen.Len()-100):])
	}
	if err := m.end(); err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestStart(t *testing.T) {
	w := newWorld(t)
	t.Run("no such program", func(t *testing.T) {
		m := w.begin()
		m.say(`{"type":"start","command":"/no/such/program"}`)
		if r := m.reply("error"); !strings.Contains(r.Error, "no such file") {
			t.Errorf("error %+v", r)
		}
		if err := m.end(); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Run("default", func(t *testing.T) {
		m := w.begin()
		m.say(`{"type":"start"}`)
		m.reply("started")
		m.hit("stty size; exit\n")
		m.expect("25 80\r\n")
		m.reply("exit")
		_ = m.end()
	})
	t.Run("command", func(t *testing.T) {
		m := w.begin()
		m.say(`{"type":"start","command":"/usr/bin/ctrun","arguments":["-i","core","-l","child","/bin/bash","-c","echo hello"]}`)
		m.reply("started")
		m.reply("exit")
		if m.output() != "hello\r\n" {
			t.Errorf("output %q", m.output())
		}
		_ = m.end()
	})
	t.Run("left behind", func(t *testing.T) {
		// What a program leaves on the terminal does not keep the session.
		m := w.begin()
		m.say(`{"type":"start","command":"/bin/bash","arguments":["-c","trap '' HUP; (trap '' HUP; sleep 3) & echo bye"]}`)
		m.reply("started")
		m.reply("exit")
		if !strings.Contains(m.output(), "bye") {
			t.Errorf("output %q", m.output())
		}
		_ = m.end()
	})
}

// TestUserLeaves: the program does not outlive the user's side.
func TestUserLeaves(t *testing.T) {
	w := newWorld(t)
	for name, script := range map[string]string{
		"ordinary":                "echo pid=$$; sleep 1000",
		"ignores the hang-up":     "trap '' HUP; echo pid=$$; while :; do sleep 1000; done",
		"reads nothing it is fed": "echo pid=$$; sleep 1000",
	} {
		t.Run(name, func(t *testing.T) {
			m := w.begin()
			m.say(`{"type":"start","command":"/bin/bash","arguments":["-c",` + string(quote(script)) + `]}`)
			pid := m.reply("started").PID
			m.expect("pid=")
			if name == "reads nothing it is fed" {
				m.hit(strings.Repeat("y", 3000) + "\n")
			}
			if err := m.end(); err != nil {
				t.Errorf("Run = %v", err)
			}
			if alive(pid) {
				t.Errorf("process %d is left", pid)
			}
		})
	}
	t.Run("breaks off", func(t *testing.T) {
		m := w.begin()
		m.say(`{"type":"start","command":"/bin/bash","arguments":["-c","echo ready; sleep 1000"]}`)
		pid := m.reply("started").PID
		m.expect("ready")
		m.conn.CloseNow()
		if err := <-m.done; err != nil {
			t.Errorf("Run = %v", err) // the reflector says goodbye in its place
		}
		if alive(pid) {
			t.Errorf("process %d is left", pid)
		}
	})
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return b
}

// alive reports whether there is a process that is not a zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	run := func() string {
		err := Run(t.Context(), w.config())
		if err == nil {
			t.Error("Run has nothing against it")
			return ""
		}
		return err.Error()
	}
	if got := run(); !strings.Contains(got, "alice/stor") {
		t.Errorf("without assets: %s", got)
	}
	w.asset("alice/stor/other.json", "{}")
	if got := run(); !strings.Contains(got, "no medusa-config") {
		t.Errorf("without the asset: %s", got)
	}
	for _, text := range []string{"", "{", `{"signed_url":7}`, `{"signed_url":"https://x/alice/stor/secret"}`, `{"signed_url":"://?signature=s3cret"}`, `{"signed_url":"/alice/medusa/attach/x/master"}`} {
		w.asset("alice/stor/medusa-config-1.json", text)
		if got := run(); strings.Contains(got, "s3cret") {
			t.Errorf("%s: %s", text, got)
		}
	}
	w.asset("alice/stor/medusa-config-1.json", `{"signed_url":"https://x/alice/medusa/attach/00000000-0000-4000-8000-000000000000/slave"}`)
	if got := run(); !strings.Contains(got, "ResourceNotFound") {
		t.Errorf("no session: %s", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`mlogin:{"type":"start","command":"/bin/sh","arguments":["-c","x"],"term":"xterm","columns":80,"lines":25,"cwd":"/"}`))
	f.Add([]byte(`medusa:{"type":"linkup"}`))
	f.Add([]byte(`mlogin:{"type":"resize","columns":-1,"lines":1e9}`))
	f.Add([]byte(`ping`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := parse(in)
		if r == nil {
			return
		}
		if (r.Type == "linkup") != bytes.HasPrefix(in, []byte("medusa:")) {
			t.Errorf("%q says %q", in, r.Type)
		}
		for _, x := range []float64{r.Columns, r.Lines} {
			if n := size(x, 80); n < 1 {
				t.Errorf("size %v becomes %d", x, n)
			}
		}
		if name, _ := command(r); name == "" {
			t.Errorf("%q runs nothing", in)
		}
	})
}

func FuzzAttachPath(f *testing.F) {
	f.Add([]byte(`{"signed_url":"https://host/alice/medusa/attach/id/slave?a=b","insecure_tls":true}`))
	f.Add([]byte(`{"signed_url":"/a%2fb/medusa/attach/%00/slave"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		path, err := attachPath(in)
		if err == nil && (!strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/slave") || strings.ContainsAny(path, "?#\r\n ")) {
			t.Errorf("%q gives %q", in, path)
		}
	})
}

// TestScript runs the script as a task would, with the program found by name.
func TestScript(t *testing.T) {
	testenv.NeedTool(t, "bash", "bash")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Name), []byte("#!/bin/sh\necho ran \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "agent.sh")
	if err := os.WriteFile(script, []byte(Script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), script, "a", "b")
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "ran a b\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestUnread has a program that reads nothing of what it is fed: it holds up neither the end of the session nor anything else.
func TestUnread(t *testing.T) {
	w := newWorld(t)
	m := w.begin()
	m.say(`{"type":"start","command":"/bin/bash","arguments":["-c","stty raw -echo; trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"]}`)
	pid := m.reply("started").PID
	m.expect("ready")
	for range 10 {
		m.hit(strings.Repeat("y", 100_000))
	}
	m.say(`{"type":"resize","columns":100,"lines":40}`)
	m.expect("40 100")
	if err := m.end(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if alive(pid) {
		t.Errorf("process %d is left", pid)
	}
}
