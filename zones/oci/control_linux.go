//go:build cgo

package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// socketName is the in-zone init's socket below RunDir.
const socketName = "init.sock"

// patience is how long an answer to a request that does nothing slow may take.
const patience = 10 * time.Second

// listen binds the socket that the in-zone init inherits. Its name is on the host only.
func listen(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "bind", Path: path, Err: err}
	}
	if err := unix.Listen(fd, 512); err != nil {
		f.Close()
		return nil, os.NewSyscallError("listen", err)
	}
	return f, nil
}

// dial connects to the in-zone init.
func (m *machine) dial(ctx context.Context) (*net.UnixConn, error) {
	c, err := m.connect(ctx)
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOENT) {
		return c, err
	}
	select {
	case <-m.gone:
		return nil, zones.ErrNotRunning
	case <-time.After(100 * time.Millisecond): // its end may be on the way to us
	}
	select {
	case <-m.gone:
		return nil, zones.ErrNotRunning
	default:
	}
	if m.serve == nil {
		return nil, err
	}
	m.serving.Lock() // one makes it, the others find it
	defer m.serving.Unlock()
	if c, err := m.connect(ctx); err == nil {
		return c, nil
	}
	if err := m.serve(); err != nil {
		return nil, fmt.Errorf("start the exec server that was killed inside the zone: %w", err)
	}
	return m.connect(ctx)
}

func (m *machine) connect(ctx context.Context) (*net.UnixConn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", filepath.Join(m.rec.RunDir, socketName))
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// send writes a request: header and body, with descriptors beside its first byte.
func send(c *net.UnixConn, h zinit.Header, body []byte, files ...*os.File) error {
	if len(body) > zinit.MaxBody {
		return fmt.Errorf("%w: arguments and environment of %d bytes", zones.ErrInvalid, len(body))
	}
	h.Length = uint32(len(body))
	buf := append(h.Append(make([]byte, 0, zinit.HeaderSize+len(body))), body...)
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(buf, oob, nil)
	if err == nil && n < len(buf) {
		_, err = c.Write(buf[n:])
	}
	return err
}

// receive reads one answer, with the descriptor it carries, if any.
func receive(c *net.UnixConn) (zinit.Header, *os.File, error) {
	var buf [zinit.HeaderSize]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(buf[:], oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return zinit.Header{}, nil, err
	}
	var file *os.File
	if msgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
		for _, msg := range msgs {
			fds, err := unix.ParseUnixRights(&msg)
			if err != nil {
				continue
			}
			for _, fd := range fds {
				if file != nil {
					unix.Close(fd)
					continue
				}
				unix.CloseOnExec(fd)
				_ = unix.SetNonblock(fd, true)
				file = os.NewFile(uintptr(fd), "from zone")
			}
		}
	}
	if n < len(buf) {
		if _, err := io.ReadFull(c, buf[n:]); err != nil {
			closeFile(file)
			return zinit.Header{}, nil, err
		}
	}
	h, err := zinit.ParseHeader(buf[:])
	if err != nil {
		closeFile(file)
		return zinit.Header{}, nil, err
	}
	return h, file, nil
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// ask sends one request on a connection of its own and returns the answer.
func (m *machine) ask(ctx context.Context, h zinit.Header, body []byte, files ...*os.File) (zinit.Header, *os.File, error) {
	c, err := m.dial(ctx)
	if err != nil {
		return zinit.Header{}, nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := send(c, h, body, files...); err != nil {
		return zinit.Header{}, nil, err
	}
	a, f, err := receive(c)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil && a.Type == zinit.MsgFailed {
		closeFile(f)
		return a, nil, syscall.Errno(a.A)
	}
	return a, f, err
}

// control is ask for requests whose answer is only that it was done.
func (m *machine) control(ctx context.Context, h zinit.Header, body []byte, files ...*os.File) error {
	_, f, err := m.ask(ctx, h, body, files...)
	closeFile(f)
	return err
}
