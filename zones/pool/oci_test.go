//go:build linux

package pool_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/benchkit"
	"github.com/mobulacloud/mobula/zones/oci"
	"github.com/mobulacloud/mobula/zones/pool"
)

// containers is a factory of real OS containers with the host's programs and an empty root.
func containers(t testing.TB) *pool.Machines {
	t.Helper()
	testenv.NeedRoot(t)
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d, err := oci.New(oci.Config{StateDir: filepath.Join(dir, "oci"), CgroupParent: "/mobula-pool-test"})
	if err != nil {
		t.Fatal(err)
	}
	f := &pool.Machines{
		Driver: d,
		Prepare: func(_ context.Context, c pool.Class) (zones.Machine, error) {
			id := uuid.NewString()
			m := zones.Machine{ID: id, Spec: &zones.Spec{Brand: zones.BrandMinimal}, RunDir: filepath.Join(dir, id[:8]),
				Root: zones.Root{Path: filepath.Join(dir, id)}, IDs: zones.IDRange{First: 1 << 20, Size: 65536}, Limits: c.Limits,
				Mounts: []zones.Mount{{Source: "/usr", Target: "/usr", ReadOnly: true}}}
			if err := os.Mkdir(m.RunDir, 0o700); err != nil {
				return m, err
			}
			for _, sub := range []string{"", "usr", "proc", "dev", "sys", "etc", "root", "var", "tmp"} {
				if err := os.Mkdir(filepath.Join(m.Root.Path, sub), 0o755); err != nil {
					return m, err
				}
			}
			for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
				if to, err := os.Readlink("/" + link); err == nil {
					if err := os.Symlink(to, filepath.Join(m.Root.Path, link)); err != nil {
						return m, err
					}
				}
			}
			return m, nil
		},
		Release: func(_ context.Context, m zones.Machine) error {
			if err := os.RemoveAll(m.Root.Path); err != nil {
				return err
			}
			return os.RemoveAll(m.RunDir)
		},
	}
	t.Cleanup(func() {
		if err := f.Sweep(context.Background()); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// running runs a pool until the test ends.
func running(t testing.TB, f *pool.Machines, max int) *pool.Pool {
	t.Helper()
	p, err := pool.New(pool.Config{Factory: f, Max: max})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func sh(t testing.TB, f *pool.Machines, z pool.Zone, script string) string {
	t.Helper()
	var out bytes.Buffer
	st, err := zones.Run(t.Context(), f.Driver, z.ID, zones.ExecRequest{Args: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	if err != nil || !st.Success() {
		t.Fatalf("sh -c %q: %+v, %v\n%s", script, st, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

// state prints all of a zone that a tenant could have changed.
const state = `
echo files: $(find / -xdev \( -path /proc -o -path /usr \) -prune -o -type f -print | sort)
echo shm: $(ls -A /dev/shm) mq: $(ls -A /dev/mqueue) tmp: $(ls -A /tmp) dev: $(ls -A /dev)
echo ipc: $(tail -q -n +2 /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg)
echo processes: $(ps ax -o comm= | grep -vE '^(sh|ps|grep|sort)$')
echo sockets: $(tail -q -n +2 /proc/net/tcp /proc/net/udp /proc/net/unix)
echo name: $(cat /proc/sys/kernel/hostname)
echo mounts: $(grep -v ' / ' /proc/self/mounts | cut -d' ' -f2 | sort)`

// TestNothingOfTheLastTenantIsLeft uses a zone in every way there is, returns it, and compares what the next tenant finds with what
// a tenant of a new zone finds.
func TestNothingOfTheLastTenantIsLeft(t *testing.T) {
	f := containers(t)
	p := running(t, f, 1)
	c := pool.Class{Image: "sparse", Limits: zones.Limits{Memory: 128 << 20, Swap: 128 << 20, LWPs: 100, TmpFS: 16 << 20}}

	first := get(t, p, c)
	clean := sh(t, f, first.Zone(), state)
	gift, err := os.CreateTemp(t.TempDir(), "gift")
	if err != nil {
		t.Fatal(err)
	}
	defer gift.Close()
	g, _ := zones.As[zones.Giver](f.Driver)
	for _, at := range []string{"/tmp/given", "/var/given/object"} {
		if err := g.Give(t.Context(), first.Zone().ID, zones.Gift{File: gift, Path: at}); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, f, first.Zone(), `
for d in /tmp /etc /root /var /dev /dev/shm; do echo secret > $d/left; done
ipcmk -M 4096 && ipcmk -S 2 && ipcmk -Q
setsid sleep 1000 & setsid sh -c 'trap "" TERM HUP; sleep 1001' &
perl -MIO::Socket -e '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => "0.0.0.0", LocalPort => 80) or die; $u = IO::Socket::UNIX->new(Local => "/tmp/sock", Listen => 1) or die; print "listening\n"; exec "sleep", "1002"' > /tmp/log &
until grep -q listening /tmp/log; do sleep 0.05; done
dd if=/dev/zero of=/dev/shm/fill bs=1M count=32 2>/dev/null
i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done`)
	used, err := f.Driver.Usage(t.Context(), first.Zone().ID)
	if err != nil {
		t.Fatal(err)
	}
	if dirty := sh(t, f, first.Zone(), state); dirty == clean || !strings.Contains(dirty, "sleep") || !strings.Contains(dirty, "/var/given") {
		t.Fatalf("the test sees nothing of what it did:\n%s", dirty)
	}
	pid := status(t, f, first.Zone()).PID
	root := first.Zone().Machine.Root.Path
	first.Return()

	second := get(t, p, c)
	defer second.Return()
	if second.Zone().ID != first.Zone().ID {
		t.Fatalf("the zone was replaced, not reset")
	}
	// Read before anything runs in it.
	fresh, err := f.Driver.Usage(t.Context(), second.Zone().ID)
	if err != nil {
		t.Fatal(err)
	}
	if fresh.CPU.Total >= used.CPU.Total || fresh.Memory.Peak >= 32<<20 || fresh.Processes != 1 || fresh.Memory.OOMKills != 0 {
		t.Errorf("meters go on: %+v, the last tenant's were %+v", fresh, used)
	}
	if got := sh(t, f, second.Zone(), state); got != clean {
		t.Errorf("the next tenant finds\n%s\nwant\n%s", got, clean)
	}
	if st := status(t, f, second.Zone()); st.PID == pid {
		t.Errorf("process 1 is still %d", pid)
	}
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Errorf("the last tenant's root is still there: %v", err)
	}
	if con := consoleText(t, f, second.Zone()); con != "" {
		t.Errorf("the console shows %q", con)
	}
}

func status(t testing.TB, f *pool.Machines, z pool.Zone) zones.Status {
	t.Helper()
	st, err := f.Driver.Status(t.Context(), z.ID)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// consoleText is what the console has kept.
func consoleText(t testing.TB, f *pool.Machines, z pool.Zone) string {
	t.Helper()
	c, _ := zones.As[zones.Consoler](f.Driver)
	con, err := c.Console(t.Context(), z.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer con.Close()
	type deadliner interface{ SetReadDeadline(time.Time) error }
	if err := con.(deadliner).SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1024)
	n, _ := con.Read(buf)
	return string(buf[:n])
}

// BenchmarkHandOut is a warm real zone taken from the pool, and the reset that follows it, on its own.
func BenchmarkHandOut(b *testing.B) {
	f := containers(b)
	p := running(b, f, 4)
	c := benchClass
	p.Want(c, 4)
	var out time.Duration
	for b.Loop() {
		for p.Stats().Warm < 1 {
			time.Sleep(time.Millisecond)
		}
		begin := time.Now()
		l, err := p.Get(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		out += time.Since(begin)
		l.Return()
	}
	b.ReportMetric(float64(out.Microseconds())/float64(b.N), "µs/hand-out")
}

var benchClass = pool.Class{Image: "sparse", Limits: zones.Limits{Memory: 128 << 20, Swap: 128 << 20, LWPs: 100}}

// BenchmarkReset is a warm zone between two tenants: its end, a new root and its start.
func BenchmarkReset(b *testing.B) { benchmarkReset(b, 1) }

// BenchmarkResetTwo is the same by two workers, as a pool has them.
func BenchmarkResetTwo(b *testing.B) { benchmarkReset(b, 2) }

func benchmarkReset(b *testing.B, workers int) {
	f := containers(b)
	rounds := make(chan struct{})
	errs := make([]error, workers)
	var spread benchkit.Spread
	var wg sync.WaitGroup
	for w := range workers {
		z, err := f.Make(b.Context(), benchClass)
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			for range rounds {
				if errs[w] == nil {
					begin := time.Now()
					z, errs[w] = f.Reset(b.Context(), z)
					spread.Add(begin)
				}
			}
			if errs[w] == nil {
				errs[w] = f.Discard(context.WithoutCancel(b.Context()), z)
			}
		})
	}
	benchkit.CPU(b)
	begin := time.Now()
	for b.Loop() {
		rounds <- struct{}{}
	}
	close(rounds)
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "resets/s")
	spread.Report(b)
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
}
