//go:build cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// starter is the small process that clones itself for each zone; internal/zinit says why. It is started when it is first needed, and
// ends with this process whatever ends that.
type starter struct {
	init initFiles

	mu     sync.Mutex
	conn   *os.File // nil while there is none
	cmd    *exec.Cmd
	closed bool
}

// newProcess is a process that waits to become a zone's. It is our child unless it enters one that is there.
type newProcess struct {
	pid  int
	sync *os.File
}

// begin has a process made. Whoever gets it calls settle or abandon.
func (s *starter) begin(o zinit.Order, listener, told, plan *os.File, more ...*os.File) (*newProcess, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "zone")
	defer theirs.Close()
	_ = unix.SetNonblock(pair[0], true)
	p := &newProcess{sync: os.NewFile(uintptr(pair[0]), "zone")}
	files := append([]*os.File{listener, told, theirs, plan}, more...)
	if p.pid, err = s.order(o, files); err != nil {
		p.sync.Close()
		if p.pid > 0 && o.Type != zinit.OrderEnter {
			reap(p.pid)
		}
		return nil, err
	}
	return p, nil
}

// order sends one order. A starter that somebody killed is replaced, once.
func (s *starter) order(o zinit.Order, files []*os.File) (pid int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 2 {
		if err = s.ensure(); err != nil {
			return 0, fmt.Errorf("run the starter of zones: %w", err)
		}
		var sent bool
		pid, sent, err = s.exchange(o, files)
		if sent {
			break
		}
		s.drop()
	}
	if err != nil {
		err = fmt.Errorf("make the zone's first process: %w", err)
	}
	return pid, err
}

// exchange reports whether the order reached a starter that answered.
func (s *starter) exchange(o zinit.Order, files []*os.File) (pid int, sent bool, err error) {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	fd := int(s.conn.Fd())
	if err := unix.Sendmsg(fd, o.Append(nil), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return 0, false, err
	}
	var buf [zinit.AnswerSize]byte
	for {
		n, _, err := unix.Recvfrom(fd, buf[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil { // whatever it made gives up when its socket closes
			return 0, false, err
		}
		errno, pid, err := zinit.ParseAnswer(buf[:n])
		if err == nil && errno != 0 {
			err = syscall.Errno(errno)
		}
		return pid, true, err
	}
}

// ensure starts the process if there is none.
func (s *starter) ensure() error {
	if s.closed {
		return os.ErrClosed
	}
	if s.conn != nil {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "starter")
	defer theirs.Close()
	ours := os.NewFile(uintptr(pair[0]), "starter")
	_ = unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)})
	run := func(args ...string) error {
		s.cmd = exec.Command(args[0], args[1:]...)
		s.cmd.Env, s.cmd.Dir = []string{zinit.StartEnv + "=1"}, "/"
		s.cmd.ExtraFiles = []*os.File{theirs}
		return s.cmd.Start()
	}
	err = run(s.init.outside()...)
	if errors.Is(err, syscall.EACCES) { // the copy is where nothing may be executed
		err = run("/proc/self/exe")
	}
	if err != nil {
		ours.Close()
		return err
	}
	s.conn = ours
	return nil
}

// drop ends the process.
func (s *starter) drop() {
	if s.conn == nil {
		return
	}
	s.conn.Close()
	s.conn = nil
	_ = s.cmd.Process.Kill() // it may have been stopped
	_ = s.cmd.Wait()
}

func (s *starter) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.drop()
}

// settle lets the process go on, into the control groups of the files, and waits until the zone stands.
func (p *newProcess) settle(ctx context.Context, groups []*os.File) error {
	defer p.sync.Close()
	stop := context.AfterFunc(ctx, func() { _ = p.sync.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = p.sync.SetDeadline(time.Now().Add(3 * patience))
	if err := p.letGo(groups); err != nil {
		return fmt.Errorf("set up the zone: %w", err)
	}
	buf := make([]byte, zinit.ReportSize)
	n, err := io.ReadFull(p.sync, buf)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err != nil && n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("set up the zone: %w", err)
	}
	errno, what, err := zinit.ParseReport(buf[:n])
	if err == nil && errno != 0 {
		err = fmt.Errorf("set up the zone: %s: %w", what, syscall.Errno(errno))
	}
	return err
}

func (p *newProcess) letGo(groups []*os.File) error {
	conn, err := p.sync.SyscallConn()
	if err != nil {
		return err
	}
	fds := make([]int, len(groups))
	for i, f := range groups {
		fds[i] = int(f.Fd())
	}
	var e error
	if err := conn.Control(func(fd uintptr) { // the first bytes on a socket always have room
		e = unix.Sendmsg(int(fd), []byte{1}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
	}); err != nil {
		return err
	}
	return e
}

// abandon has the process give up.
func (p *newProcess) abandon() { p.sync.Close() }

// reap kills and buries a child of ours.
func reap(pid int) {
	_ = unix.Kill(pid, unix.SIGKILL)
	bury(pid)
}

// bury waits for a child that is dead or about to be.
func bury(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
