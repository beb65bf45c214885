package dataset

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// NewUserNS makes a user namespace in which ids 0 to size-1 are the host's first to first+size-1, for
// [OpenOptions.UserNS]. Nothing lives in it; it vanishes with the file.
//
// A namespace needs a process to be made. Ours is stopped by ptrace before its first instruction and killed once the namespace
// is open, so no code of it ever runs.
func NewUserNS(first, size uint32) (*os.File, error) {
	if first == 0 || size == 0 || uint64(first)+uint64(size) > 1<<32-1 {
		return nil, fmt.Errorf("user namespace: bad id range %d+%d", first, size)
	}
	runtime.LockOSThread() // ptrace and the death signal belong to the thread
	defer runtime.UnlockOSThread()
	m := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(first), Size: int(size)}}
	p, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: m, GidMappings: m, GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return nil, fmt.Errorf("make user namespace: %w", err)
	}
	defer func() {
		p.Kill()
		p.Wait()
	}()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
	if err != nil {
		return nil, fmt.Errorf("open user namespace: %w", err)
	}
	return f, nil
}
