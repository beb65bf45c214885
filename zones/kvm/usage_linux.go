package kvm

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// Usage implements zones.Driver. Processes are not counted: they are the guest's own affair.
func (d *Driver) Usage(ctx context.Context, id string) (zones.Usage, error) {
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
	u.Memory = zones.MemoryUsage{
		Cache: mem.Cache, Total: mem.Usage.Usage, Peak: mem.Usage.MaxUsage, Limit: mem.Usage.Limit, Swap: mem.SwapOnlyUsage.Usage,
	}
	for _, name := range []string{"total_rss", "anon", "rss"} {
		if v, ok := mem.Stats[name]; ok {
			u.Memory.RSS = v
			break
		}
	}
	u.Memory.OOMKills, _ = m.cg.OOMKillCount()
	var stats []struct {
		Stats struct {
			RdBytes      uint64 `json:"rd_bytes"`
			WrBytes      uint64 `json:"wr_bytes"`
			RdOperations uint64 `json:"rd_operations"`
			WrOperations uint64 `json:"wr_operations"`
		} `json:"stats"`
	}
	if err := m.execute(ctx, "query-blockstats", nil, &stats); err != nil {
		return zones.Usage{}, zones.OpError("usage", id, err)
	}
	for _, b := range stats {
		u.Disk.ReadBytes += b.Stats.RdBytes
		u.Disk.WriteBytes += b.Stats.WrBytes
		u.Disk.ReadOps += b.Stats.RdOperations
		u.Disk.WriteOps += b.Stats.WrOperations
	}
	for i, n := range m.rec.Interfaces {
		u.Network = append(u.Network, tapUsage(i, n))
	}
	return u, nil
}

// tapUsage reads a tap's counters from the guest's side: what the host's end sends is what the guest receives.
func tapUsage(i int, n zones.Interface) zones.NetworkUsage {
	u := zones.NetworkUsage{Interface: "net" + strconv.Itoa(i)}
	var data []byte
	_ = inNetNS(n.NetNS, func() (err error) {
		data, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	})
	for line := range strings.SplitSeq(string(data), "\n") {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) != n.Host || len(f) < 16 {
			continue
		}
		v := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
		u.TxBytes, u.TxPackets, u.TxErrors, u.TxDropped = v(0), v(1), v(2), v(3)
		u.RxBytes, u.RxPackets, u.RxErrors, u.RxDropped = v(8), v(9), v(10), v(11)
	}
	return u
}
