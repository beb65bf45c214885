package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/manta/webapi"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/durable"
	"github.com/mobulacloud/mobula/storage/metastore/pebble"
	"github.com/mobulacloud/mobula/storage/objfile"
	"github.com/mobulacloud/mobula/storage/picker"
)

// A world is a store on disk with a front door, and an agent beside its nodes.
type world struct {
	t      testing.TB
	dir    string
	ns     *namespace.Namespace
	cache  *authcache.Cache
	accts  *ufds.Directory
	stores map[string]Store
	url    string
	client *http.Transport
	uuids  map[string]string
	tokens map[string]string
	agent  *Agent
	stop   func() error
}

// storeWorld makes the store alone.
func storeWorld(t testing.TB) *world {
	t.Helper()
	testenv.NeedRoot(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "agent")
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, dir: dir, stores: map[string]Store{}, uuids: map[string]string{}, tokens: map[string]string{}}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	store, err := pebble.Open(filepath.Join(dir, "meta"), pebble.Config{})
	must(err)
	t.Cleanup(func() { store.Close() })
	w.ns, err = namespace.New(namespace.Config{Store: store})
	must(err)
	must(w.ns.Define(ctx))
	fleet := map[storage.Shark]storage.Node{}
	for i := range 2 {
		id := fmt.Sprintf("%d.stor.test", i+1)
		s, err := objfile.Open(filepath.Join(dir, id), objfile.Config{ScrubRate: -1})
		must(err)
		t.Cleanup(func() { s.Close() })
		w.stores[id] = s
		fleet[storage.Shark{Datacenter: "dc", Node: id}] = s
	}
	static, err := durable.OpenStatic(ctx, picker.Config{StreamingSize: 1 << 20}, fleet)
	must(err)
	objects, err := durable.New(durable.Config{Nodes: static})
	must(err)
	w.accts, err = ufds.New(ufds.Config{Store: store})
	must(err)
	must(w.accts.Setup(ctx))
	w.cache, err = authcache.New(authcache.Config{Store: store})
	must(err)
	done := make(chan struct{})
	go func() { defer close(done); w.cache.Run(ctx) }()
	must(w.cache.WaitReady(ctx))
	front, err := webapi.New(webapi.Config{Namespace: w.ns, Storage: objects, Identity: w.cache, Name: "front"})
	must(err)
	web := httptest.NewUnstartedServer(front)
	web.Config = front.HTTPServer(front)
	web.Listener = front.Listener(web.Listener)
	web.Start()
	w.url = web.URL
	w.client = newFront()
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		web.Close()
		cancel()
		<-done
		objects.Close()
	})
	for _, login := range []string{"alice", "bob"} {
		w.account(login)
	}
	return w
}

func newFront() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 64, ExpectContinueTimeout: time.Second}
}

// runDir is where an agent on a directory keeps what does not outlive a boot.
func runDir(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "/run/mobula-jobs/" + hex.EncodeToString(sum[:4])
}

