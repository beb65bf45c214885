package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/internal/storetest"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/manta/jobs/jobapi"
	"github.com/mobulacloud/mobula/manta/webapi"
)

// A jobStore is a store that takes jobs, with an account "alice". Its test does what a supervisor would, through the same records.
type jobStore struct {
	*client.Client
	store   *storetest.Store
	t       testing.TB
	records *jobs.Records
}

func newJobStore(t testing.TB) *jobStore {
	t.Helper()
	s := &jobStore{t: t}
	s.store = storetest.New(t, func(st *storetest.Store, cfg *webapi.Config) {
		var err error
		s.records, err = jobs.NewRecords(st.Records)
		s.must(err)
		s.must(s.records.Define(t.Context()))
		api, err := jobapi.New(jobapi.Config{Records: s.records, Namespace: st.Namespace, Identity: st.Identity})
		s.must(err)
		cfg.Routes = api.Routes()
	})
	s.Client = s.store.Account("alice", func(o *client.Options) { o.MaxRetries = -1 })
	return s
}

func (s *jobStore) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// claim takes a job as a supervisor does.
func (s *jobStore) claim(id string) *jobs.Claim {
	s.t.Helper()
	c, err := s.records.Claim(s.t.Context(), id, "sup")
	s.must(err)
	return c
}

// archive ends a job as a supervisor does.
func (s *jobStore) archive(c *jobs.Claim, lists map[string]string) {
	s.t.Helper()
	now := time.Now()
	_, err := c.Update(s.t.Context(), func(j *jobs.Job) error { j.State, j.TimeDone = jobs.Done, now; return nil })
	s.must(err)
	for _, name := range []string{"in", "out", "err", "fail"} {
		s.store.Put(s.Client, "/alice/jobs/"+c.Job().ID+"/"+name+".txt", lists[name])
	}
	j, err := c.Update(s.t.Context(), func(j *jobs.Job) error { j.TimeArchiveDone = now; return nil })
	s.must(err)
	b, err := jobs.Encode(j.Status())
	s.must(err)
	s.store.Put(s.Client, "/alice/jobs/"+c.Job().ID+"/job.json", string(b))
}

func collect[T any](t testing.TB, seq iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func lines(n int, format string) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf(format, i))
	}
	return list
}

func TestJob_builder(t *testing.T) {
	s := newJobStore(t)
	ctx := t.Context()
	job, err := s.Job().Name("count").Map("grep -c x").Asset("~~/stor/tool", "/bob/public/tool").Init("true").Memory(512).
		Reduce("awk '{n += $1} END {print n}'").Count(3).Disk(16).Image("*").
		Phase(client.Phase{Exec: "cat", Uarg: map[string]any{"k": "v"}}).Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, err := job.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []client.Phase{
		{Type: "map", Exec: "grep -c x", Init: "true", Assets: []string{"/alice/stor/tool", "/bob/public/tool"}, Memory: 512},
		{Type: "reduce", Exec: "awk '{n += $1} END {print n}'", Count: 3, Disk: 16, Image: "*"},
		{Type: "map", Exec: "cat", Uarg: map[string]any{"k": "v"}},
	}
	if diff := cmp.Diff(want, got.Phases); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	if got.ID != job.ID || got.Name != "count" || got.State != client.JobQueued || got.InputDone || got.TimeCreated.IsZero() || !got.TimeDone.IsZero() {
		t.Errorf("Status() = %+v", got)
	}

	if _, err := s.Job().Init("true").Map("x").Create(ctx); !errors.Is(err, client.ErrInput) {
		t.Errorf("init before a phase: %v, want ErrInput", err)
	}
	if _, err := s.Job().Create(ctx); !errors.Is(err, client.ErrInvalidJob) {
		t.Errorf("a job without a phase: %v, want ErrInvalidJob", err)
	}
	if _, err := s.Job().Map("x").Memory(100).Create(ctx); !errors.Is(err, client.ErrInvalidJob) {
		t.Errorf("100 MB: %v, want ErrInvalidJob", err)
	}
	in := &client.CreateJobInput{Phases: []client.Phase{{Exec: "x", Assets: []string{"~~/stor/tool"}}}}
	if _, err := s.CreateJob(ctx, in); err != nil || in.Phases[0].Assets[0] != "~~/stor/tool" {
		t.Errorf("CreateJob changed its argument to %+v, %v", in, err)
	}
	if _, err := s.OpenJob("3ec32136-b125-11e2-8487-1b418dd6974b").Status(ctx); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("status of no job: %v, want ErrNotFound", err)
	}
}

