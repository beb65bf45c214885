package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/client"
)

// A world is a coal that runs tasks, for a test.
type world struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	url string
}

func newWorld(t *testing.T, zones int) *world {
	t.Helper()
	testenv.NeedRoot(t)
	w := &world{t: t, dir: t.TempDir()}
	coal := func(args ...string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], append(args, "-dir", w.dir)...)
		cmd.Args[0] = "coal"
		cmd.Env = append(os.Environ(), "MOBULA_TEST_COAL=1")
		return cmd
	}
	w.cmd = coal("up", "-manta", "127.0.0.1:0", "-admin", "", "-zones", fmt.Sprint(zones))
	var stderr bytes.Buffer
	w.cmd.Stderr = &stderr
	stdout, err := w.cmd.StdoutPipe()
	w.must(err)
	w.must(w.cmd.Start())
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
		if out, err := coal("destroy").CombinedOutput(); err != nil {
			t.Errorf("coal destroy: %v\n%s", err, out)
		}
		if t.Failed() {
			t.Logf("coal said:\n%s", stderr.String())
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasPrefix(line, "coal: ready") {
		t.Fatalf("coal did not start: %q, %v\n%s", line, err, stderr.String())
	}
	d, err := readDoors(w.dir)
	w.must(err)
	w.url = d.Manta
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// account makes an account with a key of its own and returns its client.
func (w *world) account(login string) *client.Client {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	signer, err := client.NewSigner(key)
	w.must(err)
	public, err := ssh.NewPublicKey(key.Public())
	w.must(err)
	file := filepath.Join(w.t.TempDir(), login+".pub")
	w.must(os.WriteFile(file, ssh.MarshalAuthorizedKey(public), 0o600))
	cmd := exec.Command(os.Args[0], "account", "create", login, "-key", file, "-dir", w.dir)
	cmd.Args[0], cmd.Env = "coal", append(os.Environ(), "MOBULA_TEST_COAL=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("account create: %v\n%s", err, out)
	}
	m, err := client.New(client.Options{Endpoint: w.url, Account: login, Signer: signer})
	w.must(err)
	w.t.Cleanup(m.CloseIdleConnections)
	return m
}

// memory is the most that coal ever had, in MiB.
func (w *world) memory() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	w.must(err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kb int
	_, err = fmt.Sscan(rest, &kb)
	w.must(err)
	return kb >> 10
}

func (w *world) put(m *client.Client, login string, n int) (paths []string) {
	w.t.Helper()
	g, ctx := errgroup.WithContext(w.t.Context())
	g.SetLimit(16)
	for i := range n {
		name := fmt.Sprintf("/%s/stor/in-%06d", login, i)
		paths = append(paths, name)
		g.Go(func() error {
			_, err := m.PutObject(ctx, &client.PutObjectInput{Path: name, Body: strings.NewReader(fmt.Sprintln("line", i))})
			return err
		})
	}
	w.must(g.Wait())
	return paths
}

// output is the content of a job's only output.
func (w *world) output(m *client.Client, j *client.Job) string {
	w.t.Helper()
	var content []byte
	n := 0
	for path, err := range j.Outputs(w.t.Context()) {
		w.must(err)
		out, err := m.GetObject(w.t.Context(), &client.GetObjectInput{Path: path})
		w.must(err)
		content, err = io.ReadAll(out.Body)
		w.must(err)
		out.Body.Close()
		n++
	}
	if n != 1 {
		w.t.Fatalf("%d outputs, want 1", n)
	}
	return string(content)
}

// TestManyOwners has many jobs of many owners at once: when the first owner has everything, nobody has been left behind.
func TestManyOwners(t *testing.T) {
	owners, each, inputs, exec := 4, 1, 60, "sleep 0.1; wc -l"
	if testenv.Long() { // longer than the turn of a group that others wait for
		owners, each, inputs, exec = 20, 5, 40, "sleep 0.25; wc -l"
	}
	w := newWorld(t, 8)
	jobs := make([][]*client.Job, owners)
	var add []func() error
	for o := range owners {
		login := fmt.Sprint("owner", o)
		m := w.account(login)
		paths := w.put(m, login, inputs)
		for range each {
			j, err := m.Job().Map(exec).Create(t.Context())
			w.must(err)
			jobs[o] = append(jobs[o], j)
			add = append(add, func() error {
				if err := j.AddInputs(context.Background(), slices.Values(paths)); err != nil {
					return err
				}
				return j.EndInput(context.Background())
			})
		}
	}
	began := time.Now()
	var g errgroup.Group
	for _, f := range add {
		g.Go(f)
	}
	w.must(g.Wait())
	for first := true; ; time.Sleep(20 * time.Millisecond) {
		done := make([]int, owners)
		for o := range jobs {
			for _, j := range jobs[o] { // outputs count at once, figures by and by
				for _, err := range j.Outputs(t.Context()) {
					w.must(err)
					done[o]++
				}
			}
		}
		most, least := slices.Max(done), slices.Min(done)
		if most == each*inputs && first {
			first = false
			t.Logf("when the first owner had all %d tasks, the last one had %d", most, least)
			if least < most/4 {
				t.Errorf("tasks done by owner: %d", done)
			}
		}
		if least == each*inputs {
			break
		}
	}
	for _, j := range slices.Concat(jobs...) {
		s, err := j.Wait(t.Context(), client.WaitOptions{})
		w.must(err)
		if s.Stats.Errors > 0 || s.Stats.Retries > 0 {
			t.Errorf("job %s: %+v", j.Path(), s.Stats)
		}
	}
	t.Logf("%d jobs of %d owners, %d tasks: %v, at most %d MiB", owners*each, owners, owners*each*inputs, time.Since(began).Round(time.Millisecond), w.memory())
}

// TestManyInputs has one reducer read many objects, and one job map as many.
func TestManyInputs(t *testing.T) {
	n := 300
	if testenv.Long() {
		n = 10_000
	}
	w := newWorld(t, 4)
	m := w.account("alice")
	paths := w.put(m, "alice", n)
	for name, job := range map[string]*client.JobBuilder{
		"reduce":       m.Job().Reduce("wc -l"),
		"map, reduce":  m.Job().Map("wc -l").Reduce("awk '{ n += $1 } END { print n }'"),
		"mcat, reduce": m.Job().Map("mcat $MANTA_INPUT_OBJECT").Reduce("wc -l"),
	} {
		began := time.Now()
		j, err := job.Run(t.Context(), slices.Values(paths))
		w.must(err)
		s, err := j.Wait(t.Context(), client.WaitOptions{})
		w.must(err)
		if s.Stats.Errors > 0 || s.Stats.Retries > 0 {
			t.Errorf("%s: %+v", name, s.Stats)
		}
		if got := strings.TrimSpace(w.output(m, j)); got != fmt.Sprint(n) {
			t.Errorf("%s counted %s, want %d", name, got, n)
		}
		t.Logf("%s of %d objects: %v", name, n, time.Since(began).Round(time.Millisecond))
	}
	mib := w.memory()
	t.Logf("at most %d MiB", mib)
	if !raceEnabled && mib > 400 {
		t.Errorf("coal had %d MiB", mib)
	}
}
