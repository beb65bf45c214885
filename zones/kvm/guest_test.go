//go:build linux

package kvm

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/metadata"
	"github.com/mobulacloud/mobula/zones/network"
)

// zoneRecord is a metadata.Source in memory.
type zoneRecord struct {
	mu   sync.Mutex
	zone zones.Zone
}

func (r *zoneRecord) Zone(context.Context) (*zones.Zone, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &zones.Zone{Spec: *r.zone.Spec.Clone()}, nil
}

func (r *zoneRecord) Change(_ context.Context, c metadata.Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.zone.CustomerMetadata[c.Key] = c.Value
	return nil
}

// A whole machine: it boots, gets its address from metadata, is reached, prints, and stops when asked.
func TestGuest(t *testing.T) {
	d := newDriver(t, withGuest(t))
	n, err := network.Open(t.Context(), network.Config{Instance: "kvmtest", Dir: filepath.Join(t.TempDir(), "ns"), NetNS: newNetNS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(n.Destroy(t.Context()), n.Close()); err != nil {
			t.Error(err)
		}
	})
	if err := n.PutTag(t.Context(), network.Tag{Name: "lab"}); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	nics := []zones.NIC{{MAC: "90:b8:d0:00:00:aa", NICTag: "lab", IPs: []string{"10.77.0.10/24"}, Primary: true, MTU: 1400}}
	a, err := n.Attach(t.Context(), network.Request{Zone: m.ID, NICs: nics, VM: true, TapOwner: m.IDs.First})
	if err != nil {
		t.Fatal(err)
	}
	m.Interfaces = a.Interfaces
	// An OS zone on the same tag is who talks to the guest.
	other := newMachine(t).ID
	b, err := n.Attach(t.Context(), network.Request{Zone: other, NICs: []zones.NIC{{MAC: "90:b8:d0:00:00:bb", NICTag: "lab", IPs: []string{"10.77.0.11/24"}}}})
	if err != nil {
		t.Fatal(err)
	}
	addDisk(t, &m, "raw", 8)
	start(t, d, m)

	rec := &zoneRecord{zone: zones.Zone{Spec: *m.Spec}}
	rec.zone.NICs, rec.zone.CustomerMetadata = nics, map[string]any{"user-script": "hello guest"}
	provisioned := make(chan struct{}, 100)
	server, err := metadata.New(metadata.Config{Source: rec, Provisioned: func() { provisioned <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.ServeSerial(ctx, func(ctx context.Context) (net.Conn, error) { return d.MetadataConn(ctx, m.ID) }); err != nil && !errors.Is(err, zones.ErrNotRunning) {
			t.Errorf("ServeSerial: %v", err)
		}
	})
	defer wg.Wait()
	defer cancel()

	console := newTalk(t, d, m.ID)
	console.until("guest: booted")
	if got := console.until("guest: address "); got != "10.77.0.10/24 mtu 1400" {
		t.Errorf("the guest's address is %q", got)
	}
	console.until("guest: network ready")
	<-provisioned
	if got := console.ask("get user-script"); got != "hello guest" {
		t.Errorf("metadata in the guest: %q", got)
	}
	if got := console.ask("put answer 42"); got != "42" || rec.zone.CustomerMetadata["answer"] != "42" {
		t.Errorf("metadata from the guest: %q, %v", got, rec.zone.CustomerMetadata)
	}
	if got := console.ask("size vda"); got != "16384" {
		t.Errorf("the disk has %s sectors", got)
	}
	echoed := make([]byte, 16)
	err = inNetNS(b.NetNS, func() error {
		c, err := net.Dial("udp", "10.77.0.10:7")
		if err != nil {
			return err
		}
		defer c.Close()
		for range 20 {
			if _, err = c.Write([]byte("are you there")); err != nil {
				return err
			}
			c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			var k int
			if k, err = c.Read(echoed); err == nil {
				echoed = echoed[:k]
				return nil
			}
		}
		return err
	})
	if err != nil || string(echoed) != "are you there" {
		t.Errorf("over the network: %q, %v", echoed, err)
	}
	// A second look at the console sees what came before.
	if got := newTalk(t, d, m.ID).until("guest: size -> "); got != "16384" {
		t.Errorf("history: %q", got)
	}
	u, err := d.Usage(t.Context(), m.ID)
	if err != nil || u.CPU.Total == 0 || len(u.Network) != 1 || u.Network[0].RxPackets == 0 || u.Network[0].TxPackets == 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
	st, err := d.Status(t.Context(), m.ID)
	if err != nil || st.Detail["accelerator"] != d.Capabilities().Isolation {
		t.Errorf("status %+v, %v", st, err)
	}
	if status, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/status"); err != nil || !strings.Contains(string(status), "\nUid:\t"+strconv.Itoa(int(m.IDs.First))) {
		t.Errorf("the emulator does not run as %d: %v\n%s", m.IDs.First, err, status)
	}
	begin := time.Now()
	if err := d.Stop(t.Context(), m.ID, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	console.until("guest: power button")
	exit, err := d.Wait(t.Context(), m.ID)
	if err != nil || !exit.Success() {
		t.Errorf("exit %+v, %v", exit, err)
	}
	t.Logf("stopped in %v with %s", time.Since(begin), d.Capabilities().Isolation)
}

// newNetNS is a network namespace to be the host's in a test.
func newNetNS(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "host")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { // the thread stays in it and ends with the goroutine
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return path
}

// The disk as it was at a quiet moment, taken while the guest runs, and put back later.
func TestSnapshotAndRollback(t *testing.T) {
	d := newDriver(t, withGuest(t))
	m := newMachine(t)
	disk := addDisk(t, &m, "raw", 8)
	start(t, d, m)
	console := newTalk(t, d, m.ID)
	console.until("guest: booted")
	console.ask("write before")
	copied := disk + ".snapshot"
	err := d.Quiesce(t.Context(), m.ID, func(ctx context.Context) error {
		var st struct{ Status string }
		held, err := d.machines.Running("test", m.ID)
		if err != nil {
			return err
		}
		if err := held.execute(ctx, "query-status", nil, &st); err != nil || st.Status != "paused" {
			t.Errorf("while quiet the machine is %q, %v", st.Status, err)
		}
		data, err := os.ReadFile(disk)
		if err != nil {
			return err
		}
		return os.WriteFile(copied, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := console.ask("read"); got != "before" {
		t.Errorf("after the snapshot the guest reads %q", got)
	}
	console.ask("write after")
	if err := d.Destroy(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, disk); err != nil {
		t.Fatal(err)
	}
	start(t, d, m)
	console = newTalk(t, d, m.ID)
	console.until("guest: booted")
	if got := console.ask("read"); got != "before" {
		t.Errorf("after the rollback the guest reads %q", got)
	}
	// A failing or cancelled f thaws too.
	want := errors.New("no")
	if err := d.Quiesce(t.Context(), m.ID, func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Errorf("Quiesce = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := d.Quiesce(ctx, m.ID, func(context.Context) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Quiesce = %v", err)
	}
	if got := console.ask("read"); got != "before" {
		t.Errorf("after failures the guest reads %q", got)
	}
}

// Memory and disk together, inside a qcow2 image, with the guest running on afterwards.
func TestStates(t *testing.T) {
	d := newDriver(t, withGuest(t))
	m := newMachine(t)
	addDisk(t, &m, "qcow2", 64)
	start(t, d, m)
	console := newTalk(t, d, m.ID)
	console.until("guest: booted")
	console.ask("remember one")
	console.ask("write one")
	if err := d.SaveState(t.Context(), m.ID, "first"); err != nil {
		t.Fatal(err)
	}
	if err := d.SaveState(t.Context(), m.ID, "first"); !errors.Is(err, zones.ErrExist) {
		t.Errorf("SaveState again = %v", err)
	}
	console.ask("remember two")
	console.ask("write two")
	if err := d.LoadState(t.Context(), m.ID, "first"); err != nil {
		t.Fatal(err)
	}
	if got := console.ask("recall"); got != "one" {
		t.Errorf("memory after LoadState: %q", got)
	}
	if got := console.ask("read"); got != "one" {
		t.Errorf("disk after LoadState: %q", got)
	}
	for range 2 {
		if err := d.DeleteState(t.Context(), m.ID, "first"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.LoadState(t.Context(), m.ID, "first"); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("LoadState of nothing = %v", err)
	}
}

func TestDisksRebootAndInfo(t *testing.T) {
	d := newDriver(t, withGuest(t))
	m := newMachine(t)
	raw := addDisk(t, &m, "raw", 8)
	addDisk(t, &m, "qcow2", 16)
	start(t, d, m)
	console := newTalk(t, d, m.ID)
	console.until("guest: booted")
	if a, b := console.ask("size vda"), console.ask("size vdb"); a != "16384" || b != "32768" {
		t.Errorf("sizes %s and %s", a, b)
	}
	if err := os.Truncate(raw, 12<<20); err != nil {
		t.Fatal(err)
	}
	if err := d.ResizeDisk(t.Context(), m.ID, raw, 12<<20); err != nil {
		t.Fatal(err)
	}
	if got := console.ask("size vda"); got != "24576" {
		t.Errorf("after growing: %s", got)
	}
	if err := d.ResizeDisk(t.Context(), m.ID, "/no/such/disk", 1<<20); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("ResizeDisk of no disk = %v", err)
	}
	info, err := d.Info(t.Context(), m.ID)
	if err != nil || info["version"] == nil || info["block"] == nil || info["vnc"] == nil {
		t.Errorf("info %v, %v", info, err)
	}
	if _, err := d.Info(t.Context(), m.ID, "secrets"); !errors.Is(err, zones.ErrInvalid) {
		t.Errorf("Info of nonsense = %v", err)
	}
	// The screen: RFB greets first.
	for range 2 {
		vnc, err := d.VNC(t.Context(), m.ID)
		if err != nil {
			t.Fatal(err)
		}
		hello := make([]byte, 12)
		vnc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(vnc, hello); err != nil || !strings.HasPrefix(string(hello), "RFB 003.") {
			t.Errorf("VNC says %q, %v", hello, err)
		}
		vnc.Close()
	}
	if err := d.Reboot(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	console.until("guest: booted")
	// The guest powers itself off.
	io.WriteString(console.io, "off\n")
	if st, err := d.Wait(t.Context(), m.ID); err != nil || !st.Success() {
		t.Errorf("Wait = %+v, %v", st, err)
	}
	if _, err := io.ReadAll(console.io); err != nil {
		t.Errorf("the console's end: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	d := newDriver(t)
	qcow2 := func(change func(h []byte)) string {
		h := make([]byte, 104)
		copy(h, "QFI\xfb")
		binary.BigEndian.PutUint32(h[4:], 3)
		change(h)
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, h, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	disk := func(path, format string) func(*zones.Machine) {
		return func(m *zones.Machine) { m.Disks = []zones.Disk{{Path: path, Format: format}} }
	}
	for name, tt := range map[string]struct {
		spoil func(*zones.Machine)
		want  error
	}{
		"an OS brand":         {func(m *zones.Machine) { m.Spec.Brand = zones.BrandJoyent }, zones.ErrNotSupported},
		"free options":        {func(m *zones.Machine) { m.Spec.QEMUExtraOpts = "-monitor stdio" }, zones.ErrNotSupported},
		"uefi":                {func(m *zones.Machine) { m.Spec.Bootrom = "/firmware" }, zones.ErrNotSupported},
		"vcpus":               {func(m *zones.Machine) { m.Spec.VCPUs = 1000 }, zones.ErrInvalid},
		"a missing disk":      {disk("/no/such/disk", "raw"), os.ErrNotExist},
		"a directory as disk": {disk(t.TempDir(), "raw"), nil},
		"format":              {disk("/dev/null", "vmdk"), zones.ErrInvalid},
		"no qcow2":            {disk(qcow2(func(h []byte) { h[0] = 0 }), "qcow2"), zones.ErrInvalid},
		"a backing file":      {disk(qcow2(func(h []byte) { h[15] = 200; h[19] = 9 }), "qcow2"), zones.ErrNotSupported},
		"data elsewhere":      {disk(qcow2(func(h []byte) { h[79] = 4 }), "qcow2"), zones.ErrNotSupported},
		"serial with comma": {func(m *zones.Machine) {
			m.Disks = []zones.Disk{{Path: "/dev/null", Format: "raw", Serial: "a,file=/etc/shadow"}}
		}, zones.ErrInvalid},
		"a missing tap": {func(m *zones.Machine) {
			m.Interfaces = []zones.Interface{{Host: "nosuchtap0", MAC: "90:b8:d0:00:00:01"}}
		}, zones.ErrNotExist},
		"mac":        {func(m *zones.Machine) { m.Interfaces = []zones.Interface{{Host: "tap0", MAC: "x"}} }, zones.ErrInvalid},
		"boot order": {func(m *zones.Machine) { m.Boot.Order = "c,menu=on" }, zones.ErrInvalid},
		"cpu":        {func(m *zones.Machine) { m.Spec.CPUType = "host,+x" }, zones.ErrInvalid},
		"no run dir": {func(m *zones.Machine) { m.RunDir = "/no/such/dir" }, os.ErrNotExist},
	} {
		m := newMachine(t)
		tt.spoil(&m)
		_, err := d.Start(t.Context(), m)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if _, err := d.Status(t.Context(), m.ID); !errors.Is(err, zones.ErrNotExist) {
			t.Errorf("%s left a machine: %v", name, err)
		}
		if left, _ := os.ReadDir(m.RunDir); len(left) > 0 {
			t.Errorf("%s left %v", name, left)
		}
	}
	if ids, err := d.List(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("left %v, %v", ids, err)
	}
}

func TestArguments(t *testing.T) {
	m := zones.Machine{
		ID:   "11111111-1111-4111-8111-111111111111",
		Spec: &zones.Spec{Brand: zones.BrandKVM, RAM: 512, VCPUs: 2, CPUType: "host", Boot: "order=cd"},
		Disks: []zones.Disk{
			{Path: "/a", Format: "raw"}, {Path: "/b", Format: "qcow2", Model: "scsi", Boot: true},
			{Path: "/c", Format: "raw", Media: "cdrom"}, {Path: "/d", Format: "raw", PCISlot: "0:5:0"},
		},
		Interfaces: []zones.Interface{{Host: "tap0", MAC: "90:B8:D0:00:00:01", MTU: 1400}, {Host: "tap1", MAC: "90:b8:d0:00:00:02", Model: "e1000"}},
		Boot:       zones.Boot{Once: "d"},
	}
	args := arguments(&m, "tcg", &Kernel{Path: "/vmlinuz", Initrd: "/initrd", Cmdline: "quiet"})
	for _, want := range []string{
		"-cpu max", "-smp 2", "-m 512", "-boot strict=off,order=cd,once=d",
		"virtio-blk-pci,id=dev-disk0,drive=disk0", "scsi-hd,bus=scsi.0,id=dev-disk1,drive=disk1,bootindex=2", "ide-cd,id=dev-disk2", "drive=disk3,addr=5.0",
		"tap,id=net0,fd=10,vhost=off", "mac=90:b8:d0:00:00:01,romfile=,host_mtu=1400", "e1000,id=nic1",
		"-kernel /proc/self/fd/12 -initrd /proc/self/fd/13 -append quiet", "fd=6,set=6", "fd=9,set=9",
	} {
		if !strings.Contains(strings.Join(args, " "), want) {
			t.Errorf("no %q in %q", want, args)
		}
	}
	if i := slices.Index(args, "-sandbox"); i < 0 || !strings.HasPrefix(args[i+1], "on,") {
		t.Error("no sandbox")
	}
}

func FuzzImage(f *testing.F) {
	h := make([]byte, 104)
	copy(h, "QFI\xfb")
	h[7] = 3
	f.Add(h)
	f.Add([]byte("QFI"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkImage(strings.NewReader(string(data)), "qcow2") == nil {
			if len(data) < 72 || binary.BigEndian.Uint64(data[8:]) != 0 || data[7] == 3 && binary.BigEndian.Uint64(data[72:])&4 != 0 {
				t.Errorf("%x passes", data)
			}
		}
	})
}
