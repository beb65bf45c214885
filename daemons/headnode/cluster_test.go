package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mobulacloud/mobula/manta/client"
)

// A cluster is a head node and storage nodes as processes of their own, joined by tokens over mutual TLS.
type cluster struct {
	t         *testing.T
	dir       string
	bin       string
	head      *process
	nodes     map[string]*process
	url       string
	nodesAddr string
	signer    *client.Signer
	zones     int // for tasks of jobs, on each storage node
}

// A process is a daemon that a test has started.
type process struct {
	cmd    *exec.Cmd
	ready  string // the line it said when it was ready
	stderr bytes.Buffer
	done   chan struct{}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// start runs a daemon until the test ends and waits for its line "…: ready".
func (c *cluster) start(name string, args ...string) *process {
	c.t.Helper()
	p := &process{cmd: exec.Command(filepath.Join(c.bin, name), args...), done: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if strings.Contains(lines.Text(), ": ready") {
				ready <- lines.Text()
			}
		}
		_ = p.cmd.Wait()
	}()
	c.t.Cleanup(func() {
		p.kill()
		if c.t.Failed() {
			b := p.stderr.Bytes()
			c.t.Logf("%s said:\n%s", name, b[max(0, len(b)-400000):])
		}
	})
	select {
	case p.ready = <-ready:
	case <-p.done:
		c.t.Fatalf("%s ended before it was ready:\n%s", name, p.stderr.String())
	case <-time.After(time.Minute):
		c.t.Fatalf("%s is not ready after a minute", name)
	}
	return p
}

// run runs a command of a daemon to its end and returns what it printed.
func (c *cluster) run(stdin, name string, args ...string) string {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		msg := ""
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			msg = string(e.Stderr)
		}
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, msg)
	}
	return string(out)
}

func newCluster(t *testing.T, nodes int) *cluster { return newComputingCluster(t, nodes, 0) }

// newComputingCluster returns a cluster whose storage nodes run tasks, so many at a time.
func newComputingCluster(t *testing.T, nodes, zones int) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), bin: t.TempDir(), nodes: map[string]*process{}, zones: zones}
	for _, name := range []string{"headnode", "storagenode"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(c.bin, name), "../"+name).CombinedOutput()
		if err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	c.nodesAddr = freeAddr(t)
	c.startHead()
	for i := range nodes {
		c.join(fmt.Sprintf("%d.stor.test", i+1))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.signer, err = client.NewSigner(key); err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.dir, "alice.pub")
	if err := os.WriteFile(file, ssh.MarshalAuthorizedKey(public), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run("", "headnode", "account", "create", "alice", "-key", file, "-dir", c.headDir())
	return c
}

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (c *cluster) headDir() string { return filepath.Join(c.dir, "head") }

func (c *cluster) startHead() {
	c.t.Helper()
	cfg := defaults()
	cfg.Dir, cfg.LogLevel = c.headDir(), "warn"
	cfg.Manta, cfg.Nodes, cfg.Admin = Door{Listen: "127.0.0.1:0"}, Door{Listen: c.nodesAddr}, Door{Listen: "127.0.0.1:0"}
	cfg.Store.StreamingMB = 16
	b, err := json.Marshal(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.dir, "headnode.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.head = c.start("headnode", "up", "-config", file)
	c.url = "http://" + regexp.MustCompile(`manta ([^,]+)`).FindStringSubmatch(c.head.ready)[1]
}

func (c *cluster) nodeDir(node string) string { return filepath.Join(c.dir, node) }

func (c *cluster) join(node string) {
	c.t.Helper()
	token := c.run("", "headnode", "token", node, "-dir", c.headDir())
	c.run(token, "storagenode", "join", "-dir", c.nodeDir(node), "-head", c.nodesAddr)
	c.startNode(node)
	c.await(node+" is up", func() bool { return c.isUp(node) })
}

// isUp asks the head node whether a storage node answers it.
func (c *cluster) isUp(node string) bool {
	c.t.Helper()
	var nodes []struct {
		ID   string `json:"manta_storage_id"`
		Down string
	}
	list := c.run("", "headnode", "node", "list", "-dir", c.headDir())
	if err := json.Unmarshal([]byte(list), &nodes); err != nil {
		c.t.Fatalf("node list: %v\n%s", err, list)
	}
	for _, n := range nodes {
		if n.ID == node {
			return n.Down == ""
		}
	}
	return false
}

func (c *cluster) startNode(node string) {
	c.t.Helper()
	file := filepath.Join(c.dir, node+".json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"compute": {"off": %t, "zones": %d}}`, c.zones == 0, c.zones), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.nodes[node] = c.start("storagenode", "up", "-config", file, "-dir", c.nodeDir(node), "-listen", "127.0.0.1:0", "-admin", "off")
}

// await polls what no push from another process can tell.
func (c *cluster) await(what string, done func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("after a minute still not: %s", what)
		}
	}
}

func (c *cluster) client() *client.Client {
	c.t.Helper()
	m, err := client.New(client.Options{Endpoint: c.url, Account: "alice", Signer: c.signer, RetryWaitMin: 20 * time.Millisecond, RetryWaitMax: 200 * time.Millisecond})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(m.CloseIdleConnections)
	return m
}

