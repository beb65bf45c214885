package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

// controllers says which files of the control groups exist on this host, as kernels differ in what they were built with.
type controllers struct {
	v2, swap, ioWeight bool
	missing            []string
}

// probeControllers looks once, with a group made for it, as some files are not in the root group.
var probeControllers = sync.OnceValue(func() controllers {
	c := controllers{v2: cgroups.IsCgroup2UnifiedMode()}
	has := func(controller string, files ...string) bool {
		dir := "/sys/fs/cgroup"
		if !c.v2 {
			dir = filepath.Join(dir, controller)
		}
		dir = filepath.Join(dir, fmt.Sprintf("mobula-kvm-probe-%d", os.Getpid()))
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
	if c.v2 {
		c.swap, c.ioWeight = has("memory", "memory.swap.max"), has("io", "io.weight", "io.bfq.weight")
	} else {
		c.swap, c.ioWeight = has("memory", "memory.memsw.limit_in_bytes"), has("blkio", "blkio.weight", "blkio.bfq.weight")
	}
	if !c.swap {
		c.missing = append(c.missing, "no swap accounting in the kernel: max_swap is not enforced")
	}
	if !c.ioWeight {
		c.missing = append(c.missing, "no I/O weights in the kernel: zfs_io_priority is not enforced")
	}
	return c
})

const cpuPeriod = 100_000 // microseconds

// resources are the limits in the library's terms. What is zero is written as "no limit", so that an update lifts what was
// set. They hold for the emulator as a whole, the guest's memory and processors included. LockedMemory and TmpFS mean
// nothing to a VM: the emulator pins no memory, and what the guest does with its own is the guest's affair.
func (d *Driver) resources(l zones.Limits) *cgroups.Resources {
	shares := l.CPUShares
	if shares == 0 {
		shares = 100
	}
	r := &cgroups.Resources{
		CpuShares: uint64(min(max(shares*1024/100, 2), 262144)), CpuPeriod: cpuPeriod, CpuQuota: -1,
		Memory: -1, MemoryCheckBeforeUpdate: true, PidsLimit: new(int64(-1)), SkipDevices: true,
	}
	if d.ctl.v2 {
		r.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(r.CpuShares)
	}
	if l.CPUCap > 0 {
		r.CpuQuota = int64(max(l.CPUCap*cpuPeriod/100, 1000)) // the kernel takes no less than a millisecond
	}
	if l.Memory > 0 {
		r.Memory = l.Memory
	}
	if d.ctl.swap {
		r.MemorySwap = -1
		if l.Swap > 0 && l.Memory > 0 {
			r.MemorySwap = l.Swap
		}
	}
	if l.LWPs > 0 {
		r.PidsLimit = new(l.LWPs)
	}
	if d.ctl.ioWeight {
		w := l.IOPriority
		if w == 0 {
			w = 100
		}
		r.BlkioWeight = uint16(min(max(w, 10), 1000))
	}
	return r
}

// confine puts a new QEMU into its control groups.
func (d *Driver) confine(cg cgroups.Manager, pid int, l zones.Limits) error {
	if err := cg.Apply(pid); err != nil {
		return err
	}
	return cg.Set(d.resources(l))
}

// Update implements zones.Driver.
func (d *Driver) Update(ctx context.Context, id string, l zones.Limits) error {
	m, err := d.running("update", id)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return zones.OpError("update", id, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.cg.Set(d.resources(l)); err != nil {
		if isBusy(err) {
			err = fmt.Errorf("%w: %w", zones.ErrBusy, err)
		}
		return zones.OpError("update", id, errors.Join(err, m.cg.Set(d.resources(m.rec.Limits))))
	}
	m.rec.Limits = l
	return zones.OpError("update", id, d.save(m.rec))
}

// isBusy reports whether a limit was refused because more is in use. The library does not keep the error number.
func isBusy(err error) bool {
	text := err.Error()
	return errors.Is(err, unix.EBUSY) || strings.Contains(text, "unable to set memory limit to") ||
		strings.HasPrefix(text, "rejecting memory")
}
