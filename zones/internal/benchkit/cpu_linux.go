package benchkit

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// CPU adds cpu-ms/op to the benchmark: the processor time from this call on of this process and its children, those that still run
// included. It is steadier than the clock where others use the machine, and counts what timers that were stopped leave out.
func CPU(b *testing.B) {
	begin := cpuTime(b)
	b.Cleanup(func() { b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/1e6, "cpu-ms/op") })
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
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	const tick = 10 * time.Millisecond // of the kernel's reports
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
