//go:build cgo

package oci

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
	v2             bool
	swap, ioWeight bool
	missing        []string
}

// cpuPeriod in microseconds is how often a cap is dealt out.
const cpuPeriod = 100_000

// probe looks once, with a group made for it, as some files are not in the root group.
var probe = sync.OnceValue(func() controllers {
	c := controllers{v2: cgroups.IsCgroup2UnifiedMode()}
	root := "/sys/fs/cgroup"
	has := func(controller, file string) bool {
		dir := filepath.Join(root, controller)
		if c.v2 {
			dir = root
		}
		dir = filepath.Join(dir, fmt.Sprintf("mobula-probe-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return false
		}
		defer os.Remove(dir)
		_, err := os.Stat(filepath.Join(dir, file))
		return err == nil
	}
	if c.v2 {
		c.swap, c.ioWeight = has("memory", "memory.swap.max"), has("io", "io.weight") || has("io", "io.bfq.weight")
	} else {
		c.swap = has("memory", "memory.memsw.limit_in_bytes")
		c.ioWeight = has("blkio", "blkio.weight") || has("blkio", "blkio.bfq.weight")
	}
	if !c.swap {
		c.missing = append(c.missing, "no swap accounting in the kernel: max_swap is not enforced")
	}
	if !c.ioWeight {
		c.missing = append(c.missing, "no I/O weights in the kernel: zfs_io_priority is not enforced")
	}
	return c
})

// shares scales vmadm's 100 to the kernel's 1024.
func shares(n int) uint64 {
	if n == 0 {
		n = 100
	}
	return uint64(min(max(n*1024/100, 2), 262144))
}

// resources are the limits in libcontainer's terms. What is zero is written as "no limit", so that an update lifts what was set.
func (d *Driver) resources(l zones.Limits) *cgroups.Resources {
	r := &cgroups.Resources{
		CpuShares:               shares(l.CPUShares),
		CpuPeriod:               cpuPeriod,
		CpuQuota:                -1,
		Memory:                  -1,
		MemoryCheckBeforeUpdate: true,
		PidsLimit:               new(int64(-1)),
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

// keepable reports a limit that was asked for and that this host cannot keep. The default weight is no request, and without swap
// accounting Capabilities().Missing tells, as every machine has a swap limit.
func (d *Driver) keepable(l zones.Limits) error {
	switch {
	case l.Swap > 0 && l.Memory == 0:
		return fmt.Errorf("%w: a swap limit needs a memory limit", zones.ErrInvalid)
	case !d.ctl.ioWeight && l.IOPriority != 0 && l.IOPriority != 100:
		return fmt.Errorf("%w: zfs_io_priority %d: the kernel has no I/O weights", zones.ErrNotSupported, l.IOPriority)
	}
	return nil
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
	if err := d.keepable(l); err != nil {
		return zones.OpError("update", id, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := d.resources(l)
	r.SkipDevices = true
	if err := m.cg.Set(r); err != nil {
		if isBusy(err) {
			err = fmt.Errorf("%w: %w", zones.ErrBusy, err)
		}
		before := d.resources(m.rec.Limits)
		before.SkipDevices = true
		return zones.OpError("update", id, errors.Join(err, m.cg.Set(before)))
	}
	l.TmpFS = m.rec.Limits.TmpFS // holds from the next start
	m.rec.Limits = l
	return zones.OpError("update", id, d.save(m.rec))
}

// isBusy reports whether the kernel, or the library for it, refused a limit because more is in use. The library does not
// keep the error number.
func isBusy(err error) bool {
	text := err.Error()
	return errors.Is(err, unix.EBUSY) || strings.Contains(text, "unable to set memory limit to") ||
		strings.HasPrefix(text, "rejecting memory")
}
