//go:build linux

package kvm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// modules are the drivers that the tests' guest needs and Debian's cloud kernel has as files, in the order of their needs.
var modules = []string{
	"drivers/acpi/button.ko", "drivers/input/evdev.ko", "net/core/failover.ko", "drivers/net/net_failover.ko",
	"drivers/virtio/virtio.ko", "drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
	"drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko", "drivers/net/virtio_net.ko",
}

// networkModules are what the tests of package network need.
var networkModules = []string{
	"net/llc/llc.ko", "net/802/stp.ko", "net/802/garp.ko", "net/802/mrp.ko", "net/8021q/8021q.ko", "net/bridge/bridge.ko",
	"drivers/net/veth.ko", "drivers/net/tun.ko", "lib/libcrc32c.ko", "net/netfilter/nfnetlink.ko", "net/netfilter/nf_tables.ko",
	"net/bridge/netfilter/nft_meta_bridge.ko", "net/ipv4/netfilter/nf_defrag_ipv4.ko", "net/ipv6/netfilter/nf_defrag_ipv6.ko",
	"net/netfilter/nf_conntrack.ko", "net/netfilter/nf_nat.ko", "net/netfilter/nft_chain_nat.ko", "net/netfilter/nft_masq.ko",
	"net/netfilter/nft_ct.ko", "net/netfilter/nft_limit.ko", "net/netfilter/nf_log_syslog.ko", "net/netfilter/nft_log.ko", "net/ipv4/udp_tunnel.ko",
	"net/ipv6/ip6_udp_tunnel.ko", "drivers/net/vxlan/vxlan.ko",
}

// guestKernel is Debian's cloud kernel and our own initial file system, made once a run.
var guestKernel = sync.OnceValues(func() (*Kernel, error) { return makeGuest(modules, "") })

// makeGuest makes a kernel and an initial file system with the modules and, if it is not empty, the test binary of a package for
// the guest to run.
func makeGuest(modules []string, tested string) (*Kernel, error) {
	root, err := findKernel()
	if err != nil {
		return nil, err
	}
	images, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*-cloud-amd64"))
	if len(images) == 0 {
		return nil, fmt.Errorf("no cloud kernel below %s", root)
	}
	image := images[len(images)-1]
	version := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
	dir, err := os.MkdirTemp("", "mobula-guest-")
	if err != nil {
		return nil, err
	}
	guestDirs = append(guestDirs, dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	init := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", init, "./internal/guestinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the guest: %w: %s", err, out)
	}
	files := map[string]string{"init": init}
	if tested != "" {
		files["test"] = filepath.Join(dir, "test")
		build := exec.Command("go", "test", "-c", "-o", files["test"], tested)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the tests for the guest: %w: %s", err, out)
		}
	}
	for i, m := range modules {
		files[fmt.Sprintf("modules/%02d-%s", i, filepath.Base(m))] = filepath.Join(root, "lib/modules", version, "kernel", m)
	}
	initrd := filepath.Join(dir, "initrd")
	if err := writeCPIO(initrd, files); err != nil {
		return nil, err
	}
	// Readable by everybody, as the emulator is nobody.
	kernel := filepath.Join(dir, "vmlinuz")
	b, err := os.ReadFile(image)
	if err == nil {
		err = os.WriteFile(kernel, b, 0o644)
	}
	return &Kernel{Path: kernel, Initrd: initrd, Cmdline: "console=ttyS0 quiet panic=-1 tsc=unstable mitigations=off"}, err
}

