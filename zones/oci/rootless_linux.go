//go:build cgo

package oci

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/limits"
	"github.com/mobulacloud/mobula/zones/oci/internal/zinit"
)

// withoutRoot is what a user's machines lack.
var withoutRoot = limits.Controllers{Missing: []string{
	"not root: no control groups, so cpu_cap, cpu_shares, max_physical_memory, max_swap, max_lwps and zfs_io_priority are not enforced",
	"not root: a machine has one user id, its root, which is the calling user; machines are not kept apart by ids",
	"not root: no network but a loopback",
}}

// tryNamespace reports why this user cannot have a namespace.
func (d *Driver) tryNamespace() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := d.starter.begin(zinit.Order{Type: zinit.OrderUserNS, Flags: zinit.OrderSingle, Size: 1}, null, null, null)
	if err != nil {
		return err
	}
	p.abandon()
	reap(p.pid)
	return nil
}

// noGroups stands for the control groups of a machine that has none.
type noGroups struct{ cgroups.Manager }

func (noGroups) Apply(int) error                   { return nil }
func (noGroups) AddPid(string, int) error          { return nil }
func (noGroups) Set(*cgroups.Resources) error      { return nil }
func (noGroups) Path(string) string                { return os.DevNull } // below which nothing can be
func (noGroups) GetPaths() map[string]string       { return nil }
func (noGroups) GetAllPids() ([]int, error)        { return nil, nil }
func (noGroups) GetStats() (*cgroups.Stats, error) { return cgroups.NewStats(), nil }
func (noGroups) OOMKillCount() (uint64, error)     { return 0, nil }
func (noGroups) Exists() bool                      { return false }
func (noGroups) Destroy() error                    { return nil }

// count reads the meters of a machine without control groups from what process 1 and those below it say of themselves.
func count(u *zones.Usage, init int) {
	const tick = 10 * time.Millisecond // of the kernel's reports
	parents, stats := map[int]int{}, map[int][]string{}
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, err := strconv.Atoi(strings.TrimPrefix(name, "/proc/"))
		if err != nil {
			continue
		}
		if f := stat(pid); len(f) > 21 {
			parents[pid], _ = strconv.Atoi(f[1])
			stats[pid] = f
		}
	}
	for pid, f := range stats {
		at := pid
		for n := 0; at > 1 && at != init && n < len(parents); n++ {
			at = parents[at]
		}
		if at != init {
			continue
		}
		number := func(i int) uint64 { n, _ := strconv.ParseUint(f[i], 10, 64); return n }
		u.Processes += int64(number(17))
		u.CPU.User += time.Duration(number(11)+number(13)) * tick // its own, and that of the children it has buried
		u.CPU.System += time.Duration(number(12)+number(14)) * tick
		u.Memory.RSS += number(21) * uint64(os.Getpagesize())
	}
	u.CPU.Total, u.Memory.Total = u.CPU.User+u.CPU.System, u.Memory.RSS
}
