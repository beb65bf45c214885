//go:build linux && cgo

package oci_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci"
)

// victimEnv makes this test program a host process that starts the machine on its standard input and waits to be killed.
const victimEnv = "MOBULA_VICTIM"

func victim(dir string) {
	err := func() error {
		d, err := oci.New(oci.Config{StateDir: dir, CgroupParent: "/mobula-test"})
		if err != nil {
			return err
		}
		var m zones.Machine
		if err := json.NewDecoder(os.Stdin).Decode(&m); err != nil {
			return err
		}
		fmt.Println("starting")
		h, err := d.Start(context.Background(), m)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(h); err != nil {
			return err
		}
		// A program that must not outlive us.
		if _, err := d.Exec(context.Background(), m.ID, zones.ExecRequest{Args: []string{"sleep", "4711"}}); err != nil {
			return err
		}
		fmt.Println("ready")
		select {}
	}()
	fmt.Println(err)
	os.Exit(1)
}

// victimProcess starts one and returns it with what it prints.
func victimProcess(t *testing.T, dir string, m zones.Machine) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victimEnv+"="+dir)
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

func readLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestSurvivesKill kills the host process and takes the machine over.
func TestSurvivesKill(t *testing.T) {
	testenv.NeedRoot(t)
	dir, m := runDir(t), machine(t)
	m.Init.Args = []string{"sh", "-c", "echo on the console; trap 'exit 42' TERM; while :; do sleep 0.05; done"}
	cmd, out := victimProcess(t, dir, m)
	if line := readLine(t, out); line != "starting" {
		t.Fatal(line)
	}
	var h zones.Handle
	if line := readLine(t, out); json.Unmarshal([]byte(line), &h) != nil {
		t.Fatal(line)
	}
	if line := readLine(t, out); line != "ready" {
		t.Fatal(line)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	d := open(t, dir)
	t.Cleanup(func() { cleanUp(t, d) })
	if err := d.Recover(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	con, err := d.Console(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer con.Close()
	buf := make([]byte, 64)
	if n, err := con.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "on the console") {
		t.Errorf("the console reads %q, %v", buf[:n], err)
	}
	if out, code := sh(t, d, m.ID, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"); code != 0 || strings.Contains(out, "sleep 4711") {
		t.Errorf("a program of the killed process lives: %s", out)
	}
	if err := d.Stop(t.Context(), m.ID, 0); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Wait(t.Context(), m.ID); err != nil || st.Code != 42 {
		t.Errorf("Wait = %+v, %v; want code 42", st, err)
	}
}

// TestKilledWhileStarting kills the host process at many points of a start; the next one clears what is left.
func TestKilledWhileStarting(t *testing.T) {
	testenv.NeedRoot(t)
	rounds := 8
	if testenv.Long() {
		rounds = 200
	}
	dir := runDir(t)
	m := machine(t)
	for i := range rounds {
		cmd, out := victimProcess(t, dir, m)
		if line := readLine(t, out); line != "starting" {
			t.Fatal(line)
		}
		// Busy, as a timer is too coarse: each round a little later.
		for n := range i * 40 / rounds {
			_, _ = os.ReadFile("/proc/" + fmt.Sprint(cmd.Process.Pid) + "/smaps")
			_ = n
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		d := open(t, dir)
		if err := d.Destroy(t.Context(), m.ID); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		start(t, d, m)
		cleanUp(t, d)
		noTrace(t, m)
	}
}

// noTrace checks that nothing of a machine is left on the host.
func noTrace(t testing.TB, m zones.Machine) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), m.ID) {
		t.Errorf("mounts of %s are left", m.ID)
	}
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/devices", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(dir + "/mobula-test/" + m.ID); err == nil {
			t.Errorf("%s/mobula-test/%s is left", dir, m.ID)
		}
	}
	if list, _ := os.ReadDir(m.RunDir); len(list) > 0 {
		t.Errorf("the run directory holds %v", list)
	}
	if _, err := os.Stat("/run/mobula-oci/" + m.ID); err == nil {
		t.Errorf("the mount point is left")
	}
}

// TestCloseBesideStart has processes come and go on the state directory of one that starts machines.
func TestCloseBesideStart(t *testing.T) {
	testenv.NeedRoot(t)
	dir := runDir(t)
	d := open(t, dir)
	t.Cleanup(func() { cleanUp(t, d) })
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if err := open(t, dir).Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	m := machine(t)
	for range 5 {
		start(t, d, m)
		if err := d.Destroy(t.Context(), m.ID); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-done
}
