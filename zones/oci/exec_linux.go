//go:build cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// Exec implements zones.Driver.
func (d *Driver) Exec(ctx context.Context, id string, req zones.ExecRequest) (zones.Process, error) {
	fail := func(err error) (zones.Process, error) { return nil, zones.OpError("exec", id, err) }
	if err := req.Check(); err != nil {
		return fail(err)
	}
	m, err := d.machines.Running("exec", id)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	m.mu.Lock()
	memlock := m.rec.Limits.LockedMemory
	m.mu.Unlock()
	p := &process{m: m, ctx: ctx, done: make(chan struct{})}
	prog := zinit.Program{Args: req.Args, Env: environment(req.Env, req.User, req.TTY), Dir: req.Dir, UID: req.User.UID, GID: req.User.GID,
		Groups: req.User.Groups, Rows: uint32(req.Size.Rows), Cols: uint32(req.Size.Cols), Memlock: uint64(memlock)}
	if req.NoNewPrivileges {
		prog.Flags |= zinit.FlagNoNewPrivs
	}
	if p.alone = req.Alone; p.alone {
		prog.Flags |= zinit.FlagAlone
	}
	if req.Cores {
		prog.Flags |= zinit.FlagCores
	}
	var files []*os.File
	if req.TTY {
		prog.Flags |= zinit.FlagTTY
	} else {
		var flags uint32
		if flags, files, err = p.streams(req); err != nil {
			p.closeAll()
			return fail(err)
		}
		prog.Flags |= flags
	}
	master, err := p.start(prog, files)
	for _, f := range p.theirs {
		f.Close()
	}
	p.theirs = nil
	if err != nil {
		p.closeAll()
		if e, ok := errors.AsType[syscall.Errno](err); ok && p.refused {
			if e == unix.EAGAIN || e == unix.ENOMEM {
				return fail(fmt.Errorf("%w: %w", zones.ErrNoSpace, e))
			}
			err = &zones.StartError{Program: req.Args[0], Err: e}
		}
		return fail(err)
	}
	if master != nil {
		p.terminal(master, req)
	}
	p.run()
	return p, nil
}

// process is a program in the zone. Its connection is its life: closing it kills the program.
type process struct {
	m       *machine
	ctx     context.Context
	conn    *net.UnixConn
	pid     int
	refused bool
	alone   bool

	theirs []*os.File // our copies of what the program gets
	ours   []*os.File // our ends of pipes, and the terminal
	copies []func()   // not yet begun
	inputs []*os.File // ends that a copier into the program writes
	tty    *os.File

	copying sync.WaitGroup // of outputs
	write   sync.Mutex
	done    chan struct{}
	status  zones.ExitStatus
	err     error
}

// streams makes what the request's three streams need: nothing, a file handed on, or a pipe and a copier.
func (p *process) streams(req zones.ExecRequest) (flags uint32, files []*os.File, err error) {
	if req.Stdin != nil {
		f, ok := req.Stdin.(*os.File)
		if !ok {
			r, w, err := os.Pipe()
			if err != nil {
				return 0, nil, err
			}
			p.theirs, p.ours, p.inputs = append(p.theirs, r), append(p.ours, w), append(p.inputs, w)
			p.copies = append(p.copies, func() {
				_, _ = io.Copy(w, req.Stdin) // ends with an error when the program has gone
				w.Close()
			})
			f = r
		}
		flags, files = flags|zinit.FlagStdin, append(files, f)
	}
	var first *os.File
	for i, w := range []io.Writer{req.Stdout, req.Stderr} {
		if w == nil {
			continue
		}
		f, ok := w.(*os.File)
		if !ok && i == 1 && first != nil && sameWriter(req.Stdout, w) {
			f, ok = first, true // one pipe for both, so that their order is kept
		}
		if !ok {
			r, pw, err := os.Pipe()
			if err != nil {
				return 0, nil, err
			}
			p.theirs, p.ours = append(p.theirs, pw), append(p.ours, r)
			p.copying.Add(1)
			p.copies = append(p.copies, func() {
				defer p.copying.Done()
				_, _ = io.Copy(w, r)
				r.Close()
			})
			f = pw
			first = pw
		}
		flags, files = flags|zinit.FlagStdout<<i, append(files, f)
	}
	return flags, files, nil
}

// sameWriter reports whether both are one, where that can be asked.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }() // a type that cannot be compared
	return a == b
}

// start sends the request and waits until the program runs.
func (p *process) start(prog zinit.Program, files []*os.File) (*os.File, error) {
	var err error
	if p.conn, err = p.m.dial(p.ctx); err != nil {
		return nil, err
	}
	// The file system may be slow to give the program, so only the caller's patience counts.
	stop := context.AfterFunc(p.ctx, func() { p.conn.Close() })
	defer stop()
	if err = send(p.conn, zinit.Header{Type: zinit.MsgExec}, prog.Append(nil), files...); err != nil {
		return nil, p.why(err)
	}
	h, master, err := receive(p.conn)
	switch {
	case err != nil:
		return nil, p.why(err)
	case h.Type == zinit.MsgFailed:
		closeFile(master)
		p.refused = true
		return nil, syscall.Errno(h.A)
	case h.Type != zinit.MsgStarted || (master != nil) != (prog.Flags&zinit.FlagTTY != 0):
		closeFile(master)
		return nil, zinit.ErrProtocol
	}
	p.pid = int(h.A)
	return master, nil
}

