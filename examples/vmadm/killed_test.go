//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// shell runs vmadm as a person does: the program, with a directory.
type shell struct {
	t   *testing.T
	dir string
}

func (s shell) command(stdin string, args ...string) *exec.Cmd {
	c := exec.Command("vmadm", append([]string{"-dir", s.dir}, args...)...)
	c.Stdin = strings.NewReader(stdin)
	c.WaitDelay = 100 * time.Millisecond // zones and the agent may keep its output open
	return c
}

// must runs it to its end.
func (s shell) must(stdin string, args ...string) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	c := s.command(stdin, args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		s.t.Fatalf("vmadm %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// kill runs it and kills it, and its agent now and then, after a time. It may have ended by then.
func (s shell) kill(after time.Duration, agent bool, stdin string, args ...string) {
	s.t.Helper()
	c := s.command(stdin, args...)
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() {
		_ = c.Process.Kill()
		if agent {
			for _, pid := range s.agents() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	_ = c.Wait()
	timer.Stop()
}

// agents are the processes that look after this directory's zones.
func (s shell) agents() []int {
	var out []int
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		b, _ := os.ReadFile(f)
		if string(b) == "vmadm\x00-dir\x00"+s.dir+"\x00agent\x00" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			out = append(out, pid)
		}
	}
	return out
}

// The program is killed in the middle of its verbs, 200 times with MOBULA_LONG=1. What comes after it finds a zone that is running or stopped, or
// none, and can go on with it; another zone runs on; and in the end nothing is left.
func TestKilled(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "btrfs", "mkfs.btrfs")
	rounds := 6
	if testenv.Long() {
		rounds = 200
	}
	dir, err := os.MkdirTemp("", "vmadm")
	if err != nil {
		t.Fatal(err)
	}
	s := shell{t, dir}
	t.Cleanup(func() {
		s.must("", "destroy")
		os.RemoveAll(dir)
		if b, _ := os.ReadFile("/proc/thread-self/mountinfo"); strings.Contains(string(b), filepath.Base(dir)) {
			t.Errorf("a mount below %s is left", dir)
		}
		for deadline := time.Now().Add(10 * time.Second); len(s.agents()) > 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("agents %v are left", s.agents())
				break
			}
		}
	})
	payload := func(id string, n int) string {
		return fmt.Sprintf(`{"brand": "joyent", "image_uuid": "sparse", "uuid": %q, "max_physical_memory": 64, "quota": 1,
			"nics": [{"nic_tag": "external", "ip": "10.97.0.%d", "netmask": "255.255.255.0"}]}`, id, n)
	}
	const other, id = "cdcdcdcd-0000-4000-8000-000000000001", "cdcdcdcd-0000-4000-8000-000000000002"
	s.must(payload(other, 5), "create")
	get := func(id string) (z zones.Zone) {
		t.Helper()
		if err := json.Unmarshal([]byte(s.must("", "get", id)), &z); err != nil {
			t.Fatal(err)
		}
		return z
	}
	pid := get(other).PID
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	verbs := [][]string{
		{"create"}, {"create"}, {"start", id}, {"stop", "-t", "1", id}, {"reboot", "-F", id}, {"delete", id}, {"update", id, "max_physical_memory=96"},
		{"create-snapshot", id, "s"}, {"rollback-snapshot", id, "s"}, {"delete-snapshot", id, "s"}, {"reprovision", id}, {"exec", id, "sleep", "1"}, {"kill", id},
		{"list"},
	}
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		verb := verbs[r.IntN(len(verbs))]
		there := strings.Contains(s.must("", "list", "-H", "-o", "uuid"), id)
		if !there {
			verb = verbs[0]
		}
		stdin := ""
		switch verb[0] {
		case "create":
			stdin = payload(id, 6)
		case "reprovision":
			stdin = `{"image_uuid": "sparse"}`
		}
		after := time.Duration(r.IntN(250)) * time.Millisecond
		s.kill(after, r.IntN(4) == 0, stdin, verb...)

		round := fmt.Sprintf("round %d, %s killed after %v", round, verb[0], after)
		if z := get(other); z.PID != pid || z.State != zones.StateRunning {
			t.Errorf("%s: the other zone is %s, process %d, was %d", round, z.State, z.PID, pid)
		}
		if strings.Contains(s.must("", "list", "-H", "-o", "uuid"), id) {
			// Any verb settles what was under way; this one changes nothing.
			if err := s.command("", "update", id, "alias=x").Run(); err == nil {
				z := get(id)
				if z.State != zones.StateRunning && z.State != zones.StateStopped || z.Alias != "x" {
					t.Errorf("%s: the zone is %s, alias %q", round, z.State, z.Alias)
				}
				// One that was told to end when vmadm died goes on ending.
				if z.State == zones.StateRunning && verb[0] != "kill" && verb[0] != "stop" {
					if out := s.must("", "exec", id, "echo", "alive"); out != "alive\n" {
						t.Errorf("%s: it prints %q", round, out)
					}
				}
			} else if strings.Contains(s.must("", "list", "-H", "-o", "uuid"), id) {
				t.Errorf("%s: the zone is there and cannot be updated: %v", round, err)
			}
		}
		if t.Failed() {
			return
		}
	}
}
