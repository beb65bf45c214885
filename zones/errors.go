package zones

import (
	"errors"
	"io/fs"
	"os"
)

// Sentinels for what a caller acts on. Match them with errors.Is.
var (
	// ErrNotExist: no such machine, zone, snapshot or property. Is fs.ErrNotExist too.
	ErrNotExist = sentinel("does not exist", fs.ErrNotExist)
	// ErrExist: there is one already. Is fs.ErrExist too.
	ErrExist = sentinel("already exists", fs.ErrExist)
	// ErrNotRunning: the machine has ended or not begun.
	ErrNotRunning = errors.New("not running")
	// ErrRunning: the machine runs and must not for this.
	ErrRunning = errors.New("running")
	// ErrBusy: something else is in progress, or in use; trying later may work.
	ErrBusy = errors.New("busy")
	// ErrTimeout: not within the time given. Is os.ErrDeadlineExceeded too.
	ErrTimeout = sentinel("timed out", os.ErrDeadlineExceeded)
	// ErrInvalid: what was asked for makes no sense, whenever it is asked. Is fs.ErrInvalid too.
	ErrInvalid = sentinel("invalid", fs.ErrInvalid)
	// ErrNotSupported: this driver or host cannot. Is errors.ErrUnsupported too.
	ErrNotSupported = sentinel("not supported", errors.ErrUnsupported)
	// ErrFailed: the zone's provisioning failed, for good.
	ErrFailed = errors.New("provisioning failed")
	// ErrNoSpace: a limit of the host or of the zone is reached.
	ErrNoSpace = errors.New("no space")
	// ErrPermission: our process may not. Is fs.ErrPermission too.
	ErrPermission = sentinel("permission denied", fs.ErrPermission)
	// ErrClosed: the driver, host or pool was closed.
	ErrClosed = sentinel("closed", fs.ErrClosed)
)

type sentinelError struct {
	text string
	is   error
}

func sentinel(text string, is error) error { return &sentinelError{text, is} }

func (e *sentinelError) Error() string        { return e.text }
func (e *sentinelError) Is(target error) bool { return target == e.is }

// Error says what failed on which zone, in the style of fs.PathError.
type Error struct {
	// Op is the verb: "start", "exec".
	Op string
	// Zone is the id.
	Zone string
	// Err is the cause.
	Err error
}

func (e *Error) Error() string {
	if e.Zone == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " zone " + e.Zone + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// OpError wraps err in an *Error, unless err is nil or already one.
func OpError(op, zone string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Op: op, Zone: zone, Err: err}
}

// StartError is a program that could not be started inside a machine.
type StartError struct {
	// Program is what was to be started.
	Program string
	// Err is the system's answer: fs.ErrNotExist, fs.ErrPermission, …
	Err error
}

func (e *StartError) Error() string { return "start " + e.Program + ": " + e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// ExitCode is what a shell would report: 127 for a program that is not there, 126 for one that cannot run.
func (e *StartError) ExitCode() int {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

// Temporary reports whether the same call may succeed later without a change of what is asked.
func Temporary(err error) bool { return errors.Is(err, ErrBusy) || errors.Is(err, ErrTimeout) }
