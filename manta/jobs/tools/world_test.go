package tools

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/manta/client"
	"github.com/mobulacloud/mobula/manta/internal/storetest"
	"github.com/mobulacloud/mobula/manta/jobs/agent/door"
)

// A zone is what programs of a task see: a door before a real store, and an environment.
type zone struct {
	t     testing.TB
	store *storetest.Store
	alice *client.Client
	door  *door.Door
	env   map[string]string

	mu      sync.Mutex
	emitted []door.Emitted
}

const outputBase = "/alice/jobs/1/stor/reduce.1."

func newZone(t testing.TB) *zone {
	t.Helper()
	z := &zone{t: t, store: storetest.New(t)}
	z.alice = z.store.Account("alice")
	var err error
	z.door, err = door.New(door.Config{Front: z.store.Transport(), FrontURL: z.store.URL, Login: "alice", Token: z.store.Token(z.alice)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go z.door.Serve(l) // ends with Close
	t.Cleanup(func() { z.door.Close() })
	z.door.Begin(door.Task{ID: "t", Emit: func(e door.Emitted) {
		z.mu.Lock()
		defer z.mu.Unlock()
		z.emitted = append(z.emitted, e)
	}})
	z.env = map[string]string{"MANTA_URL": "http://" + l.Addr().String() + "/", "MANTA_USER": "alice", "MANTA_NO_AUTH": "true", "MANTA_OUTPUT_BASE": outputBase, "TMPDIR": t.TempDir()}
	return z
}

func (z *zone) taken() []door.Emitted {
	z.mu.Lock()
	defer z.mu.Unlock()
	e := z.emitted
	z.emitted = nil
	return e
}

// A ran is what a program did.
type ran struct {
	Code     int
	Out, Err string
}

// run runs a program in the zone. Arguments are words; one in quotes may have spaces in it.
func (z *zone) run(stdin string, args ...string) ran {
	z.t.Helper()
	return runWith(z.t, z.env, stdin, args...)
}

func runWith(t testing.TB, env map[string]string, stdin string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := &process{name: args[0], args: args[1:], stdin: io.MultiReader(strings.NewReader(stdin)) /* a pipe, say */, stdout: &out, stderr: &errs, ctx: ctx, getenv: func(k string) string { return env[k] }}
	code := p.main()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	return ran{code, out.String(), errs.String()}
}

// want runs a program and compares all that it says; part is what its stderr has in it.
func (z *zone) want(code int, out, part string, stdin string, args ...string) {
	z.t.Helper()
	got := z.run(stdin, args...)
	if got.Code != code || got.Out != out || !strings.Contains(got.Err, part) || part == "" && got.Err != "" {
		z.t.Errorf("%q = %d\nstdout: %swant:   %sstderr: %s want %d %s", args, got.Code, got.Out, out, got.Err, code, part)
	}
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(setting{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
