package jobapi

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/jobs"
)

// TestMjob has the unmodified client of npm's manta package make jobs and look at them. What a supervisor would do is done by hand.
func TestMjob(t *testing.T) {
	mjob := testenv.NeedTool(t, "manta-clients", "mjob")
	w := newWorld(t)
	env := w.clientEnv()
	run := func(stdin string, args ...string) (out string, ok bool) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), mjob, args...)
		cmd.Env, cmd.Stdin = env, strings.NewReader(stdin)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		b, err := cmd.Output()
		if err != nil {
			return stderr.String(), false
		}
		return strings.TrimSpace(string(b)), true
	}
	want := func(want string, stdin string, args ...string) {
		t.Helper()
		if out, ok := run(stdin, args...); !ok || out != want {
			t.Errorf("mjob %q: %v %.500q, want %q", args, ok, out, want)
		}
	}
	id, ok := run("", "create", "--open", "-n", "lines", "--memory", "256", "-m", "wc -l", "-r", "awk '{s+=$1}END{print s}'")
	if !ok || len(id) != 36 {
		t.Fatalf("mjob create: %s", id)
	}
	c := w.claim(id)
	w.must(c.Commit(t.Context(), &jobs.Commit{
		Outputs: []string{"/alice/jobs/o1", "/alice/jobs/o2"},
		Errors:  []jobs.Failure{{Code: jobs.CodeResourceNotFound, Message: `no such object: "/alice/stor/3"`, Input: "/alice/stor/3"}},
	}))
	var in strings.Builder
	for i := range 2500 { // three requests, at the same time
		fmt.Fprintf(&in, "/alice/stor/%d\n", i)
	}
	want("", in.String(), "addinputs", id)
	together(
		func() {
			if out, _ := run("", "inputs", id); strings.Count(out, "\n") != 99 || !strings.HasPrefix(out, "/alice/stor/") {
				t.Errorf("mjob inputs: %.500q", out)
			}
		},
		func() {
			text, _ := run("", "get", id)
			var s jobs.Status
			if err := json.Unmarshal([]byte(text), &s); err != nil || s.ID != id || s.Name != "lines" || s.State != jobs.Running || !s.InputDone || len(s.Phases) != 2 || s.Phases[0].Memory != 256 {
				t.Errorf("mjob get: %s, %v", text, err)
			}
		},
		func() { want(id+"/", "", "list", "-s", "running", "-n", "lines") },
		func() { want(id+"/", "", "list") },
		func() {
			if out, ok := run("/alice/stor/late\n", "addinputs", id); ok || !strings.Contains(out, "is in state 'inputDone'") {
				t.Errorf("input after the end: %v %s", ok, out)
			}
		},
		func() { want("/alice/jobs/o1\n/alice/jobs/o2", "", "outputs", id) },
		func() { want("/alice/stor/3", "", "failures", id) },
		func() {
			want(`{"phase":"0","what":"phase 0: input \"/alice/stor/3\"","code":"ResourceNotFoundError","message":"no such object: \"/alice/stor/3\"","input":"/alice/stor/3"}`, "", "errors", id)
		},
		func() {
			if out, ok := run("", "create", "--memory", "100", "-m", "x"); ok || !strings.Contains(out, "phases[0].memory") {
				t.Errorf("mjob create with a bad size: %v %s", ok, out)
			}
		},
	)
	n := 0
	for in, err := range w.records.Inputs(t.Context(), id, 0) {
		w.must(err)
		n += len(in.Paths)
	}
	if n != 2500 {
		t.Errorf("%d inputs", n)
	}
	want("", "", "cancel", id)
	_, err := c.Update(t.Context(), done)
	w.must(err)
	// When the records are gone the client reads the archive.
	w.must(w.records.Delete(t.Context(), id))
	w.want(204, "", "alice", "PUT", "/alice/jobs/"+id+"/out.txt", "/alice/archived\n")
	want("/alice/archived", "", "outputs", id)
}

// together runs functions at the same time.
func together(fns ...func()) {
	var group sync.WaitGroup
	for _, fn := range fns {
		group.Go(fn)
	}
	group.Wait()
}

// clientEnv gives alice a key in the form that npm's clients read, and returns their environment.
func (w *world) clientEnv() []string {
	w.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	public, err := ssh.NewPublicKey(&key.PublicKey)
	w.must(err)
	home := w.t.TempDir()
	w.must(os.Mkdir(filepath.Join(home, ".ssh"), 0o700))
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	w.must(os.WriteFile(filepath.Join(home, ".ssh", "id_rsa"), private, 0o600))
	w.must(os.WriteFile(filepath.Join(home, ".ssh", "id_rsa.pub"), ssh.MarshalAuthorizedKey(public), 0o600))
	_, err = w.dir.AddKey(w.t.Context(), w.uuids["alice"], "", string(ssh.MarshalAuthorizedKey(public)))
	w.must(err)
	w.follow()
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "MANTA_URL=" + w.URL, "MANTA_USER=alice", "MANTA_KEY_ID=" + ssh.FingerprintLegacyMD5(public)}
}
