package zonestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

func testExec(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	if out := s.output(t, m.ID, "echo", "a b", "c"); out != "a b c\n" {
		t.Errorf("echo printed %q", out)
	}
	tests := []struct {
		name, out string
		code      int
		req       zones.ExecRequest
	}{
		{"code 0", "", 0, zones.ExecRequest{Args: []string{"true"}}},
		{"code 1", "", 1, zones.ExecRequest{Args: []string{"false"}}},
		{"code 200", "", 200, zones.ExecRequest{Args: []string{"sh", "-c", "exit 200"}}},
		{"directory", "/tmp\n", 0, zones.ExecRequest{Args: []string{"pwd"}, Dir: "/tmp"}},
		{"root directory", "/\n", 0, zones.ExecRequest{Args: []string{"pwd"}}},
		{"user", "1000\n", 0, zones.ExecRequest{Args: []string{"id", "-u"}, User: zones.User{UID: 1000, GID: 1000}}},
		{"root", "0\n", 0, zones.ExecRequest{Args: []string{"id", "-u"}}},
	}
	for _, tt := range tests {
		if tt.req.User.UID != 0 && s.Driver.Capabilities().OneUser {
			continue
		}
		var out bytes.Buffer
		tt.req.Stdout = &out
		st, err := zones.Run(s.ctx(t), s.Driver, m.ID, tt.req)
		if err != nil || st.Code != tt.code || out.String() != tt.out {
			t.Errorf("%s: %+v, %v, printed %q; want code %d and %q", tt.name, st, err, out.String(), tt.code, tt.out)
		}
	}
	var out bytes.Buffer
	if _, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"env"}, Env: []string{"A=b c"}, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if lines := "\n" + out.String(); !strings.Contains(lines, "\nA=b c\n") || !strings.Contains(lines, "\nPATH=/") || !strings.Contains(lines, "\nHOME=/") {
		t.Errorf("the environment is %q, want A, a PATH and a HOME", out.String())
	}
	for _, req := range []zones.ExecRequest{{}, {Args: []string{""}}, {Args: []string{"true"}, TTY: true, Stderr: &out}} {
		_, err := s.Driver.Exec(s.ctx(t), m.ID, req)
		want(t, fmt.Sprintf("Exec of %q", req.Args), err, zones.ErrInvalid)
	}
}

func testExecStreams(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // a MiB, more than any pipe holds
	var out, errs bytes.Buffer
	st, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"cat"}, Stdin: bytes.NewReader(big), Stdout: &out, Stderr: &errs})
	if err != nil || !st.Success() || !bytes.Equal(out.Bytes(), big) || errs.Len() > 0 {
		t.Errorf("cat of a MiB: %+v, %v, %d bytes out, %q on stderr", st, err, out.Len(), errs.String())
	}
	in, err := os.Create(filepath.Join(t.TempDir(), "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.WriteString("from a file"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(5, 0); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if _, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"cat"}, Stdin: in, Stdout: &out}); err != nil || out.String() != "a file" {
		t.Errorf("cat of a file read %q, %v; want what follows its position", out.String(), err)
	}
	out.Reset()
	if st, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"cat"}, Stdout: &out}); err != nil || !st.Success() || out.Len() > 0 {
		t.Errorf("cat of nothing: %+v, %v, %q", st, err, out.String())
	}
	out.Reset()
	st, err = zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"cat", "/no/such/file"}, Stdout: &out, Stderr: &errs})
	if err != nil || st.Code != 1 || out.Len() > 0 || !strings.Contains(errs.String(), "/no/such/file") {
		t.Errorf("cat of no file: %+v, %v, stdout %q, stderr %q", st, err, out.String(), errs.String())
	}
}

func testExecCannotStart(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	_, err := s.Driver.Exec(s.ctx(t), m.ID, zones.ExecRequest{Args: []string{"/no/such/program"}})
	e, ok := errors.AsType[*zones.StartError](err)
	if !ok || !errors.Is(err, os.ErrNotExist) || e.ExitCode() != 127 {
		t.Errorf("Exec = %v, want a *zones.StartError that is os.ErrNotExist", err)
	}
	_, err = s.Driver.Exec(s.ctx(t), m.ID, zones.ExecRequest{Args: []string{"/tmp"}})
	if e, ok := errors.AsType[*zones.StartError](err); !ok || e.ExitCode() != 126 {
		t.Errorf("Exec of a directory = %v, want a *zones.StartError with code 126", err)
	}
}