func (w *world) account(login string) {
	w.t.Helper()
	a, err := w.accts.CreateAccount(context.Background(), sdc.Account{Login: login, Email: login + "@example.com", ApprovedForProvisioning: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.uuids[login] = a.UUID
	var known *sdc.Account
	for range 5000 {
		if known, err = w.cache.AccountByLogin(login); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if w.tokens[login], err = w.cache.MintToken(&authcache.Caller{Account: known}, known, true); err != nil {
		w.t.Fatal(err)
	}
}

// newWorld also runs an agent.
func newWorld(t testing.TB, change func(*Config)) *world {
	w := storeWorld(t)
	w.startAgent(change)
	return w
}

func (w *world) startAgent(change func(*Config)) {
	t := w.t
	t.Helper()
	cfg := Config{Name: "agent1", Stores: w.stores, Front: w.client, FrontURL: w.url, Dir: filepath.Join(w.dir, "agent"), Zones: 4, FirstID: 1<<29 + 1<<28}
	if os.Getenv("MOBULA_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if change != nil {
		change(&cfg)
	}
	a, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	w.agent = a
	w.stop = sync.OnceValue(func() error {
		stop()
		return <-done
	})
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
}

// request makes a request of somebody's and returns status and body.
func (w *world) request(login, method, name, body, contentType string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.url+escape(name), strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Token "+w.tokens[login])
	req.Header.Set("Content-Type", cmp.Or(contentType, "text/plain"))
	resp, err := w.client.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (w *world) mkdir(login, dir string) {
	w.t.Helper()
	if st, b := w.request(login, "PUT", dir, "", "application/json; type=directory"); st != 204 {
		w.t.Fatalf("mkdir %s: %d %s", dir, st, b)
	}
}

// put stores an object and returns it as an input.
func (w *world) put(login, name, body string) *task.Input {
	w.t.Helper()
	if st, b := w.request(login, "PUT", name, body, ""); st != 204 {
		w.t.Fatalf("put %s: %d %s", name, st, b)
	}
	return w.input(login, name)
}

func (w *world) input(login, name string) *task.Input {
	w.t.Helper()
	p, err := manta.ParsePath(escape(name))
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := w.ns.Look(context.Background(), p.Key(w.uuids[login]), false)
	if err != nil || st.Entry == nil {
		w.t.Fatalf("look up %s: %v %v", name, st, err)
	}
	in := &task.Input{Path: name, Origin: name, Size: st.Entry.Size}
	if in.Size > 0 {
		if in.Object, err = st.Entry.BytesID(); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, s := range st.Entry.Sharks {
		in.Copies = append(in.Copies, s.Node)
	}
	return in
}

func (w *world) get(login, name string) string {
	w.t.Helper()
	st, b := w.request(login, "GET", name, "", "")
	if st != 200 {
		w.t.Fatalf("get %s: %d %s", name, st, b)
	}
	return b
}

// A supervisor is a test's.
type supervisor struct {
	w      *world
	t      testing.TB
	stream task.Stream
	emits  map[string][]task.Emit
	done   map[string]*task.Done
}

func (w *world) connect(name string) *supervisor {
	w.t.Helper()
	s, err := w.agent.Connect(context.Background(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return &supervisor{w: w, t: w.t, stream: s, emits: map[string][]task.Emit{}, done: map[string]*task.Done{}}
}

// open makes a job's directories and opens it.
func (s *supervisor) open(login string, phases ...jobs.Phase) string {
	s.t.Helper()
	id := uuid.NewString()
	s.w.mkdir(login, jobs.Dir(login, id))
	s.w.mkdir(login, jobs.StorDir(login, id))
	for i := range phases {
		phases[i].Type = cmp.Or(phases[i].Type, jobs.Map)
	}
	s.send(task.Order{Open: &task.Open{Job: id, Assigned: 1, Owner: s.w.uuids[login], Login: login, Token: s.w.tokens[login], Phases: phases}})
	return id
}

func (s *supervisor) send(orders ...task.Order) {
	s.t.Helper()
	if err := s.stream.Send(context.Background(), orders...); err != nil {
		s.t.Fatal(err)
	}
}

// start starts a task and returns its id.
func (s *supervisor) start(job string, phase int, in *task.Input) string {
	s.t.Helper()
	id := uuid.NewString()
	s.send(task.Order{Start: &task.Start{Job: job, Phase: phase, Task: id, Input: in}})
	return id
}

// receive takes what is there, or fails the test after a while.
func (s *supervisor) receive() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	list, err := s.stream.Receive(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range list {
		if r.Emit != nil {
			s.emits[r.Emit.Task] = append(s.emits[r.Emit.Task], *r.Emit)
		}
		if r.Done != nil {
			if s.done[r.Done.Task] != nil {
				s.t.Errorf("task %s ended twice", r.Done.Task)
			}
			s.done[r.Done.Task] = r.Done
		}
	}
}

func (s *supervisor) wait(id string) *task.Done {
	s.t.Helper()
	for s.done[id] == nil {
		s.receive()
	}
	return s.done[id]
}

// output waits for a task that must go well, and returns its only output.
func (s *supervisor) output(login, id string) string {
	s.t.Helper()
	if d := s.wait(id); d.Failure != nil {
		s.t.Fatalf("task failed: %+v", *d.Failure)
	}
	if n := len(s.emits[id]); n != 1 {
		s.t.Fatalf("%d outputs: %+v", n, s.emits[id])
	}
	return s.w.get(login, s.emits[id][0].Path)
}

// failure waits for a task that must fail.
func (s *supervisor) failure(id string) *jobs.Failure {
	s.t.Helper()
	d := s.wait(id)
	if d.Failure == nil {
		s.t.Fatalf("the task went well: %+v", s.emits[id])
	}
	return d.Failure
}
