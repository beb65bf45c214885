package zones

import (
	"context"
	"fmt"
	"io"
)

// ExecRequest asks for a program inside a running machine.
type ExecRequest struct {
	// Args is the program and its arguments; a name without a slash is looked up on the request's PATH, inside.
	Args []string
	// Env is "NAME=value"; a PATH and HOME are added when missing, a TERM with a TTY.
	Env []string
	// Dir is the working directory, "/" when empty.
	Dir string
	// User is whose ids it has inside; zero is root.
	User User

	// Stdin, Stdout, Stderr are its streams; nil is /dev/null. An *os.File is handed over as it is, so nothing is
	// copied; it stays the caller's. With TTY, Stderr must be nil. What the program left in the background may hold its
	// outputs open: a driver reads on for a moment after the program's end, not longer.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// TTY gives it a new terminal of the given size as its controlling terminal.
	TTY  bool
	Size Size

	// NoNewPrivileges forbids gaining privileges through set-uid programs.
	NoNewPrivileges bool
	// Alone: when the program has ended, or was killed because ctx ended, everything else in the machine but its first program is killed,
	// and Wait returns when nothing of it is left, or with an error that is also [ErrTimeout]. Other programs of Exec die too. The machine must not have a first program of its own (Init.Args).
	Alone bool
	// Cores lets the program leave core dumps, as the host's kernel is set to make them.
	Cores bool
}

// Size is a terminal's, in characters.
type Size struct {
	Rows, Cols uint16
}

// Process is a program that Exec started. Its methods may be called from several goroutines.
type Process interface {
	// PID is its process id inside the machine.
	PID() int
	// Wait blocks until the program has ended and its streams are copied, and says how it ended. If the request's ctx
	// ended first, the program was killed and the error is ctx's. If the machine ended under it, the error is
	// [ErrNotRunning]. A program that exits with a code other than 0 is no error. Repeated calls give the same answer.
	Wait() (ExitStatus, error)
	// Signal sends a signal to the program and its process group. After the end: [ErrNotRunning].
	Signal(sig Signal) error
	// Resize changes the terminal's size. Without a TTY: [ErrNotSupported].
	Resize(s Size) error
}

// Run runs one program to its end: [Driver.Exec] and then [Process.Wait].
func Run(ctx context.Context, d Driver, id string, req ExecRequest) (ExitStatus, error) {
	p, err := d.Exec(ctx, id, req)
	if err != nil {
		return ExitStatus{}, err
	}
	return p.Wait()
}

// Check reports what no driver could accept in the request.
func (r *ExecRequest) Check() error {
	switch {
	case len(r.Args) == 0 || r.Args[0] == "":
		return fmt.Errorf("%w: exec: no program", ErrInvalid)
	case r.TTY && r.Stderr != nil:
		return fmt.Errorf("%w: exec: a terminal has one output, stderr must be nil", ErrInvalid)
	}
	return nil
}