func testExecCancelled(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	ctx, cancel := context.WithCancel(s.ctx(t))
	p, err := s.Driver.Exec(ctx, m.ID, zones.ExecRequest{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if p.PID() <= 0 {
		t.Errorf("PID = %d", p.PID())
	}
	cancel()
	for range 2 {
		if _, err := p.Wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait = %v, want context.Canceled", err)
		}
	}
	if _, err := s.Driver.Exec(ctx, m.ID, zones.ExecRequest{Args: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Exec with a cancelled context = %v", err)
	}
	if out := s.output(t, m.ID, "echo", "on"); out != "on\n" {
		t.Errorf("the machine printed %q after a cancelled exec", out)
	}
}

func testExecAlone(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	other := func() zones.Process {
		t.Helper()
		p, err := s.Driver.Exec(s.ctx(t), m.ID, zones.ExecRequest{Args: []string{"sleep", "1000"}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	dead := func(p zones.Process) {
		t.Helper()
		if st, err := p.Wait(); err != nil || st.Signal != zones.SIGKILL {
			t.Errorf("beside a program that ran alone: %+v, %v; want SIGKILL", st, err)
		}
	}
	first := other()
	if st, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"sh", "-c", "exit 3"}, Alone: true}); err != nil || st.Code != 3 {
		t.Errorf("alone: %+v, %v; want code 3", st, err)
	}
	dead(first)
	ctx, cancel := context.WithCancel(s.ctx(t))
	second := other()
	p, err := s.Driver.Exec(ctx, m.ID, zones.ExecRequest{Args: []string{"sleep", "1000"}, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := p.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait = %v, want context.Canceled", err)
	}
	dead(second)
	if out := s.output(t, m.ID, "echo", "on"); out != "on\n" {
		t.Errorf("the machine printed %q afterwards", out)
	}
}

func testExecSignal(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	p, err := s.Driver.Exec(s.ctx(t), m.ID, zones.ExecRequest{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "Resize without a terminal", p.Resize(zones.Size{Rows: 1, Cols: 1}), zones.ErrNotSupported)
	want(t, "Signal with no such name", p.Signal("SIGNONE"), zones.ErrInvalid)
	if err := p.Signal(zones.SIGTERM); err != nil {
		t.Fatal(err)
	}
	st, err := p.Wait()
	if err != nil || st.Signal != zones.SIGTERM || st.Code != 143 || st.Success() {
		t.Errorf("Wait = %+v, %v; want SIGTERM and 143", st, err)
	}
	want(t, "Signal after the end", p.Signal(zones.SIGTERM), zones.ErrNotRunning)
}

func testExecTerminal(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	var out bytes.Buffer
	st, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"stty", "size"}, TTY: true, Size: zones.Size{Rows: 40, Cols: 100}, Stdout: &out})
	if err != nil || !st.Success() || strings.TrimSpace(out.String()) != "40 100" {
		t.Errorf("stty size: %+v, %v, %q", st, err, out.String())
	}
	p, err := s.Driver.Exec(s.ctx(t), m.ID, zones.ExecRequest{Args: []string{"sleep", "1000"}, TTY: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(zones.Size{Rows: 50, Cols: 120}); err != nil {
		t.Errorf("Resize: %v", err)
	}
	if err := p.Signal(zones.SIGKILL); err != nil {
		t.Errorf("Signal: %v", err)
	}
	if st, err := p.Wait(); err != nil || st.Signal != zones.SIGKILL {
		t.Errorf("Wait = %+v, %v", st, err)
	}
}

func testExecEnds(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	p, err := s.Driver.Exec(s.ctx(t), m.ID, zones.ExecRequest{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	s.kill(t, m.ID)
	_, err = p.Wait()
	want(t, "Wait of a program whose machine ended", err, zones.ErrNotRunning)
	_, err = s.Driver.Exec(s.ctx(t), m.ID, zones.ExecRequest{Args: []string{"true"}})
	want(t, "Exec in a machine that ended", err, zones.ErrNotRunning)
}

func testExecMany(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Exec, "Exec")
	m := s.start(t)
	ctx := s.ctx(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			var out bytes.Buffer
			st, err := zones.Run(ctx, s.Driver, m.ID, zones.ExecRequest{Args: []string{"echo", fmt.Sprint(i)}, Stdout: &out})
			if err != nil || !st.Success() || out.String() != fmt.Sprintln(i) {
				t.Errorf("echo %d: %+v, %v, %q", i, st, err, out.String())
			}
		})
	}
	wg.Wait()
}

func testConsole(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Console, "Console")
	c, _ := zones.As[zones.Consoler](s.Driver)
	m := s.Machine(t)
	if s.Programs {
		m.Init = zones.Init{Args: []string{"sh", "-c", "echo hello console; exec sleep 1000"}}
	}
	s.run(t, m)
	con, err := c.Console(s.ctx(t), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if s.Programs { // others print what they like
		waitFor(t, con, "hello console")
		again, err := c.Console(s.ctx(t), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, again, "hello console")
		if err := again.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if st, err := s.Driver.Status(s.ctx(t), m.ID); err != nil || st.Phase != zones.PhaseRunning {
		t.Errorf("Status = %+v, %v after a detach", st, err)
	}
	s.kill(t, m.ID)
	done := make(chan struct{})
	go func() { copyAll(new(bytes.Buffer), con); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("the console goes on after the machine's end")
	}
	con.Close()
}

// waitFor reads until the text has come.
func waitFor(t *testing.T, r interface{ Read([]byte) (int, error) }, text string) {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		var all []byte
		buf := make([]byte, 512)
		for !bytes.Contains(all, []byte(text)) {
			n, err := r.Read(buf)
			all = append(all, buf[:n]...)
			if err != nil {
				break
			}
		}
		got <- string(all)
	}()
	select {
	case all := <-got:
		if !strings.Contains(all, text) {
			t.Errorf("read %q to its end, want %q", all, text)
		}
	case <-time.After(patience):
		t.Errorf("%q did not come", text)
	}
}

func testGive(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Give, "Give")
	g, _ := zones.As[zones.Giver](s.Driver)
	m := s.start(t)
	dir := t.TempDir()
	file := func(name, text string) *os.File {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	const at = "/tmp/a/b/object"
	for _, text := range []string{"first", "second"} {
		if err := g.Give(s.ctx(t), m.ID, zones.Gift{File: file(text, text), Path: at, Owner: zones.User{UID: 1000}}); err != nil {
			t.Fatalf("Give: %v", err)
		}
		if got := s.output(t, m.ID, "cat", at); got != text {
			t.Errorf("the machine reads %q, want %q", got, text)
		}
	}
	var out bytes.Buffer
	if st, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"cat", at}, User: zones.User{UID: 1000, GID: 1000}, Stdout: &out}); err != nil || !st.Success() || out.String() != "second" {
		t.Errorf("its owner reads %q: %+v, %v", out.String(), st, err)
	}
	if st, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"tee", at}, Stdin: strings.NewReader("spoilt")}); err != nil || st.Success() {
		t.Errorf("writing a given file: %+v, %v; want a refusal", st, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "second")); err != nil || string(data) != "second" {
		t.Errorf("the host's file is %q, %v", data, err)
	}
	for range 3 { // one more than was given
		if err := g.Take(s.ctx(t), m.ID, at); err != nil {
			t.Fatalf("Take: %v", err)
		}
	}
	if got := s.output(t, m.ID, "cat", at); got != "" {
		t.Errorf("after Take the machine reads %q", got)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want(t, "Give of a directory", g.Give(s.ctx(t), m.ID, zones.Gift{File: d, Path: "/tmp/x"}), zones.ErrInvalid)
	want(t, "Give to no path", g.Give(s.ctx(t), m.ID, zones.Gift{File: file("third", ""), Path: "x"}), zones.ErrInvalid)
}