// guestDirs are removed at the end of the run.
var guestDirs []string

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashVar); dir != "" {
		os.Exit(crashMain(dir))
	}
	code := m.Run()
	for _, dir := range guestDirs {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// findKernel answers the directory below which the kernel's package is installed or unpacked. If it is neither, the package
// is fetched and kept in the user's cache for the next run.
func findKernel() (string, error) {
	if found, _ := filepath.Glob("/boot/vmlinuz-*-cloud-amd64"); len(found) > 0 {
		return "/", nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "mobula-test", "cloud-kernel")
	if found, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*-cloud-amd64")); len(found) > 0 {
		return dir, nil
	}
	tmp, err := os.MkdirTemp("", "mobula-kernel-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	script := `set -e
pkg=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: \(linux-image-.*-cloud-amd64\)$/\1/p' | head -n 1)
test -n "$pkg"
apt-get download -q "$pkg"
dpkg -x ./*.deb root`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch linux-image-cloud-amd64: %w: %s", err, out)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	os.RemoveAll(dir)
	if out, err := exec.Command("cp", "-a", filepath.Join(tmp, "root"), dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("keep the kernel: %w: %s", err, out)
	}
	return dir, nil
}

// writeCPIO writes the archive form that kernels unpack.
func writeCPIO(path string, files map[string]string) error {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	inode := 0
	entry := func(name string, mode, major, minor int, data []byte) {
		inode++
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
		b.WriteString(name + "\x00")
		pad()
		b.Write(data)
		pad()
	}
	entry("modules", 0o40755, 0, 0, nil)
	entry("dev", 0o40755, 0, 0, nil)
	entry("tmp", 0o40755, 0, 0, nil)
	entry("dev/console", 0o20600, 5, 1, nil)
	for name, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		entry(name, 0o100755, 0, 0, data)
	}
	entry("TRAILER!!!", 0, 0, 0, nil)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// newDriver opens a driver over a state directory of its own.
func newDriver(t testing.TB, change ...func(*Config)) *Driver {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "qemu", "qemu-system-x86_64")
	return reopen(t, t.TempDir(), change...)
}

func reopen(t testing.TB, dir string, change ...func(*Config)) *Driver {
	t.Helper()
	cfg := Config{StateDir: dir, CgroupParent: "/mobula-kvm-test"}
	for _, f := range change {
		f(&cfg)
	}
	d, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// withGuest boots machines with the tests' guest.
func withGuest(t testing.TB) func(*Config) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "qemu", "qemu-system-x86_64")
	k, err := guestKernel()
	if err != nil {
		testenv.Missing(t, "cloud-kernel", err.Error())
	}
	return func(c *Config) { c.Kernel = k }
}

var machines atomic.Uint32

// newMachine is a small machine without disks.
func newMachine(t testing.TB) zones.Machine {
	t.Helper()
	n := machines.Add(1)
	// Socket names have room for 80 bytes of directory, which a test's own may not leave.
	dir, err := os.MkdirTemp("", "mk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	id := fmt.Sprintf("%08x-0000-4000-8000-%012x", os.Getpid(), n)
	return zones.Machine{
		ID: id, RunDir: dir, IDs: zones.IDRange{First: 1000000 + n*65536, Size: 65536},
		Spec:   &zones.Spec{UUID: id, Brand: zones.BrandKVM, RAM: 128, VCPUs: 1},
		Limits: zones.Limits{Memory: 1 << 30, Swap: 1 << 30, LWPs: 2000, CPUShares: 100},
	}
}

// addDisk gives a machine a disk of some MiB.
func addDisk(t testing.TB, m *zones.Machine, format string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), fmt.Sprintf("disk%d.%s", len(m.Disks), format))
	if format == "raw" {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size << 20); err != nil {
			t.Fatal(err)
		}
	} else if err := os.WriteFile(path, emptyQCOW2(size<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Disks = append(m.Disks, zones.Disk{Path: path, Format: format, Serial: fmt.Sprintf("disk%d", len(m.Disks))})
	return path
}

// emptyQCOW2 is an image of at most 512 MiB with nothing in it: header, table of reference counts, their one block, and
// the table of tables, a cluster of 64 KiB each.
func emptyQCOW2(size int64) []byte {
	const cluster = 64 << 10
	b := make([]byte, 4*cluster)
	h := binary.BigEndian
	copy(b, "QFI\xfb")
	h.PutUint32(b[4:], 2)
	h.PutUint32(b[20:], 16) // bits of a cluster
	h.PutUint64(b[24:], uint64(size))
	h.PutUint32(b[36:], 1)         // entries of the table of tables
	h.PutUint64(b[40:], 3*cluster) // where it is
	h.PutUint64(b[48:], cluster)   // where the reference counts' table is
	h.PutUint32(b[56:], 1)         // its clusters
	h.PutUint64(b[cluster:], 2*cluster)
	for i := range 4 {
		h.PutUint16(b[2*cluster+2*i:], 1)
	}
	return b
}

func start(t testing.TB, d *Driver, m zones.Machine) zones.Handle {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := d.Destroy(ctx, m.ID); err != nil && !errors.Is(err, zones.ErrClosed) {
			t.Error(err)
		}
	})
	h, err := d.Start(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// talk is a conversation on a machine's console.
type talk struct {
	t    testing.TB
	io   io.ReadWriteCloser
	text chan byte
	seen strings.Builder
	// limit is how long to wait for a text.
	limit time.Duration
}

func newTalk(t testing.TB, d *Driver, id string) *talk {
	t.Helper()
	c, err := d.Console(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	k := &talk{t: t, io: c, text: make(chan byte, 1<<16), limit: 60 * time.Second}
	go func() {
		defer close(k.text)
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			for _, b := range buf[:n] {
				k.text <- b
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { c.Close() })
	return k
}

// until waits for a text and answers the rest of its line.
func (k *talk) until(want string) string {
	k.t.Helper()
	limit := time.NewTimer(k.limit)
	defer limit.Stop()
	var line strings.Builder
	for {
		select {
		case b, ok := <-k.text:
			if !ok {
				k.t.Fatalf("the console ended before %q; it said:\n%s", want, k.seen.String())
			}
			k.seen.WriteByte(b)
			line.WriteByte(b)
			if b == '\n' {
				if _, rest, ok := strings.Cut(line.String(), want); ok {
					return strings.TrimSpace(rest)
				}
				line.Reset()
			}
		case <-limit.C:
			k.t.Fatalf("%q never came; the console said:\n%s", want, k.seen.String())
		}
	}
}

// wake waits until the guest answers, when nobody saw whether it has booted. What is typed while it boots gets lost.
func (k *talk) wake() {
	k.t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				io.WriteString(k.io, "\nawake\n")
			}
		}
	})
	k.until("guest: awake -> ")
	close(stop)
	wg.Wait()
}

// ask has the guest do something.
func (k *talk) ask(command string) string {
	k.t.Helper()
	if _, err := io.WriteString(k.io, command+"\n"); err != nil {
		k.t.Fatal(err)
	}
	word, _, _ := strings.Cut(command, " ")
	return k.until("guest: " + word + " -> ")
}
