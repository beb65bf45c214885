package zonestest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// fakeMachine is a machine of a World: a small file system, a console and the programs that run.
type fakeMachine struct {
	m       zones.Machine
	pid     int
	started time.Time
	ended   chan struct{}

	mu       sync.Mutex
	exit     zones.ExitStatus
	limits   zones.Limits
	programs map[*fakeProcess]bool
	nextPID  int
	files    map[string][]byte   // of the machine's own
	given    map[string][][]byte // shown above them, last on top
	console  []byte
	watchers map[*fakeConsole]bool
}

func newFakeMachine(m zones.Machine, pid int) *fakeMachine {
	f := &fakeMachine{m: m, pid: pid, started: time.Now(), limits: m.Limits, ended: make(chan struct{}), nextPID: 1, programs: map[*fakeProcess]bool{},
		files: map[string][]byte{}, given: map[string][][]byte{}, watchers: map[*fakeConsole]bool{}}
	if len(m.Init.Args) > 0 {
		f.boot(m.Init.Args)
	}
	return f
}

// boot runs the machine's program; its end is the machine's.
func (f *fakeMachine) boot(args []string) {
	p := &fakeProcess{m: f, req: zones.ExecRequest{Args: args, Env: f.m.Init.Env, Dir: f.m.Init.Dir, User: f.m.Init.User, Stdout: consoleWriter{f}, Stderr: consoleWriter{f}}}
	ctx, cancel := context.WithCancel(context.Background())
	p.ctx, p.cancel, p.done, p.pid = ctx, cancel, make(chan struct{}), 1
	f.programs[p] = true
	prog, _ := lookUp(args) // Start has made sure
	go func() {
		p.run(prog)
		f.end(p.status)
	}()
}

func (f *fakeMachine) hasEnded() bool {
	select {
	case <-f.ended:
		return true
	default:
		return false
	}
}

// end ends the machine once, with everything in it.
func (f *fakeMachine) end(st zones.ExitStatus) bool {
	f.mu.Lock()
	if f.hasEnded() {
		f.mu.Unlock()
		return false
	}
	if st.Time.IsZero() {
		st.Time = time.Now()
	}
	f.exit = st
	close(f.ended)
	for c := range f.watchers {
		c.w.Close()
	}
	f.mu.Unlock()
	f.killPrograms()
	return true
}

func (f *fakeMachine) killPrograms() {
	f.mu.Lock()
	list := make([]*fakeProcess, 0, len(f.programs))
	for p := range f.programs {
		if p.pid != 1 || f.hasEnded() {
			list = append(list, p)
		}
	}
	f.mu.Unlock()
	for _, p := range list {
		p.cancel()
	}
}

func (f *fakeMachine) give(g zones.Gift, size int64) error {
	data, err := io.ReadAll(io.NewSectionReader(g.File, 0, size))
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	name := path.Clean(g.Path)
	if _, ok := f.files[name]; !ok {
		f.files[name] = nil
	}
	f.given[name] = append(f.given[name], data)
	return nil
}

func (f *fakeMachine) take(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.given[name]; len(l) > 0 {
		f.given[name] = l[:len(l)-1]
	}
}

func (f *fakeMachine) read(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.given[name]; len(l) > 0 {
		return l[len(l)-1], nil
	}
	data, ok := f.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

func (f *fakeMachine) write(name string, data []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.given[name]) > 0 {
		return fs.ErrPermission
	}
	f.files[name] = data
	return nil
}

