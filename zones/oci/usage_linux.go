//go:build cgo

package oci

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"

	"github.com/mobulacloud/mobula/zones"
)

// Usage implements zones.Driver.
func (d *Driver) Usage(_ context.Context, id string) (zones.Usage, error) {
	m, err := d.machines.Running("usage", id)
	if err != nil {
		return zones.Usage{}, err
	}
	s, err := m.cg.GetStats()
	if err != nil {
		return zones.Usage{}, zones.OpError("usage", id, err)
	}
	c, mem := s.CpuStats, s.MemoryStats
	u := zones.Usage{Time: time.Now()}
	u.CPU = zones.CPUUsage{
		User: time.Duration(c.CpuUsage.UsageInUsermode), System: time.Duration(c.CpuUsage.UsageInKernelmode),
		Total: time.Duration(c.CpuUsage.TotalUsage), Throttled: time.Duration(c.ThrottlingData.ThrottledTime),
		Periods: c.ThrottlingData.Periods, ThrottledPeriods: c.ThrottlingData.ThrottledPeriods,
	}
	u.Memory = zones.MemoryUsage{Cache: mem.Cache, Total: mem.Usage.Usage, Peak: mem.Usage.MaxUsage, Limit: mem.Usage.Limit,
		RSS: first(mem.Stats, "total_rss", "anon", "rss"), Swap: first(mem.Stats, "total_swap", "swap")}
	if u.Memory.Swap == 0 {
		u.Memory.Swap = mem.SwapOnlyUsage.Usage
	}
	u.Memory.OOMKills, _ = m.cg.OOMKillCount()
	u.Disk = zones.DiskUsage{
		ReadBytes: sum(s.BlkioStats.IoServiceBytesRecursive, "Read"), WriteBytes: sum(s.BlkioStats.IoServiceBytesRecursive, "Write"),
		ReadOps: sum(s.BlkioStats.IoServicedRecursive, "Read"), WriteOps: sum(s.BlkioStats.IoServicedRecursive, "Write"),
	}
	u.Processes = int64(s.PidsStats.Current)
	if d.rootless {
		count(&u, m.rec.PID)
	}
	u.Network = interfaces(m.rec.PID)
	return u, nil
}

func first(m map[string]uint64, names ...string) uint64 {
	for _, n := range names {
		if v, ok := m[n]; ok {
			return v
		}
	}
	return 0
}

func sum(list []cgroups.BlkioStatEntry, op string) (n uint64) {
	for _, e := range list {
		if strings.EqualFold(e.Op, op) {
			n += e.Value
		}
	}
	return n
}

// interfaces reads the counters as the zone sees them.
func interfaces(pid int) []zones.NetworkUsage {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil
	}
	var out []zones.NetworkUsage
	for line := range strings.SplitSeq(string(data), "\n") {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || len(f) < 16 || name == "lo" {
			continue
		}
		n := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
		out = append(out, zones.NetworkUsage{Interface: name, RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3),
			TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11)})
	}
	return out
}
