//go:build linux

package kvm

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// crashVar makes the test binary the process that is killed.
const crashVar = "MOBULA_KVM_CRASH"

// crashInput is what the parent tells it.
type crashInput struct {
	Machine zones.Machine
	Kernel  *Kernel
}

// crashMain starts a machine, prints its handle, and waits to be killed.
func crashMain(dir string) int {
	var in crashInput
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	d, err := Open(context.Background(), Config{StateDir: dir, CgroupParent: "/mobula-kvm-test", Kernel: in.Kernel})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(`"starting"`)
	h, err := d.Start(context.Background(), in.Machine)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(h)
	select {}
}

func crashing(t *testing.T, dir string, in crashInput) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashVar+"="+dir)
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := json.NewEncoder(w).Encode(in); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return cmd, bufio.NewScanner(out)
}

// A machine goes on when the process that started it is killed, and the next process has all of it.
func TestSurvivesKill(t *testing.T) {
	guest := withGuest(t)
	var cfg Config
	guest(&cfg)
	dir := t.TempDir()
	m := newMachine(t)
	addDisk(t, &m, "raw", 8)
	cmd, lines := crashing(t, dir, crashInput{m, cfg.Kernel})
	lines.Scan()
	if !lines.Scan() {
		t.Fatal("no handle")
	}
	var h zones.Handle
	if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()

	d := reopen(t, dir, guest)
	if err := d.Recover(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Destroy(context.WithoutCancel(t.Context()), m.ID) })
	console := newTalk(t, d, m.ID)
	console.wake()
	console.ask("write kept")
	if got := console.ask("read"); got != "kept" {
		t.Errorf("the guest reads %q", got)
	}
	if err := d.Stop(t.Context(), m.ID, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Wait(t.Context(), m.ID); err != nil || !st.Success() {
		t.Errorf("Wait = %+v, %v", st, err)
	}
}

// Killed at any instant of a start, nothing is left that Destroy does not remove.
func TestKillDuringStart(t *testing.T) {
	newDriver(t) // asks for what is needed, and tries KVM before the clock runs
	dir := t.TempDir()
	for _, delay := range []time.Duration{0, 1, 2, 3, 5, 8, 12, 20, 40, 80} {
		m := newMachine(t)
		cmd, lines := crashing(t, dir, crashInput{Machine: m})
		lines.Scan()
		time.Sleep(delay * time.Millisecond) // where in the start it is killed is left to chance
		cmd.Process.Kill()
		cmd.Wait()
		d := reopen(t, dir)
		if err := d.Destroy(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
		if pids := processesOf(m.ID); len(pids) > 0 {
			t.Errorf("after %d ms: processes %v are left", delay, pids)
		}
		if left, _ := os.ReadDir(m.RunDir); len(left) > 0 {
			t.Errorf("after %d ms: %v is left", delay, left)
		}
		start(t, d, m)
	}
}