// Exec implements zones.Driver. The machine has true, false, echo, cat, tee, sleep, env, pwd, id, stty and a sh that knows exit, echo and exec.
func (f *Fake) Exec(ctx context.Context, id string, req zones.ExecRequest) (proc zones.Process, err error) {
	err = f.do("exec", id, func() error {
		if err := req.Check(); err != nil {
			return err
		}
		m, err := f.running(id)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		prog, err := lookUp(req.Args)
		if err != nil {
			return &zones.StartError{Program: req.Args[0], Err: err}
		}
		p := &fakeProcess{m: m, req: req, caller: ctx, done: make(chan struct{})}
		p.ctx, p.cancel = context.WithCancel(ctx)
		m.mu.Lock()
		if m.hasEnded() {
			m.mu.Unlock()
			return zones.ErrNotRunning
		}
		m.nextPID++
		p.pid = m.nextPID
		m.programs[p] = true
		m.mu.Unlock()
		go p.run(prog)
		proc = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	return proc, nil
}

// fakeProcess is a program that runs as a goroutine.
type fakeProcess struct {
	m      *fakeMachine
	req    zones.ExecRequest
	caller context.Context
	ctx    context.Context
	cancel context.CancelFunc
	pid    int
	done   chan struct{}

	mu     sync.Mutex
	signal zones.Signal
	size   zones.Size
	status zones.ExitStatus
	err    error
}

func (p *fakeProcess) run(prog program) {
	code := prog(p, p.req.Args[1:])
	p.mu.Lock()
	p.status = zones.ExitStatus{Code: code, Time: time.Now()}
	switch {
	case p.signal != "":
		p.status.Code, p.status.Signal = 128+p.signal.Number(), p.signal
	case p.m.hasEnded():
		p.err = zones.ErrNotRunning
	case p.caller != nil && p.caller.Err() != nil:
		p.err = context.Cause(p.caller)
	case p.ctx.Err() != nil:
		p.status.Code, p.status.Signal = 137, zones.SIGKILL
	}
	p.mu.Unlock()
	p.m.mu.Lock()
	delete(p.m.programs, p)
	p.m.mu.Unlock()
	if p.req.Alone {
		p.m.killPrograms()
	}
	p.cancel()
	close(p.done)
}

func (p *fakeProcess) PID() int { return p.pid }

func (p *fakeProcess) Wait() (zones.ExitStatus, error) {
	<-p.done
	return p.status, zones.OpError("exec", p.m.m.ID, p.err)
}

func (p *fakeProcess) Signal(sig zones.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return zones.OpError("signal", p.m.m.ID, zones.ErrNotRunning)
	default:
	}
	if sig.Number() == 0 {
		return zones.OpError("signal", p.m.m.ID, fmt.Errorf("%w: signal %q", zones.ErrInvalid, sig))
	}
	if !slices.Contains([]zones.Signal{"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"}, sig) {
		p.signal = sig
		p.cancel()
	}
	return nil
}

func (p *fakeProcess) Resize(s zones.Size) error {
	if !p.req.TTY {
		return zones.OpError("resize", p.m.m.ID, fmt.Errorf("%w: no terminal", zones.ErrNotSupported))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = s
	return nil
}

// program is one of a fake machine's.
type program func(p *fakeProcess, args []string) int

var programs map[string]program

func init() { // not an initialiser, as sh looks in it
	programs = map[string]program{"true": exits(0), "false": exits(1), "echo": echo, "cat": cat, "tee": tee, "sleep": sleep, "env": env, "pwd": pwd,
		"id": id, "stty": stty, "sh": shell}
}

func lookUp(args []string) (program, error) {
	name := args[0]
	if strings.Contains(name, "/") {
		if path.Clean(name) == "/tmp" || path.Clean(name) == "/" {
			return nil, fs.ErrPermission
		}
		if dir := path.Dir(path.Clean(name)); dir != "/bin" && dir != "/usr/bin" {
			return nil, fs.ErrNotExist
		}
		name = path.Base(name)
	}
	if prog := programs[name]; prog != nil {
		return prog, nil
	}
	return nil, fs.ErrNotExist
}

func (p *fakeProcess) print(s string) {
	if p.req.Stdout != nil {
		_, _ = io.WriteString(p.req.Stdout, s)
	}
}

func (p *fakeProcess) complain(s string) int {
	if p.req.Stderr != nil {
		_, _ = io.WriteString(p.req.Stderr, s+"\n")
	}
	return 1
}

func exits(code int) program { return func(*fakeProcess, []string) int { return code } }

func echo(p *fakeProcess, args []string) int {
	p.print(strings.Join(args, " ") + "\n")
	return 0
}

func cat(p *fakeProcess, args []string) int {
	out := p.req.Stdout
	if out == nil {
		out = io.Discard
	}
	if len(args) == 0 && p.req.Stdin != nil {
		_, _ = io.Copy(out, p.req.Stdin)
	}
	for _, name := range args {
		data, err := p.m.read(path.Clean(name))
		if err != nil {
			return p.complain("cat: " + name + ": " + err.Error())
		}
		_, _ = out.Write(data)
	}
	return 0
}

func tee(p *fakeProcess, args []string) int {
	var buf bytes.Buffer
	if p.req.Stdin != nil {
		_, _ = io.Copy(&buf, p.req.Stdin)
	}
	p.print(buf.String())
	for _, name := range args {
		if err := p.m.write(path.Clean(name), buf.Bytes()); err != nil {
			return p.complain("tee: " + name + ": " + err.Error())
		}
	}
	return 0
}

func sleep(p *fakeProcess, args []string) int {
	s, err := strconv.ParseFloat(strings.Join(args, ""), 64)
	if err != nil {
		return p.complain("sleep: " + err.Error())
	}
	t := time.NewTimer(time.Duration(s * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	}
	return 0
}

func env(p *fakeProcess, _ []string) int {
	for _, e := range append([]string{"PATH=/usr/bin:/bin", "HOME=/root"}, p.req.Env...) {
		p.print(e + "\n")
	}
	return 0
}

func pwd(p *fakeProcess, _ []string) int {
	p.print(path.Clean("/"+p.req.Dir) + "\n")
	return 0
}

func id(p *fakeProcess, _ []string) int {
	p.print(strconv.FormatUint(uint64(p.req.User.UID), 10) + "\n")
	return 0
}

func stty(p *fakeProcess, _ []string) int {
	if !p.req.TTY {
		return p.complain("stty: not a terminal")
	}
	size := p.req.Size
	if p.size != (zones.Size{}) {
		size = p.size
	}
	p.print(fmt.Sprintf("%d %d\r\n", size.Rows, size.Cols))
	return 0
}

// shell knows commands between semicolons, exit and exec.
func shell(p *fakeProcess, args []string) int {
	if len(args) != 2 || args[0] != "-c" {
		return p.complain("sh: only sh -c")
	}
	code := 0
	for command := range strings.SplitSeq(args[1], ";") {
		words := strings.Fields(command)
		if len(words) > 0 && words[0] == "exec" {
			words = words[1:]
		}
		if len(words) == 0 {
			continue
		}
		if words[0] == "exit" {
			code, _ = strconv.Atoi(strings.Join(words[1:], ""))
			return code
		}
		prog, err := lookUp(words)
		if err != nil {
			p.complain("sh: " + words[0] + ": " + err.Error())
			code = 127
			continue
		}
		code = prog(p, words[1:])
	}
	return code
}
