package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/manta/client"
)

// TestCrash kills a coal at random moments under load, again and again, and checks after each start that every acknowledged change is there
// and every other one is wholly there or not at all. MOBULA_LONG=1 makes it 200 times.
func TestCrash(t *testing.T) {
	kills := 8
	if testenv.Long() {
		kills = 200
	}
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	c := &crasher{t: t, dir: filepath.Join(t.TempDir(), "coal"), objects: map[string]*versions{}}
	for range kills {
		c.up()
		c.check()
		ctx, cancel := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for w := range 6 {
			load.Go(func() { c.write(ctx, w) })
		}
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // the moment is the test's input
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		cancel()
		load.Wait()
	}
	c.up()
	c.check()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	acked := 0
	for _, v := range c.objects {
		if v.acked != nil {
			acked++
		}
	}
	t.Logf("%d names, %d with an acknowledged state at the end, %d changes acknowledged in all", len(c.objects), acked, c.acks)
}

// versions is what a name may hold: the last acknowledged content (nil: nothing), or one of those that were sent since without an answer.
type versions struct {
	acked   []byte
	pending [][]byte // nil stands for a deletion
}

type crasher struct {
	t       *testing.T
	dir     string
	cmd     *exec.Cmd
	m       *client.Client
	mu      sync.Mutex
	objects map[string]*versions
	acks    int
}

func (c *crasher) up() {
	c.t.Helper()
	c.cmd = exec.Command(os.Args[0], "up", "-dir", c.dir, "-manta", "127.0.0.1:0", "-admin", "", "-zones", "0")
	c.cmd.Args[0] = "coal"
	c.cmd.Env = append(os.Environ(), "MOBULA_TEST_COAL=1")
	var stderr bytes.Buffer
	c.cmd.Stderr = &stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	began := time.Now()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "coal: ready") {
		_ = c.cmd.Wait()
		c.t.Fatalf("coal did not start: %q, %v\n%s", line, err, stderr.String())
	}
	c.t.Logf("up in %v", time.Since(began).Round(time.Millisecond))
	d, err := readDoors(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(c.dir, "keys", "demo"))
	if err != nil {
		c.t.Fatal(err)
	}
	signer, err := client.ParseKey(key, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.m, err = client.New(client.Options{Endpoint: d.Manta, Account: demoLogin, Signer: signer, MaxRetries: -1}); err != nil {
		c.t.Fatal(err)
	}
}

// write puts, overwrites and deletes names of its own until ctx ends.
func (c *crasher) write(ctx context.Context, w int) {
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("~~/stor/w%d-%d", w, mathrand.IntN(60))
		var content []byte // nil deletes
		if mathrand.IntN(5) > 0 {
			content = make([]byte, []int{1, 300, 5_000, 70_000, 300_000, 1_500_000}[mathrand.IntN(6)])
			_, _ = rand.Read(content)
		}
		c.mu.Lock()
		v := c.objects[name]
		if v == nil {
			v = &versions{}
			c.objects[name] = v
		}
		v.pending = append(v.pending, content)
		c.mu.Unlock()
		var err error
		if content == nil {
			err = c.m.DeleteObject(ctx, &client.DeleteObjectInput{Path: name})
			if errors.Is(err, client.ErrNotFound) {
				err = nil
			}
		} else {
			_, err = c.m.PutObject(ctx, &client.PutObjectInput{Path: name, Body: bytes.NewReader(content)})
		}
		if err != nil {
			return // the process is gone, most likely
		}
		c.mu.Lock()
		v.acked, v.pending = content, nil
		c.acks++
		c.mu.Unlock()
	}
}

// check reads every name and settles what it holds.
func (c *crasher) check() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	for name, v := range c.objects {
		got, err := fetch(ctx, c.m, name)
		switch {
		case errors.Is(err, client.ErrNotFound):
			got = nil
		case err != nil:
			c.t.Fatalf("GET %s: %v", name, err)
		}
		ok := same(got, v.acked)
		for _, p := range v.pending {
			ok = ok || same(got, p)
		}
		if !ok {
			c.t.Fatalf("%s holds %d bytes (nothing: %v), which is neither the acknowledged content of %d bytes (nothing: %v) nor one of %d sent since",
				name, len(got), got == nil, len(v.acked), v.acked == nil, len(v.pending))
		}
		v.acked, v.pending = got, nil
	}
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func fetch(ctx context.Context, m *client.Client, name string) ([]byte, error) {
	out, err := m.GetObject(ctx, &client.GetObjectInput{Path: name})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if b == nil {
		b = []byte{}
	}
	return b, err
}
