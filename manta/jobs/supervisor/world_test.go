package supervisor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/supervisor/internal/ledger"
	"github.com/mobulacloud/mobula/manta/jobs/task"
	"github.com/mobulacloud/mobula/manta/jobs/task/tasktest"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
	"github.com/mobulacloud/mobula/sdc/ufds"
	"github.com/mobulacloud/mobula/storage"
	"github.com/mobulacloud/mobula/storage/metastore"
	"github.com/mobulacloud/mobula/storage/metastore/metastoretest"
	"github.com/mobulacloud/mobula/storage/metastore/postgres/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// A world is a store of objects whose bytes are in memory, with accounts, jobs and agents. It opens no sockets, so it also lives in a bubble of synctest.
type world struct {
	t        testing.TB
	store    metastore.Store
	ns       *namespace.Namespace
	dir      *ufds.Directory
	identity *authcache.Cache
	records  *jobs.Records
	accounts map[string]*sdc.Account
	tokens   map[string]string
	agents   map[string]*tasktest.Agent
	run      func(ctx context.Context, w *world, t *tasktest.Task) error

	mu      sync.Mutex
	content map[manta.Key]string
	dirs    sync.Map
	puts    atomic.Int64
	refuse  func(path string) int // status that the front door answers a PUT with; 0: it takes it
}

type worldOptions struct {
	store  metastore.Store // nil means one in memory
	agents int             // 0 means 3
	zones  int             // of each; 0 means 8
	run    func(ctx context.Context, w *world, t *tasktest.Task) error
}

func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	w := &world{
		t: t, store: o.store, accounts: map[string]*sdc.Account{}, tokens: map[string]string{}, agents: map[string]*tasktest.Agent{}, content: map[manta.Key]string{}, run: o.run,
	}
	if w.store == nil {
		memory := metastoretest.NewMemory()
		t.Cleanup(func() { memory.Close() })
		w.store = memory
	}
	if w.run == nil {
		w.run = program
	}
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	w.ns, err = namespace.New(namespace.Config{Store: w.store})
	w.must(err)
	w.must(w.ns.Define(ctx))
	w.dir, err = ufds.New(ufds.Config{Store: w.store})
	w.must(err)
	w.must(w.dir.Setup(ctx))
	w.identity, err = authcache.New(authcache.Config{Store: w.store})
	w.must(err)
	done := make(chan struct{})
	go func() { defer close(done); w.identity.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	w.must(w.identity.WaitReady(ctx))
	w.records, err = jobs.NewRecords(w.store)
	w.must(err)
	w.must(w.records.Define(ctx))
	for i := range cmp.Or(o.agents, 3) {
		name := fmt.Sprint(i+1, ".stor")
		a := tasktest.New(tasktest.Config{Name: name, Storage: []string{name}, Zones: o.zones, Run: func(ctx context.Context, task *tasktest.Task) error {
			if in := task.Start.Input; in != nil && in.Size > 0 && !slices.Contains(in.Copies, name) {
				t.Errorf("task on %s, whose object is on %v", name, in.Copies)
			}
			return w.run(ctx, w, task)
		}})
		t.Cleanup(a.Close)
		w.agents[name] = a
	}
	w.account("alice")
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) account(login string) *sdc.Account {
	w.t.Helper()
	ctx := context.Background()
	_, err := w.dir.CreateAccount(ctx, sdc.Account{Login: login, ApprovedForProvisioning: true})
	w.must(err)
	w.follow()
	a, err := w.identity.AccountByLogin(login)
	w.must(err)
	w.accounts[login] = a
	w.tokens[login], err = w.identity.MintToken(&authcache.Caller{Account: a}, a, true)
	w.must(err)
	return a
}

func (w *world) follow() {
	w.t.Helper()
	mark, err := w.dir.Mark(context.Background())
	w.must(err)
	w.must(w.identity.WaitMark(context.Background(), mark))
}

func (w *world) key(path string) manta.Key {
	p, err := parse(path)
	if err != nil {
		panic(err)
	}
	return p.Key(w.accounts[p.Login()].UUID)
}

