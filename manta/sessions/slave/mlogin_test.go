package slave

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/jobs"
	"github.com/mobulacloud/mobula/sdc/ufds"
)

// TestMlogin has the unmodified client of npm's manta package on a terminal of its own. The job is run here, by hand.
func TestMlogin(t *testing.T) {
	mlogin := testenv.NeedTool(t, "manta-clients", "mlogin")
	w := newWorld(t)
	w.Put(w.alice, "/alice/stor/in", "input")

	// A key in the form that the client reads.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	public, err := ssh.NewPublicKey(&key.PublicKey)
	w.must(err)
	home := t.TempDir()
	w.must(os.Mkdir(filepath.Join(home, ".ssh"), 0o700))
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	w.must(os.WriteFile(filepath.Join(home, ".ssh", "id_rsa"), private, 0o600))
	w.must(os.WriteFile(filepath.Join(home, ".ssh", "id_rsa.pub"), ssh.MarshalAuthorizedKey(public), 0o600))
	accounts, err := ufds.New(ufds.Config{Store: w.Records})
	w.must(err)
	a, err := w.Identity.AccountByLogin("alice")
	w.must(err)
	_, err = accounts.AddKey(t.Context(), a.UUID, "", string(ssh.MarshalAuthorizedKey(public)))
	w.must(err)
	mark, err := accounts.Mark(t.Context())
	w.must(err)
	w.must(w.Identity.WaitMark(t.Context(), mark))

	cmd := exec.CommandContext(t.Context(), mlogin, "/alice/stor/in")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "MANTA_URL=" + w.URL, "MANTA_USER=alice", "MANTA_KEY_ID=" + ssh.FingerprintLegacyMD5(public), "TERM=xterm",
	}
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 90, Rows: 30})
	w.must(err)
	defer terminal.Close()
	shown := make(chan string)
	go func() {
		defer close(shown)
		buf := make([]byte, 4096)
		for {
			n, err := terminal.Read(buf)
			if n > 0 {
				shown <- string(buf[:n])
			}
			if err != nil { // EIO at the end
				return
			}
		}
	}()
	var screen strings.Builder
	timeout := time.After(60 * time.Second)
	at := 0 // of the screen, behind what was seen
	see := func(s string) {
		t.Helper()
		defer func() { at += strings.Index(screen.String()[at:], s) + len(s) }()
		for !strings.Contains(screen.String()[at:], s) {
			select {
			case more, ok := <-shown:
				if screen.WriteString(more); !ok {
					t.Fatalf("the client ends before %q: %q", s, screen.String())
				}
			case <-timeout:
				t.Fatalf("no %q: %q", s, screen.String())
			}
		}
	}
	typed := func(s string) {
		t.Helper()
		_, err := io.WriteString(terminal, s)
		w.must(err)
	}

	// What a supervisor and an agent would do: when the input has ended, fetch the assets and run the task.
	j := w.awaitJob()
	if len(j.Phases) != 1 || j.Phases[0].Exec != "/assets"+Object || len(j.Phases[0].Assets) != 2 || j.Phases[0].Assets[0] != Object {
		t.Fatalf("job %+v", j)
	}
	if got, err := w.records.RecentInputs(t.Context(), j.ID, 10); err != nil || len(got) != 1 || got[0] != "/alice/stor/in" {
		t.Errorf("inputs %q, %v", got, err)
	}
	config := j.Phases[0].Assets[1]
	w.asset(config, w.Get(w.alice, config))
	done := make(chan error, 1)
	go func() { done <- Run(t.Context(), w.config()) }()

	see("Your Manta Object is at: /manta/alice/stor/in")
	see("alice@manta # ")
	typed("stty size; echo $((6*7))-$TERM\r")
	see("30 90\r\r\n42-xterm")
	w.must(pty.Setsize(terminal, &pty.Winsize{Cols: 100, Rows: 40}))
	see("alice@manta # ")
	typed("while [ \"$(stty size)\" != '40 100' ]; do sleep 0.05; done; echo resi''zed\r")
	see("resized")
	typed("exit 5\r")
	see("remote process exited")
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	for more := range shown {
		screen.WriteString(more)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("mlogin: %v: %q", err, screen.String())
	}
	if w.Has(w.alice, config) {
		t.Error("the object with the signed address is left")
	}
}

// awaitJob waits for a job whose input has ended.
func (w *world) awaitJob() *jobs.Job {
	w.t.Helper()
	for e, err := range w.records.Watch(w.t.Context(), "") {
		w.must(err)
		if j, err := w.records.Get(w.t.Context(), e.Job); err == nil && j.InputDone() {
			return j
		}
	}
	return nil
}
