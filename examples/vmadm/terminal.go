package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/mobulacloud/mobula/zones"
)

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// raw puts our terminal, if there is one, into raw mode.
func (c *command) raw() (size func() zones.Size, restore func()) {
	f, ok := c.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() zones.Size { return zones.Size{Rows: 24, Cols: 80} }, func() {}
	}
	fd := int(f.Fd())
	old, err := term.MakeRaw(fd)
	restore = func() {}
	if err == nil {
		restore = func() { term.Restore(fd, old) }
	}
	return func() zones.Size {
		w, h, err := term.GetSize(fd)
		if err != nil {
			return zones.Size{Rows: 24, Cols: 80}
		}
		return zones.Size{Rows: uint16(h), Cols: uint16(w)}
	}, restore
}

// exec runs a program inside and ends with its status.
func (c *command) exec(ctx context.Context, in call) error {
	req := zones.ExecRequest{
		Args: in.args, Env: in.opts['e'], Dir: in.value('d', ""), Stdin: c.stdin, Stdout: c.stdout, Stderr: c.stderr, TTY: in.has('t'),
	}
	if in.has('u') {
		uid, gid, ok := strings.Cut(in.value('u', ""), ":")
		n, err := strconv.ParseUint(uid, 10, 16)
		if err != nil {
			return usageError("-u wants UID or UID:GID")
		}
		req.User.UID = uint32(n)
		if ok {
			if n, err = strconv.ParseUint(gid, 10, 16); err != nil {
				return usageError("-u wants UID or UID:GID")
			}
			req.User.GID = uint32(n)
		}
	}
	return c.with(ctx, func(s *server) error {
		size, restore := func() zones.Size { return zones.Size{} }, func() {}
		if req.TTY {
			size, restore = c.raw()
			req.Stderr, req.Size = nil, size()
		}
		defer restore()
		p, err := s.Exec(ctx, in.uuid, req)
		if err != nil {
			return err
		}
		if req.TTY {
			defer follow(func() { _ = p.Resize(size()) })()
		}
		st, err := p.Wait()
		if err != nil {
			return err
		}
		if st.Code != 0 {
			return exitCode(st.Code)
		}
		return nil
	})
}

// follow calls f whenever our window changes.
func follow(f func()) (stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-ch:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(done)
	}
}

// console joins our terminal to a zone's, until CTRL-] or the zone's end.
func (c *command) console(ctx context.Context, in call) error {
	return c.with(ctx, func(s *server) error {
		con, err := s.Console(ctx, in.uuid)
		if err != nil {
			return err
		}
		defer con.Close()
		if isTerminal(c.stdin) {
			c.say("[Connected to zone '%s' console; CTRL-] leaves]", in.uuid)
		}
		size, restore := c.raw()
		defer restore()
		if r, ok := con.(zones.ConsoleResizer); ok {
			_ = r.Resize(size())
			defer follow(func() { _ = r.Resize(size()) })()
		}
		end := make(chan struct{}, 2)
		go func() {
			io.Copy(c.stdout, con)
			end <- struct{}{}
		}()
		go func() {
			if keys(con, c.stdin) {
				end <- struct{}{}
			}
		}()
		select {
		case <-end:
		case <-ctx.Done():
		}
		return nil
	})
}

// keys copies what is typed until CTRL-], and reports whether that came. At the end of a pipe the console stays, to be read.
func keys(w io.Writer, r io.Reader) bool {
	const escape = 0x1d
	buf := make([]byte, 1024)
	for {
		n, err := r.Read(buf)
		for i, b := range buf[:n] {
			if b == escape {
				w.Write(buf[:i])
				return true
			}
		}
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return false
			}
		}
		if err != nil {
			return false
		}
	}
}