// put stores an object with copies on these agents, none named: on one of them by its name's length.
func (w *world) put(path, content string, copies ...string) error {
	ctx := context.Background()
	key := w.key(path)
	if len(copies) == 0 {
		copies = []string{fmt.Sprint(len(path)%len(w.agents)+1, ".stor")}
	}
	e := manta.Entry{Type: manta.TypeObject, ObjectID: uuid.NewString(), Size: int64(len(content)), ContentType: "text/plain", MD5: manta.ZeroMD5}
	if len(content) > 0 {
		for _, c := range copies {
			e.Sharks = append(e.Sharks, storage.Shark{Datacenter: "dc", Node: c})
		}
	}
	if err := w.mkdirp(key.Dir()); err != nil {
		return err
	}
	w.mu.Lock()
	w.content[key] = content
	w.mu.Unlock()
	_, _, err := w.ns.Put(ctx, key, e, namespace.Options{})
	return err
}

func (w *world) mkdirp(key manta.Key) error {
	if strings.Count(string(key), "/") <= 2 {
		return nil
	}
	if _, ok := w.dirs.Load(key); ok {
		return nil
	}
	if err := w.mkdirp(key.Dir()); err != nil {
		return err
	}
	_, _, err := w.ns.PutDirectory(context.Background(), key, manta.Entry{}, namespace.Options{})
	for try := 0; errors.Is(err, namespace.ErrConcurrent) && try < 20; try++ {
		_, _, err = w.ns.PutDirectory(context.Background(), key, manta.Entry{}, namespace.Options{})
	}
	if err == nil {
		w.dirs.Store(key, true)
	}
	return err
}

func (w *world) get(path string) (string, bool) {
	st, err := w.ns.Look(context.Background(), w.key(path), false)
	if err != nil || st.Entry == nil || st.Entry.IsDirectory() {
		return "", false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.content[w.key(path)], true
}

// RoundTrip is the store's front door, as far as an archive needs it.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := func(status int) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if w.refuse != nil {
		if status := w.refuse(r.URL.Path); status != 0 {
			return answer(status)
		}
	}
	_, err = w.identity.Authenticate(r.Context(), authcache.Request{Method: r.Method, Target: r.URL.EscapedPath(), Header: r.Header})
	if err != nil || r.Method != http.MethodPut || r.Header.Get("Access-Control-Allow-Origin") != "*" {
		return answer(403)
	}
	w.puts.Add(1)
	if err := w.put(r.URL.Path, string(body)); err != nil {
		return nil, err
	}
	return answer(204)
}

// cut is a store whose process has died: whatever it is asked fails.
type cut struct {
	metastore.Store
	dead atomic.Bool
}

var errDead = fmt.Errorf("%w: the process is dead", metastore.ErrUnavailable)

func (c *cut) Commit(ctx context.Context, b metastore.Batch) (metastore.Result, error) {
	if c.dead.Load() {
		return metastore.Result{}, errDead
	}
	r, err := c.Store.Commit(ctx, b)
	if c.dead.Load() {
		return metastore.Result{}, errDead // it may be in, or not
	}
	return r, err
}

// A process is a supervisor that can be killed.
type process struct {
	*Supervisor
	store  *cut
	cancel context.CancelFunc
	done   chan error
}

// kill cuts the process off from its store, so that it cleans up nothing, and ends it.
func (p *process) kill() {
	p.store.dead.Store(true)
	p.stop()
}

func (p *process) stop() {
	p.cancel()
	<-p.done
}

func (w *world) supervise(instance string, fns ...func(*Config)) *process {
	return w.superviseOn(w.store, instance, fns...)
}