func TestJob_inputs(t *testing.T) {
	s := newJobStore(t)
	ctx := t.Context()
	job, err := s.Job().Map("wc").Create(ctx)
	s.must(err)
	many := lines(50_000, "/alice/stor/%d")
	s.must(job.AddInputs(ctx, slices.Values(many)))
	s.must(job.AddInputs(ctx, slices.Values([]string{"~~/stor/ä b", "~~"})))
	s.must(job.AddInputsFrom(ctx, strings.NewReader("~~/stor/x\r\n\n/alice/stor/y")))
	s.must(job.AddInputs(ctx, slices.Values([]string(nil))))
	many = append(many, "/alice/stor/ä b", "/alice", "/alice/stor/x", "/alice/stor/y")
	var all []string
	for in, err := range s.records.Inputs(ctx, job.ID, 0) {
		s.must(err)
		all = append(all, in.Paths...)
	}
	if diff := cmp.Diff(many, all); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(many[len(many)-100:], collect(t, job.Inputs(ctx))); diff != "" {
		t.Errorf("live inputs (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "a\nb", "~~/../x"} {
		if err := job.AddInputs(ctx, slices.Values([]string{bad})); !errors.Is(err, client.ErrInput) {
			t.Errorf("input %q: %v, want ErrInput", bad, err)
		}
	}
	broken := errors.New("broken")
	if err := job.AddInputsFrom(ctx, io.MultiReader(strings.NewReader("/a\n"), errorReader{broken})); !errors.Is(err, broken) {
		t.Errorf("inputs from a broken reader: %v", err)
	}
	s.must(job.EndInput(ctx))
	s.must(job.EndInput(ctx))
	asked := atomic.Bool{}
	err = job.AddInputs(ctx, func(func(string) bool) { asked.Store(true) })
	if !errors.Is(err, client.ErrJobState) || asked.Load() {
		t.Errorf("input after its end: %v (sequence was run: %v), want ErrJobState", err, asked.Load())
	}
	if st, err := job.Status(ctx); err != nil || !st.InputDone {
		t.Errorf("Status() = %+v, %v", st, err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// Input arrives while its source pauses, and a source that waits does not hold up the end of a request.
func TestJob_slowInput(t *testing.T) {
	s := newJobStore(t)
	job, err := s.Job().Map("wc").Create(t.Context())
	s.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source := make(chan string)
	told := make(chan bool, 1)
	added := make(chan error, 1)
	go func() {
		added <- job.AddInputs(ctx, func(yield func(string) bool) {
			for path := range source {
				if !yield(path) {
					told <- true
					return
				}
			}
		})
	}()
	for i := range 3 {
		source <- fmt.Sprint("/alice/stor/", i)
		for len(collect(t, job.Inputs(t.Context()))) != i+1 {
		}
	}
	cancel()
	if err := <-added; !errors.Is(err, context.Canceled) {
		t.Errorf("AddInputs = %v, want Canceled", err)
	}
	source <- "/alice/stor/late"
	<-told
}

func TestJob_runIsUndone(t *testing.T) {
	s := newJobStore(t)
	_, err := s.Job().Map("wc").Run(t.Context(), slices.Values([]string{"/alice/stor/a", "b\n"}))
	if !errors.Is(err, client.ErrInput) {
		t.Fatalf("Run = %v, want ErrInput", err)
	}
	all := collect(t, s.ListJobs(t.Context(), &client.ListJobsInput{}))
	if len(all) != 1 {
		t.Fatalf("%d jobs", len(all))
	}
	if st, err := s.OpenJob(all[0].ID).Status(t.Context()); err != nil || !st.Cancelled {
		t.Errorf("the job that got no input is %+v, %v; want it cancelled", st, err)
	}
}

func TestJob_lists(t *testing.T) {
	s := newJobStore(t)
	ctx := t.Context()
	job, err := s.Job().Map("wc").Run(ctx, slices.Values([]string{"/alice/stor/a"}))
	s.must(err)
	outputs := lines(250, "/alice/stor/out %d")
	failure := jobs.Failure{Phase: 1, Code: jobs.CodeUserTask, Message: "user command exited with code 1", Input: "/alice/stor/b", Origin: "/alice/stor/a",
		Task: "4711", Server: "1.stor", Machine: "z", Stderr: "/alice/jobs/err"}
	c := s.claim(job.ID)
	s.must(c.Commit(ctx, &jobs.Commit{Outputs: outputs, Errors: []jobs.Failure{failure}}))

	if diff := cmp.Diff(outputs[150:], collect(t, job.Outputs(ctx))); diff != "" {
		t.Errorf("live outputs (-want +got):\n%s", diff)
	}
	want := &client.JobError{Phase: 1, What: `phase 1: input "/alice/stor/b" (from job input "/alice/stor/a")`, Code: "UserTaskError", Message: "user command exited with code 1",
		Input: "/alice/stor/b", Origin: "/alice/stor/a", Stderr: "/alice/jobs/err"}
	if diff := cmp.Diff([]*client.JobError{want}, collect(t, job.Errors(ctx))); diff != "" {
		t.Errorf("live errors (-want +got):\n%s", diff)
	}
	if got := collect(t, job.Failures(ctx)); !slices.Equal(got, []string{"/alice/stor/a"}) {
		t.Errorf("live failures %q", got)
	}

	line, err := jobs.Encode(failure.ArchiveLine())
	s.must(err)
	s.archive(c, map[string]string{"in": "/alice/stor/a\n", "out": strings.Join(outputs, "\n") + "\n", "err": string(line) + "\n", "fail": "/alice/stor/a\n"})
	for _, records := range []bool{true, false} {
		if !records {
			s.must(s.records.Delete(ctx, job.ID))
		}
		if diff := cmp.Diff(outputs, collect(t, job.Outputs(ctx))); diff != "" {
			t.Errorf("archived outputs (-want +got):\n%s", diff)
		}
		want.Task, want.Server, want.Machine = "4711", "1.stor", "z"
		if diff := cmp.Diff([]*client.JobError{want}, collect(t, job.Errors(ctx))); diff != "" {
			t.Errorf("archived errors (-want +got):\n%s", diff)
		}
		b, err := json.Marshal(want)
		s.must(err)
		again := new(client.JobError)
		s.must(json.Unmarshal(b, again))
		if diff := cmp.Diff(want, again); diff != "" {
			t.Errorf("%s (-want +got):\n%s", b, diff)
		}
		if in, fail := collect(t, job.Inputs(ctx)), collect(t, job.Failures(ctx)); len(in) != 1 || len(fail) != 1 {
			t.Errorf("archived inputs %q, failures %q", in, fail)
		}
		if st, err := job.WaitArchived(ctx, client.WaitOptions{}); err != nil || st.State != client.JobDone || st.TimeArchiveDone.IsZero() {
			t.Errorf("WaitArchived = %+v, %v", st, err)
		}
		if err := job.Cancel(ctx); !errors.Is(err, client.ErrJobState) && !errors.Is(err, client.ErrNotFound) {
			t.Errorf("Cancel of a job that is done: %v", err)
		}
	}
	for range job.Outputs(ctx) { // ends early
		break
	}
}

func TestJob_wait(t *testing.T) {
	s := newJobStore(t)
	ctx := t.Context()
	job, err := s.Job().Map("wc").Create(ctx)
	s.must(err)
	if _, err := job.Wait(ctx, client.WaitOptions{MaxWait: 30 * time.Millisecond, MinDelay: time.Millisecond}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a job that goes on: %v", err)
	}
	s.must(job.Cancel(ctx))
	go func() {
		c := s.claim(job.ID)
		_, err := c.Update(ctx, func(j *jobs.Job) error { j.State, j.TimeDone = jobs.Done, time.Now(); return nil })
		s.must(err)
	}()
	st, err := job.Wait(ctx, client.WaitOptions{MinDelay: time.Millisecond})
	if err != nil || st.State != client.JobDone || !st.Cancelled || st.TimeDone.IsZero() {
		t.Errorf("Wait = %+v, %v", st, err)
	}
}

// Each output is yielded once, whatever the server shows of it when, and also when one object is an output many times.
func TestJob_followOutputs(t *testing.T) {
	s := newJobStore(t)
	ctx := t.Context()
	job, err := s.Job().Map("wc").Create(ctx)
	s.must(err)
	var all []string
	seen := make(chan string, 10_000)
	followed := make(chan []string)
	go func() {
		var got []string
		for path, err := range job.FollowOutputs(ctx, client.WaitOptions{MinDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond}) {
			if err != nil {
				t.Error(err)
				break
			}
			got = append(got, path)
			seen <- path
		}
		followed <- got
	}()
	c := s.claim(job.ID)
	for i := range 60 {
		var some []string
		for k := range (i * 7) % 150 { // more than the server shows, now and then
			some = append(some, fmt.Sprint("/alice/stor/", i*(k%5)))
		}
		all = append(all, some...)
		s.must(c.Commit(ctx, &jobs.Commit{Outputs: some}))
		if i == 1 {
			<-seen // while the job runs
		}
	}
	s.archive(c, map[string]string{"out": strings.Join(all, "\n") + "\n"})
	got := <-followed
	slices.Sort(all)
	slices.Sort(got)
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}

	canceled, cancel := context.WithCancel(ctx)
	defer cancel()
	open, err := s.Job().Map("wc").Create(ctx)
	s.must(err)
	s.must(s.claim(open.ID).Commit(ctx, &jobs.Commit{Outputs: []string{"/a"}}))
	var last error
	for path, err := range open.FollowOutputs(canceled, client.WaitOptions{}) {
		if last = err; path == "/a" {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("FollowOutputs ended with %v, want Canceled", last)
	}
}

func TestListJobs(t *testing.T) {
	s := newJobStore(t)
	ctx := t.Context()
	var ids []string
	for _, name := range []string{"a", "b", "a"} {
		job, err := s.Job().Name(name).Map("wc").Create(ctx)
		s.must(err)
		ids = append(ids, job.ID)
	}
	s.claim(ids[1])
	done := s.claim(ids[2])
	s.archive(done, nil)
	s.must(s.records.Delete(ctx, ids[2]))
	for _, tt := range []struct {
		in   client.ListJobsInput
		want []string
	}{
		{client.ListJobsInput{}, ids}, {client.ListJobsInput{Live: true}, ids[:2]}, {client.ListJobsInput{Running: true}, ids[1:2]}, {client.ListJobsInput{Name: "a"}, ids[:1]},
	} {
		var got []string
		for _, e := range collect(t, s.ListJobs(ctx, &tt.in)) {
			if e.Created.IsZero() {
				t.Errorf("%s has no time", e.ID)
			}
			got = append(got, e.ID)
		}
		want := slices.Sorted(slices.Values(tt.want))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("ListJobs(%+v) = %q, want %q", tt.in, got, want)
		}
	}
	if n := len(collect(t, s.ListJobs(ctx, &client.ListJobsInput{Live: true, Limit: 1}))); n != 1 {
		t.Errorf("a limit of 1 gave %d", n)
	}
	for range s.ListJobs(ctx, &client.ListJobsInput{}) { // ends early
		break
	}
	for _, err := range s.ListJobs(ctx, &client.ListJobsInput{Name: "a b"}) {
		if err == nil {
			t.Error("a name that cannot be asked for was taken")
		}
	}
}

// What a server says is not believed blindly.
func TestJob_oddAnswers(t *testing.T) {
	answer := ""
	location := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			w.Header().Set("Location", location)
			w.WriteHeader(201)
			return
		}
		if strings.HasSuffix(r.URL.Path, ".txt") {
			w.WriteHeader(404)
			return
		}
		io.WriteString(w, answer)
	}))
	defer srv.Close()
	c, err := client.New(client.Options{Endpoint: srv.URL, Account: "alice", MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	for _, location = range []string{"", "/alice/jobs/", "/alice/jobs/1/live", "/x"} {
		if job, err := c.Job().Map("x").Create(t.Context()); err == nil {
			t.Errorf("location %q made job %q", location, job.ID)
		}
	}
	for _, answer = range []string{"{", `{"phase":"x"}`, `{"phase":"1"}` + "\nnone", "[]", strings.Repeat("x", 2<<20)} {
		var last error
		for _, err := range c.OpenJob("1").Errors(t.Context()) {
			last = err
		}
		if last == nil {
			t.Errorf("errors %.20q were taken", answer)
		}
		if _, err := c.OpenJob("1").Status(t.Context()); err == nil && !strings.HasPrefix(answer, `{"phase"`) {
			t.Errorf("status %.20q was taken", answer)
		}
	}
	answer = "\n" + `{"phase":2,"code":"X","what":"w","message":"m"}` + "\n"
	for e, err := range c.OpenJob("1").Errors(t.Context()) {
		if err != nil || e.Phase != 2 || e.Error() != "w: X: m" {
			t.Errorf("error %+v, %v", e, err)
		}
	}
}