func testReset(t *testing.T, s *suite) {
	s.need(t, s.Driver.Capabilities().Reset, "Reset")
	r, _ := zones.As[zones.Resetter](s.Driver)
	m := s.start(t)
	p, err := s.Driver.Exec(s.ctx(t), m.ID, zones.ExecRequest{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"tee", "/tmp/left"}, Stdin: strings.NewReader("secret")}); err != nil || !st.Success() {
		t.Fatalf("tee: %+v, %v", st, err)
	}
	fresh := s.Machine(t)
	m.Root = fresh.Root
	m.Limits.LWPs++
	h, err := r.Reset(s.ctx(t), m)
	if err != nil {
		t.Fatalf("Reset: %v", err)
	}
	if h.ID != m.ID {
		t.Errorf("handle of %s, want %s", h.ID, m.ID)
	}
	if st, err := p.Wait(); err == nil && st.Success() {
		t.Errorf("a program of before ended with %+v", st)
	}
	if st, err := s.Driver.Status(s.ctx(t), m.ID); err != nil || st.Phase != zones.PhaseRunning {
		t.Errorf("Status = %+v, %v", st, err)
	}
	if out := s.output(t, m.ID, "echo", "fresh"); out != "fresh\n" {
		t.Errorf("echo printed %q", out)
	}
	if st, err := zones.Run(s.ctx(t), s.Driver, m.ID, zones.ExecRequest{Args: []string{"cat", "/tmp/left"}}); err != nil || st.Success() {
		t.Errorf("a file of before can be read: %+v, %v", st, err)
	}
	m.ID = "ffffffff-0000-4000-8000-00000000dead"
	_, err = r.Reset(s.ctx(t), m)
	want(t, "Reset of nothing", err, zones.ErrNotExist)
}