// why says what a broken connection means.
func (p *process) why(err error) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	select {
	case <-p.m.gone:
		return zones.ErrNotRunning
	case <-time.After(100 * time.Millisecond): // its end may be on the way to us
		return err
	}
}

// terminal joins the request's streams and the terminal.
func (p *process) terminal(master *os.File, req zones.ExecRequest) {
	p.tty = master
	p.ours = append(p.ours, master)
	if req.Stdin != nil {
		p.copies = append(p.copies, func() {
			if _, err := io.Copy(master, req.Stdin); err == nil {
				_, _ = master.Write([]byte{4}) // end of input, as a person would type it
			}
		})
	}
	out := req.Stdout
	if out == nil {
		out = io.Discard
	}
	p.copying.Add(1)
	p.copies = append(p.copies, func() {
		defer p.copying.Done()
		_, _ = io.Copy(out, master) // ends with EIO when the last program on it has gone
	})
}

// run starts the copiers and waits for the end in the background.
func (p *process) run() {
	for _, f := range p.copies {
		go f()
	}
	kill := context.AfterFunc(p.ctx, func() {
		if p.alone && p.Signal(zones.SIGKILL) == nil { // the answer comes when everybody is gone
			_ = p.conn.SetReadDeadline(time.Now().Add(patience))
			return
		}
		p.conn.Close()
	})
	go func() {
		h, f, err := receive(p.conn)
		closeFile(f)
		stopped := !kill() && p.alone
		p.conn.Close()
		switch {
		case err == nil && stopped:
			p.err = context.Cause(p.ctx)
		case err == nil && h.Type == zinit.MsgExited:
			p.status = exitStatus(syscall.WaitStatus(h.A))
			p.status.Time = time.Now()
		case err == nil:
			p.err = zinit.ErrProtocol
		case stopped:
			p.err = fmt.Errorf("%w: what the program started does not end: %w", zones.ErrTimeout, context.Cause(p.ctx))
		default:
			p.err = p.why(err)
		}
		p.drain()
		close(p.done)
	}()
}

// lingering is how long output is read after the program ended, for what it left in the background with its streams open.
const lingering = 2 * time.Second

func (p *process) drain() {
	for _, w := range p.inputs {
		w.Close()
	}
	copied := make(chan struct{})
	go func() { p.copying.Wait(); close(copied) }()
	wait := lingering
	if p.err != nil {
		wait = 100 * time.Millisecond
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-copied:
	case <-t.C:
	}
	for _, f := range p.ours {
		f.Close()
	}
	<-copied // a closed pipe ends them; the caller's writers are the caller's again after Wait
}

func (p *process) closeAll() {
	if p.conn != nil {
		p.conn.Close()
	}
	for _, f := range append(p.theirs, p.ours...) {
		f.Close()
	}
}

// PID implements zones.Process.
func (p *process) PID() int { return p.pid }

// Wait implements zones.Process.
func (p *process) Wait() (zones.ExitStatus, error) {
	<-p.done
	return p.status, zones.OpError("exec", p.m.rec.ID, p.err)
}

// Signal implements zones.Process.
func (p *process) Signal(sig zones.Signal) error {
	n := sig.Number()
	if n == 0 {
		return zones.OpError("signal", p.m.rec.ID, fmt.Errorf("%w: signal %q", zones.ErrInvalid, sig))
	}
	select {
	case <-p.done:
		return zones.OpError("signal", p.m.rec.ID, zones.ErrNotRunning)
	default:
	}
	p.write.Lock()
	defer p.write.Unlock()
	if err := send(p.conn, zinit.Header{Type: zinit.MsgSignal, A: uint32(n)}, nil); err != nil {
		return zones.OpError("signal", p.m.rec.ID, zones.ErrNotRunning)
	}
	return nil
}

// Resize implements zones.Process.
func (p *process) Resize(s zones.Size) error {
	if p.tty == nil {
		return zones.OpError("resize", p.m.rec.ID, fmt.Errorf("%w: no terminal", zones.ErrNotSupported))
	}
	return zones.OpError("resize", p.m.rec.ID, setSize(p.tty, s))
}

func setSize(tty *os.File, s zones.Size) error {
	conn, err := tty.SyscallConn()
	if err != nil {
		return zones.ErrNotRunning
	}
	var e error
	if err := conn.Control(func(fd uintptr) {
		e = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols})
	}); err != nil {
		return zones.ErrNotRunning
	}
	return e
}
