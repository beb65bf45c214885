//go:build linux && cgo

package oci_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reportCPU adds the processor time of each round to a benchmark: that of this process, of its children that have ended, and of the starter. It is
// steadier than the clock where others use the machine.
func reportCPU(b *testing.B) {
	begin := cpuTime(b)
	b.Cleanup(func() {
		b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/1e6, "cpu-ms/op")
	})
}

func cpuTime(t testing.TB) (sum time.Duration) {
	t.Helper()
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const tick = 10 * time.Millisecond
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	own := strconv.Itoa(os.Getpid())
	for _, name := range stats {
		data, _ := os.ReadFile(name)
		s := string(data)
		if f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]); len(f) > 12 && f[1] == own {
			for _, v := range f[11:13] {
				n, _ := strconv.Atoi(v)
				sum += time.Duration(n) * tick
			}
		}
	}
	return sum
}
