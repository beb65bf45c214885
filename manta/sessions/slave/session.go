package slave

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/creack/pty"
)

// A session is the connection, and the program on its terminal.
type session struct {
	cfg  Config
	conn *websocket.Conn

	linked   bool
	terminal *os.File // nil until the program has started
	cmd      *exec.Cmd
	typed    chan []byte   // what the user types
	ended    chan struct{} // closed when the program has, and everyone was told
}

// grace is how long is waited for what comes after the end: the last output of a program, the user's goodbye.
const grace = 2 * time.Second

// patience is how long a program may read nothing, below what the reflector waits for an answer to its pings.
const patience = 10 * time.Second

// serve does what messages say until the connection ends.
func (s *session) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.stop()
	for {
		kind, data, err := s.conn.Read(ctx)
		if closed, ok := errors.AsType[websocket.CloseError](err); ok && closed.Code == websocket.StatusNormalClosure {
			return nil
		}
		if err != nil {
			if s.ended != nil {
				select {
				case <-s.ended:
					return nil // nobody had anything more to say
				default:
				}
			}
			return fmt.Errorf("connection is lost: %w", err)
		}
		if kind == websocket.MessageBinary {
			if s.terminal != nil {
				s.input(ctx, data)
			}
			continue
		}
		r := parse(data)
		switch {
		case r == nil:
		case r.Type == "linkup":
			s.linked = true
		case r.Type == "resize" && s.terminal != nil:
			s.resize(r)
		case r.Type == "start" && s.linked && s.cmd == nil:
			s.start(ctx, cancel, r)
		}
	}
}

// input hands what the user types to the program. One that does not read for long loses it: the connection has other things to say, too.
func (s *session) input(ctx context.Context, b []byte) {
	select {
	case s.typed <- b:
		return
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.typed <- b:
	case <-timer.C:
	case <-s.ended:
	case <-ctx.Done():
	}
}

// feed writes what input was given. A terminal that nobody reads blocks it, until the program has ended and all of its children.
func (s *session) feed(ctx context.Context) {
	for {
		select {
		case b := <-s.typed:
			if _, err := s.terminal.Write(b); err != nil {
				return
			}
		case <-s.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) resize(r *request) {
	_ = pty.Setsize(s.terminal, &pty.Winsize{Cols: size(r.Columns, 80), Rows: size(r.Lines, 25)}) // of no importance, or the program is gone
}

// start runs the program. Whether it does is told to the user's side.
func (s *session) start(ctx context.Context, cancel context.CancelFunc, r *request) {
	name, args := command(r)
	cmd := exec.Command(name, args...)
	cmd.Dir = cmp.Or(r.Dir, "/")
	cmd.Env = s.environment(cmp.Or(r.Term, "xterm"))
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: size(r.Columns, 80), Rows: size(r.Lines, 25)})
	s.cmd = cmd
	if err != nil {
		s.tell(ctx, reply{Type: "error", Error: err.Error()})
		return
	}
	s.terminal, s.typed, s.ended = terminal, make(chan []byte, 16), make(chan struct{})
	go s.feed(ctx)
	fmt.Fprintf(s.cfg.Log, "%s: started %s\n", Name, name)
	s.tell(ctx, reply{Type: "started", PID: cmd.Process.Pid})
	if object := s.lookup("MANTA_INPUT_FILE"); object != "" && !slices.Contains(args, "-c") {
		s.send(ctx, []byte("\r\n * Your Manta Object is at: "+object+"\r\n\r\n"))
	}
	var output sync.WaitGroup
	output.Go(func() { s.output(ctx, terminal) })
	go func() {
		defer close(s.ended)
		_ = cmd.Wait() // how it ended is nobody's business but the user's, who has seen it
		// Whatever it has left behind may hold the terminal; its last words are waited for all the same, if not for long.
		done := make(chan struct{})
		go func() { output.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(grace):
		}
		s.tell(ctx, reply{Type: "exit"})
		// The user's side closes the connection now. If it does not, the task must end anyway.
		time.AfterFunc(grace, cancel)
	}()
}

// output carries what the program prints.
func (s *session) output(ctx context.Context, terminal *os.File) {
	buf := make([]byte, 32<<10)
	for {
		n, err := terminal.Read(buf)
		if n > 0 && !s.send(ctx, buf[:n]) {
			return
		}
		if err != nil { // EIO: nobody has the other side open
			return
		}
	}
}

func (s *session) send(ctx context.Context, b []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageBinary, b) == nil
}

func (s *session) tell(ctx context.Context, r reply) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := s.conn.Write(ctx, websocket.MessageText, r.text()); err != nil {
		fmt.Fprintf(s.cfg.Log, "%s: %v\n", Name, err)
	}
}

// stop ends the program: its terminal hangs up, and if that is not enough it is killed.
func (s *session) stop() {
	if s.terminal == nil {
		return
	}
	defer s.terminal.Close()
	select {
	case <-s.ended:
		return
	default:
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGHUP) // it leads a session of its own, or is gone
	select {
	case <-s.ended:
	case <-time.After(grace / 4):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.ended
	}
}

// ctrun is the program through which clients start theirs, so that a core dump does not end a task of the original.
const ctrun = "/usr/bin/ctrun"

// command returns what to run. Where there is no ctrun, what it would have run is run without it.
func command(r *request) (name string, args []string) {
	if r.Command == "" {
		return "/bin/bash", []string{"--norc"}
	}
	if r.Command != ctrun {
		return r.Command, r.Arguments
	}
	if _, err := os.Stat(ctrun); err == nil {
		return r.Command, r.Arguments
	}
	args = r.Arguments
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		args = args[min(2, len(args)):] // an option and its value
	}
	if len(args) == 0 {
		return r.Command, r.Arguments // which fails, and says why
	}
	return args[0], args[1:]
}

// environment is the task's, with a prompt.
func (s *session) environment(term string) []string {
	env := slices.DeleteFunc(slices.Clone(s.cfg.Env), func(v string) bool { return strings.HasPrefix(v, "TERM=") || strings.HasPrefix(v, "PS1=") })
	return append(env, "TERM="+term, `PS1=\[`+"\x1b[1m"+`\]`+s.cfg.User+`@manta # \[`+"\x1b[0m"+`\]`)
}

func (s *session) lookup(name string) string {
	for _, v := range s.cfg.Env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
