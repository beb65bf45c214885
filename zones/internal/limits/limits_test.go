//go:build linux

package limits_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/limits"
)

func TestResources(t *testing.T) {
	none := cgroups.Resources{CpuShares: 1024, CpuPeriod: 100_000, CpuQuota: -1, Memory: -1, MemoryCheckBeforeUpdate: true, PidsLimit: new(int64(-1))}
	with := func(f func(*cgroups.Resources)) cgroups.Resources {
		r := none
		f(&r)
		return r
	}
	all := limits.Controllers{Swap: true, IOWeight: true}
	tests := []struct {
		name string
		c    limits.Controllers
		l    zones.Limits
		want cgroups.Resources
	}{
		{"nothing is no limit", limits.Controllers{}, zones.Limits{}, none},
		{"all", all, zones.Limits{CPUCap: 150, CPUShares: 50, Memory: 64 << 20, Swap: 96 << 20, LWPs: 30, IOPriority: 500}, with(func(r *cgroups.Resources) {
			r.CpuQuota, r.CpuShares, r.Memory, r.MemorySwap, r.PidsLimit, r.BlkioWeight = 150_000, 512, 64<<20, 96<<20, new(int64(30)), 500
		})},
		{"what the kernel cannot is left out", limits.Controllers{}, zones.Limits{Memory: 1 << 20, Swap: 1 << 20, IOPriority: 100}, with(func(r *cgroups.Resources) { r.Memory = 1 << 20 })},
		{"no swap", all, zones.Limits{Memory: 1 << 20, Swap: 1 << 20}, with(func(r *cgroups.Resources) { r.Memory, r.MemorySwap, r.BlkioWeight = 1<<20, 1<<20, 100 })},
		{"the least and the most", all, zones.Limits{CPUCap: 1, CPUShares: 65535, IOPriority: 1}, with(func(r *cgroups.Resources) {
			r.CpuQuota, r.CpuShares, r.MemorySwap, r.BlkioWeight = 1000, 262144, -1, 10
		})},
		{"version 2", limits.Controllers{V2: true}, zones.Limits{CPUShares: 100}, with(func(r *cgroups.Resources) { r.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(1024) })},
	}
	for _, tt := range tests {
		if d := cmp.Diff(&tt.want, tt.c.Resources(tt.l)); d != "" {
			t.Errorf("%s:\n%s", tt.name, d)
		}
	}
}

func TestCheck(t *testing.T) {
	all, none := limits.Controllers{Swap: true, IOWeight: true}, limits.Controllers{}
	for name, tt := range map[string]struct {
		c    limits.Controllers
		l    zones.Limits
		want error
	}{
		"defaults":              {none, zones.Limits{IOPriority: 100, Memory: 1, Swap: 1}, nil},
		"a weight":              {all, zones.Limits{IOPriority: 200}, nil},
		"a weight without any":  {none, zones.Limits{IOPriority: 200}, zones.ErrNotSupported},
		"swap without a memory": {all, zones.Limits{Swap: 1}, zones.ErrInvalid},
	} {
		if err := tt.c.Check(tt.l); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if n := all.Names(); !slices.Contains(n, "swap") || !slices.Contains(n, "io_priority") || slices.Contains(none.Names(), "swap") {
		t.Errorf("names %v and %v", n, none.Names())
	}
	if c := limits.Probe(); c.Swap == slices.ContainsFunc(c.Missing, func(s string) bool { return s[:7] == "no swap" }) {
		t.Errorf("probe = %+v", c)
	}
}