func (w *world) superviseOn(store metastore.Store, instance string, fns ...func(*Config)) *process {
	w.t.Helper()
	p := &process{store: &cut{Store: store}, done: make(chan error, 1)}
	records, err := jobs.NewRecords(p.store)
	w.must(err)
	ns, err := namespace.New(namespace.Config{Store: p.store})
	w.must(err)
	agents := StaticAgents{}
	for name, a := range w.agents {
		agents[name] = a
	}
	cfg := Config{Records: records, Identity: w.identity, Namespace: ns, Agents: agents, Front: w, FrontURL: "http://front", Instance: instance}
	if testing.Verbose() && os.Getenv("SUPERVISOR_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for _, fn := range fns {
		fn(&cfg)
	}
	p.Supervisor, err = New(cfg)
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	ended := make(chan struct{})
	go func() { defer close(ended); p.done <- p.Run(ctx); close(p.done) }()
	w.t.Cleanup(func() { cancel(); <-ended })
	return p
}

// phases makes phases of programs; one that begins with "reduce N:" is of a reduce phase.
func phases(programs ...string) []jobs.Phase {
	var list []jobs.Phase
	for _, p := range programs {
		phase := jobs.Phase{Type: jobs.Map, Exec: p}
		if rest, ok := strings.CutPrefix(p, "reduce "); ok {
			n := 0
			fmt.Sscanf(rest, "%d:", &n)
			_, phase.Exec, _ = strings.Cut(rest, ":")
			phase.Type, phase.Count = jobs.Reduce, n
		}
		list = append(list, phase)
	}
	return list
}

func (w *world) create(login string, programs ...string) string {
	w.t.Helper()
	a := w.accounts[login]
	j := &jobs.Job{ID: uuid.NewString(), Name: "test", Owner: a.UUID, Login: login, Auth: jobs.Auth{Token: w.tokens[login], Login: login, UUID: a.UUID}, Phases: phases(programs...)}
	for _, d := range []string{"/live", "/stor"} {
		w.must(w.mkdirp(w.key(jobs.Dir(login, j.ID)) + manta.Key(d)))
	}
	w.must(w.records.Create(context.Background(), j))
	return j.ID
}

func (w *world) add(id string, paths ...string) {
	w.t.Helper()
	for len(paths) > 0 {
		n := min(len(paths), 5000)
		w.must(w.records.AddInputs(context.Background(), id, paths[:n]))
		paths = paths[n:]
	}
}

// submit makes a job of inputs and ends its input.
func (w *world) submit(login string, inputs []string, programs ...string) string {
	w.t.Helper()
	id := w.create(login, programs...)
	w.add(id, inputs...)
	w.must(w.records.EndInput(context.Background(), id))
	return id
}

// await waits for a job to satisfy a condition.
func (w *world) await(id string, ok func(*jobs.Job) bool) *jobs.Job {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	from, err := w.records.Position(ctx)
	w.must(err)
	j, err := w.records.Get(ctx, id)
	w.must(err)
	if ok(j) {
		return j
	}
	for e, err := range w.records.Watch(ctx, from) {
		if err != nil {
			w.t.Fatalf("job %s: %v; it is %+v", id, err, j)
		}
		if e.Job != id {
			continue
		}
		j, err = w.records.Get(ctx, id)
		w.must(err)
		if ok(j) {
			return j
		}
	}
	return nil
}

func archived(j *jobs.Job) bool { return !j.TimeArchiveDone.IsZero() }

// A result is what became of a job, in an order that does not depend on what came first.
type result struct {
	Outputs []string // contents of anonymous outputs, names of others
	Errors  []string
	Stray   []string // objects below the job's directory that are no outputs
}

