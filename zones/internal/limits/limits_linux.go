// Package limits turns a machine's limits into control groups, for drivers.
//
// [Probe] says what this kernel can enforce; [Controllers.Check] refuses a limit that it cannot, [Controllers.Resources] says the others in the
// library's terms, and [Controllers.Change] changes those of a running machine, all or none.
//
// Stability: internal.
package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// Controllers says which files of the control groups exist on this host, as kernels differ in what they were built with.
type Controllers struct {
	// V2: the host has version 2 alone.
	V2 bool
	// Swap and IOWeight: max_swap and zfs_io_priority can be enforced.
	Swap, IOWeight bool
	// Missing says so to people.
	Missing []string
}

// cpuPeriod in microseconds is how often a cap is dealt out.
const cpuPeriod = 100_000

// Probe looks once, with a group made for it, as some files are not in the root group.
var Probe = sync.OnceValue(func() Controllers {
	c := Controllers{V2: cgroups.IsCgroup2UnifiedMode()}
	has := func(controller string, files ...string) bool {
		dir := "/sys/fs/cgroup"
		if !c.V2 {
			dir = filepath.Join(dir, controller)
		}
		sweepProbes(dir)
		dir = filepath.Join(dir, fmt.Sprintf(probePrefix+"%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return false
		}
		defer os.Remove(dir)
		for _, f := range files {
			if _, err := os.Stat(filepath.Join(dir, f)); err == nil {
				return true
			}
		}
		return false
	}
	if c.V2 {
		c.Swap, c.IOWeight = has("memory", "memory.swap.max"), has("io", "io.weight", "io.bfq.weight")
	} else {
		c.Swap, c.IOWeight = has("memory", "memory.memsw.limit_in_bytes"), has("blkio", "blkio.weight", "blkio.bfq.weight")
	}
	if !c.Swap {
		c.Missing = append(c.Missing, "no swap accounting in the kernel: max_swap is not enforced")
	}
	if !c.IOWeight {
		c.Missing = append(c.Missing, "no I/O weights in the kernel: zfs_io_priority is not enforced")
	}
	return c
})

const probePrefix = "mobula-probe-"

// sweepProbes removes the groups of processes that were killed while they looked.
func sweepProbes(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, probePrefix+"*"))
	for _, group := range left {
		pid := strings.TrimPrefix(filepath.Base(group), probePrefix)
		if _, err := os.Stat(filepath.Join("/proc", pid)); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(group)
		}
	}
}

// Names are the limits that control groups enforce here, as zones.Capabilities has them.
func (c Controllers) Names() []string {
	names := []string{"cpu_cap", "cpu_shares", "memory", "lwps"}
	if c.Swap {
		names = append(names, "swap")
	}
	if c.IOWeight {
		names = append(names, "io_priority")
	}
	return names
}

// shares scales vmadm's 100 to the kernel's 1024.
func shares(n int) uint64 {
	if n == 0 {
		n = 100
	}
	return uint64(min(max(n*1024/100, 2), 262144))
}

// Resources are the limits in the library's terms. What is zero is written as "no limit", so that an update lifts what was set.
func (c Controllers) Resources(l zones.Limits) *cgroups.Resources {
	r := &cgroups.Resources{
		CpuShares: shares(l.CPUShares), CpuPeriod: cpuPeriod, CpuQuota: -1, Memory: -1, MemoryCheckBeforeUpdate: true, PidsLimit: new(int64(-1)),
	}
	if c.V2 {
		r.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(r.CpuShares)
	}
	if l.CPUCap > 0 {
		r.CpuQuota = int64(max(l.CPUCap*cpuPeriod/100, 1000)) // the kernel takes no less than a millisecond
	}
	if l.Memory > 0 {
		r.Memory = l.Memory
	}
	if c.Swap {
		r.MemorySwap = -1
		if l.Swap > 0 && l.Memory > 0 {
			r.MemorySwap = l.Swap
		}
	}
	if l.LWPs > 0 {
		r.PidsLimit = new(l.LWPs)
	}
	if c.IOWeight {
		w := l.IOPriority
		if w == 0 {
			w = 100
		}
		r.BlkioWeight = uint16(min(max(w, 10), 1000))
	}
	return r
}

// Check reports a limit that was asked for and that this host cannot keep. The default weight is no request, and without swap
// accounting Missing tells, as every machine has a swap limit.
func (c Controllers) Check(l zones.Limits) error {
	switch {
	case l.Swap > 0 && l.Memory == 0:
		return fmt.Errorf("%w: a swap limit needs a memory limit", zones.ErrInvalid)
	case !c.IOWeight && l.IOPriority != 0 && l.IOPriority != 100:
		return fmt.Errorf("%w: zfs_io_priority %d: the kernel has no I/O weights", zones.ErrNotSupported, l.IOPriority)
	}
	return nil
}

// Change brings a running machine's groups from one set of limits to another; after an error they are what they were, as far as the kernel lets
// them. A limit below what is in use gives zones.ErrBusy.
func (c Controllers) Change(cg cgroups.Manager, from, to zones.Limits) error {
	set := func(l zones.Limits) error {
		r := c.Resources(l)
		r.SkipDevices = true
		return Set(cg, r)
	}
	err := set(to)
	if err == nil {
		return nil
	}
	if isBusy(err) {
		err = fmt.Errorf("%w: %w", zones.ErrBusy, err)
	}
	return errors.Join(err, set(from))
}

// isBusy reports whether the kernel, or the library for it, refused a limit because more is in use. The library does not
// keep the error number.
func isBusy(err error) bool {
	text := err.Error()
	return errors.Is(err, unix.EBUSY) || strings.Contains(text, "unable to set memory limit to") ||
		strings.HasPrefix(text, "rejecting memory")
}
