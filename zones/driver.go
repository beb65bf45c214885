package zones

import (
	"context"
	"time"
)

// Driver runs machines. One machine is one zone between a start and its end; a stopped zone has no machine, so a
// driver knows nothing of it, and whatever a zone keeps (file systems, addresses, records) belongs to the caller.
//
// All methods may be called from several goroutines at once, for the same and for different machines. A driver
// serialises what must not run together on one machine, so that the outcome is as if the calls came one after another.
// Nothing passed in is kept or changed after the call returns, except the readers and writers of an [ExecRequest],
// which are used until its [Process] has ended. No method retries: an error says whether it is worth it ([Temporary]).
//
// Errors are *[Error] wrapping one of the sentinels where one fits. An id that no machine has gives [ErrNotExist]
// from every method but Destroy.
//
// # Life of a machine
//
//	h, err := d.Start(ctx, m)      // running; store h before telling anybody
//	...
//	st, err := d.Wait(ctx, m.ID)   // ended, with a status
//	err = d.Destroy(ctx, m.ID)     // forgotten; the same id may start again
//
// After a restart of the calling process, for each stored handle:
//
//	err := d.Recover(ctx, h)       // nil: running or ended, Wait says; ErrNotExist: gone without a trace
//
// A machine must not end because the process that started it ends, by whatever means, kill -9 included.
// Capabilities().Survives says whether a driver keeps that.
type Driver interface {
	// Capabilities says what the driver can do on this host. The answer does not change while the driver lives.
	Capabilities() Capabilities

	// Start brings the machine up and returns when its first program runs (an OS container) or its firmware does
	// (a VM), not when services inside are ready.
	//
	// On error nothing is left behind: no process, mount, control group or file of the driver's, and the id may be
	// used again at once. If ctx ends first, the same holds, and the error is ctx's; the clean-up itself is not cut
	// short by ctx. A machine that runs or has ended and is not destroyed gives [ErrExist]. What the driver cannot
	// keep (a limit, an isolation, a disk) is refused with [ErrNotSupported] rather than left out. A first program that
	// cannot be started gives a *[StartError], unless it becomes process 1 itself (Init.Own): then the machine ends at once.
	//
	// If the calling process dies inside Start, the machine may exist without a stored handle: Destroy with its id
	// removes it, and callers do that for every id they were starting.
	Start(ctx context.Context, m Machine) (Handle, error)

	// Recover takes over a machine that an earlier process started. The machine is not disturbed. Afterwards all
	// methods work as if this process had started it, exec and console included. Recovering a machine the driver
	// already holds does nothing. A handle of another driver or of an unknown version gives [ErrNotSupported]; one
	// whose machine is gone and whose end nobody recorded gives [ErrNotExist].
	Recover(ctx context.Context, h Handle) error

	// Status says how the machine is now.
	Status(ctx context.Context, id string) (Status, error)

	// Wait blocks until the machine has ended and says how. It may be called by many and again: all get the same
	// answer until Destroy. If ctx ends first the machine is not touched and ctx's error is returned. Destroying
	// the machine ends every Wait on it.
	Wait(ctx context.Context, id string) (ExitStatus, error)

	// Stop asks the machine to shut down in order (SIGTERM to its init, ACPI power button) and returns when it has
	// ended. After grace it returns [ErrTimeout] and the machine may still run; forcing is the caller's decision
	// (Signal with SIGKILL). grace 0 means the driver's own default. A machine that has already ended: nil.
	Stop(ctx context.Context, id string, grace time.Duration) error

	// Signal sends a signal to the machine's first program. SIGKILL ends the whole machine at once, with every
	// process in it; it need not have ended when Signal returns (Wait says). What a driver cannot deliver is
	// [ErrNotSupported]. A machine that has ended gives [ErrNotRunning].
	Signal(ctx context.Context, id string, sig Signal) error

	// Exec starts a program inside a running machine and returns when it has started. When ctx ends, the program
	// and what it started in its session are killed. If the calling process dies the same happens. A program that
	// cannot be started (no such file, not executable) gives a *[StartError]. Needs Capabilities().Exec.
	Exec(ctx context.Context, id string, req ExecRequest) (Process, error)

	// Update changes the limits of a running machine. All of l is applied, or, on error, what was before holds as
	// far as the kernel lets it. Lowering memory below use gives [ErrBusy] and changes nothing. Setting the same
	// limits again does nothing.
	Update(ctx context.Context, id string, l Limits) error

	// Usage reads the machine's meters. It is cheap enough to call once a second for every machine.
	Usage(ctx context.Context, id string) (Usage, error)

	// Destroy ends the machine by force if it runs and removes every trace of it that the driver made. It is the
	// undo of Start: it works from the id alone, in a process that never saw the machine, after a crash at any
	// point of Start, and may be repeated. An id that never was: nil. On error it may be called again. What the
	// caller prepared (root, disks, network namespace) is left as it is.
	Destroy(ctx context.Context, id string) error
}

// Handle is what must outlive the process to find a running machine again. The caller stores it, byte for byte, and
// reads nothing into Data.
type Handle struct {
	// ID is the machine's.
	ID string `json:"id"`
	// Driver is the name of the driver that made it ([Capabilities.Name]).
	Driver string `json:"driver"`
	// Version is the format of Data. A driver reads every version it ever wrote.
	Version int `json:"version"`
	// Data belongs to the driver.
	Data []byte `json:"data"`
}

// Phase is a machine's own state, as the driver sees it.
type Phase string

const (
	// PhaseRunning is a machine whose first program runs.
	PhaseRunning Phase = "running"
	// PhaseEnded is a machine that ran and ended and is not destroyed yet.
	PhaseEnded Phase = "ended"
)

// Status is a machine at one instant.
type Status struct {
	Phase Phase `json:"phase"`
	// PID is the machine's first process as the host sees it (the QEMU process of a VM), 0 once it has ended.
	PID int `json:"pid"`
	// Started is when the machine came up.
	Started time.Time `json:"started"`
	// Exit says how it ended; zero while it runs.
	Exit ExitStatus `json:"exit"`
	// Detail is for people and varies by driver, such as {"accelerator": "tcg"}.
	Detail map[string]string `json:"detail,omitempty"`
}

// ExitStatus says how a program or a machine ended.
type ExitStatus struct {
	// Code is the exit code, 0 to 255; 128 plus the signal's number when a signal ended it.
	Code int `json:"code"`
	// Signal is what ended it, empty if it exited by itself.
	Signal Signal `json:"signal,omitempty"`
	// Core: it left a core dump.
	Core bool `json:"core,omitempty"`
	// OOM: the memory limit had something killed in the machine.
	OOM bool `json:"oom,omitempty"`
	// Reboot: the machine asked to be started again rather than to stay down.
	Reboot bool `json:"reboot,omitempty"`
	// Unknown: it ended while nobody watched and the system kept no record; Code is then -1.
	Unknown bool `json:"unknown,omitempty"`
	// Time is when it ended, as well as is known.
	Time time.Time `json:"time,omitzero"`
}

// Success reports an exit with code 0 that is known.
func (s ExitStatus) Success() bool { return s.Code == 0 && s.Signal == "" && !s.Unknown }