// A writer keeps putting objects of many sizes and remembers what was acknowledged.
type writer struct {
	mu    sync.Mutex
	acked map[string][]byte
	fails atomic.Int64
}

func (w *writer) run(ctx context.Context, m *client.Client, id int) {
	for i := 0; ctx.Err() == nil; i++ {
		content := make([]byte, []int{0, 100, 5_000, 70_000, 300_000}[i%5])
		_, _ = rand.Read(content)
		name := fmt.Sprintf("~~/stor/w%d-%d", id, i)
		// Streams are not sent twice, so an acknowledgement is the server's first word on the object.
		_, err := m.PutObject(ctx, &client.PutObjectInput{Path: name, Body: struct{ io.Reader }{bytes.NewReader(content)}, Size: int64(len(content))})
		if err != nil {
			w.fails.Add(1)
			continue
		}
		w.mu.Lock()
		w.acked[name] = content
		w.mu.Unlock()
	}
}

func (w *writer) check(t *testing.T, m *client.Client) {
	t.Helper()
	for name, content := range w.acked {
		got, err := get(t.Context(), m, name)
		if err != nil {
			t.Errorf("acknowledged object %s: %v", name, err)
		} else if !bytes.Equal(got, content) {
			t.Errorf("acknowledged object %s has other content: %d bytes, want %d", name, len(got), len(content))
		}
	}
}

func get(ctx context.Context, m *client.Client, name string) ([]byte, error) {
	out, err := m.GetObject(ctx, &client.GetObjectInput{Path: name})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

func TestCluster_aNodeDiesUnderLoad(t *testing.T) {
	c := newCluster(t, 3)
	m := c.client()
	w := &writer{acked: map[string][]byte{}}
	ctx, cancel := context.WithCancel(t.Context())
	var loads sync.WaitGroup
	for id := range 4 {
		loads.Go(func() { w.run(ctx, m, id) })
	}
	acked := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.acked) }
	c.await("some objects are stored", func() bool { return acked() > 40 })

	const victim = "2.stor.test"
	c.nodes[victim].kill()
	before := acked()
	c.await("writes go on with the nodes that are left", func() bool { return acked() > before+80 })
	cancel()
	loads.Wait()
	t.Logf("%d objects acknowledged, %d puts refused", len(w.acked), w.fails.Load())
	w.check(t, m)

	// The node does not come back: every copy is made anew elsewhere, and the node can go.
	c.run("", "headnode", "node", "evacuate", victim, "-dir", c.headDir())
	c.run("", "headnode", "node", "remove", victim, "-dir", c.headDir())
	if list := c.run("", "headnode", "node", "list", "-dir", c.headDir()); strings.Contains(list, victim) {
		t.Errorf("%s is still listed:\n%s", victim, list)
	}
	// With either of the remaining nodes away, the other one has everything.
	for _, away := range []string{"1.stor.test", "3.stor.test"} {
		c.nodes[away].kill()
		w.check(t, m)
		c.startNode(away)
		c.await(away+" is back", func() bool { return c.isUp(away) })
	}
}

func TestCluster_everythingDiesUnderLoad(t *testing.T) {
	c := newCluster(t, 2)
	w := &writer{acked: map[string][]byte{}}
	for round := range 1 {
		m := c.client()
		ctx, cancel := context.WithCancel(t.Context())
		var loads sync.WaitGroup
		w.mu.Lock()
		before := len(w.acked)
		w.mu.Unlock()
		for id := range 4 {
			loads.Go(func() { w.run(ctx, m, round*10+id) })
		}
		c.await("some objects are stored", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.acked) > before+20 })
		for _, p := range []*process{c.nodes["1.stor.test"], c.head, c.nodes["2.stor.test"]} {
			p.kill()
		}
		cancel()
		loads.Wait()
		c.startHead()
		c.startNode("1.stor.test")
		c.startNode("2.stor.test")
		c.await("the store answers", func() bool {
			_, err := c.client().PutObject(t.Context(), &client.PutObjectInput{Path: "~~/stor/probe", Body: strings.NewReader("x")})
			return err == nil
		})
		w.check(t, c.client())
	}
	t.Logf("%d objects acknowledged and there", len(w.acked))
}

func TestJoin_refusesWhatIsNotAGoodToken(t *testing.T) {
	c := newCluster(t, 0)
	token := c.run("", "headnode", "token", "1.stor.test", "-dir", c.headDir())
	try := func(dir, token string) error {
		cmd := exec.Command(filepath.Join(c.bin, "storagenode"), "join", "-dir", filepath.Join(c.dir, dir), "-head", c.nodesAddr)
		cmd.Stdin = strings.NewReader(token)
		out, err := cmd.CombinedOutput()
		if err != nil {
			if strings.Count(string(out), "\n") != 1 || strings.Contains(string(out), strings.TrimSpace(token)) {
				t.Errorf("join said %q, want one line without the token", out)
			}
		}
		return err
	}
	if try("a", "nonsense") == nil || try("b", token[:len(token)-3]) == nil {
		t.Error("a damaged token let a node in")
	}
	if err := try("c", token); err != nil {
		t.Fatalf("join: %v", err)
	}
	if try("d", token) == nil {
		t.Error("a token let two nodes in")
	}
}