func (w *world) result(id string) result {
	w.t.Helper()
	ctx := context.Background()
	j, err := w.records.Get(ctx, id)
	w.must(err)
	var r result
	outputs := map[string]bool{}
	var nout, nerr int64
	for list, err := range w.records.Outputs(ctx, id) {
		w.must(err)
		for _, path := range list {
			nout++
			outputs[path] = true
			content, ok := w.get(path)
			if !ok {
				w.t.Errorf("job %s: output %s is not there", id, path)
			}
			r.Outputs = append(r.Outputs, content)
		}
	}
	for list, err := range w.records.Errors(ctx, id) {
		w.must(err)
		for _, f := range list {
			nerr++
			r.Errors = append(r.Errors, fmt.Sprintf("%s %s: %s", f.What(), f.Code, f.Message))
		}
	}
	if s := j.Stats; s.Outputs != nout || s.Errors != nerr || s.Tasks != s.TasksOK+s.TasksFailed {
		w.t.Errorf("job %s: %d outputs and %d errors, counters %+v", id, nout, nerr, s)
	}
	for _, path := range w.objects(w.key(jobs.StorDir(j.Login, id)), jobs.StorDir(j.Login, id)) {
		if !outputs[path] {
			r.Stray = append(r.Stray, path)
		}
	}
	sort.Strings(r.Outputs)
	sort.Strings(r.Errors)
	sort.Strings(r.Stray)
	return r
}

func (w *world) objects(dir manta.Key, path string) []string {
	w.t.Helper()
	var list []string
	for e, err := range w.ns.List(context.Background(), dir, namespace.ListOptions{}) {
		w.must(err)
		if e.IsDirectory() {
			list = append(list, w.objects(e.Key, path+"/"+e.Key.Name())...)
			continue
		}
		list = append(list, path+"/"+e.Key.Name())
	}
	return list
}

// program runs what tests put into exec:
//
//	cat      the input
//	upper    the input in capitals
//	count    how many lines there are
//	sort     the input's lines in order
//	split N  each line as an object of its own, to the reducer by its first byte mod N
//	ref P    the object P by reference
//	fail     fails
//	none     nothing
func program(ctx context.Context, w *world, t *tasktest.Task) error {
	name, arg, _ := strings.Cut(t.Job.Phases[t.Start.Phase].Exec, " ")
	in, err := w.input(t)
	if err != nil {
		return err
	}
	emit := func(content string, reducer int) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		path := t.OutputBase() + uuid.NewString()
		if reducer < 0 {
			path = t.OutputBase() + t.Start.Task
		}
		if err := w.put(path, content); err != nil {
			return err
		}
		t.Emit(path, reducer)
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(in, "\n"), "\n")
	switch name {
	case "cat":
		return emit(in, -1)
	case "upper":
		return emit(strings.ToUpper(in), -1)
	case "count":
		return emit(fmt.Sprintln(strings.Count(in, "\n")), -1)
	case "sort":
		slices.Sort(lines)
		return emit(strings.Join(lines, "\n")+"\n", -1)
	case "split":
		n := 0
		fmt.Sscan(arg, &n)
		for _, line := range lines {
			if line != "" {
				if err := emit(line+"\n", int(line[0])%n); err != nil {
					return err
				}
			}
		}
		return nil
	case "ref":
		t.Emit(arg, -1)
		return nil
	case "none":
		return nil
	}
	return errors.New("user command exited with code 1")
}

// input returns all that a task reads.
func (w *world) input(t *tasktest.Task) (string, error) {
	if t.Start.Input != nil {
		content, ok := w.get(t.Start.Input.Path)
		if !ok {
			return "", fmt.Errorf("no input %s", t.Start.Input.Path)
		}
		return content, nil
	}
	var all bytes.Buffer
	for {
		list, err := t.Inputs()
		if err != nil || len(list) == 0 {
			return all.String(), err
		}
		for _, in := range list {
			content, ok := w.get(in.Path)
			if !ok {
				return "", fmt.Errorf("no input %s", in.Path)
			}
			all.WriteString(content)
		}
	}
}

var _ task.Agent = (*tasktest.Agent)(nil)

func (w *world) open(login string) *task.Open {
	return &task.Open{Job: uuid.NewString(), Owner: w.accounts[login].UUID, Login: login, Token: w.tokens[login]}
}

func lookups(paths ...string) []ledger.Lookup {
	var list []ledger.Lookup
	for i, p := range paths {
		list = append(list, ledger.Lookup{Ref: ledger.Ref{Number: int64(i)}, Path: p, Origin: p})
	}
	return list
}
