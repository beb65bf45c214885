package agent

import (
	"os"

	"golang.org/x/sys/unix"
)

// newPipe makes a pipe whose reading end blocks, as programs expect, and whose writing end is this process's.
func newPipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	if err := unix.SetNonblock(fds[1], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, fetchBuffer) // as far as the host lets it
	return os.NewFile(uintptr(fds[0]), "inputs"), os.NewFile(uintptr(fds[1]), "inputs"), nil
}
