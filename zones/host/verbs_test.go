//go:build linux

package host

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/image"
)

func TestUpdateLive(t *testing.T) {
	o := newLab(t, lab{btrfs: true, network: true}).must(t)
	ctx := t.Context()
	z, err := o.Create(ctx, spec(t, `"quota":1,"nics":[{"nic_tag":"external","ip":"10.75.0.5","netmask":"255.255.255.0"}]`))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := o.Update(ctx, z.UUID, []byte(`{"max_physical_memory":128,"max_lwps":30,"quota":2,"set_tags":{"a":1},"firewall_enabled":true}`))
	if err != nil || len(changes) == 0 {
		t.Fatalf("update: %v, %v", changes, err)
	}
	after, err := o.Get(ctx, z.UUID)
	if err != nil {
		t.Fatal(err)
	}
	if after.PID != z.PID {
		t.Error("the update restarted the zone")
	}
	m, err := o.Metrics(ctx, z.UUID)
	if err != nil || m.Memory.Limit != 128<<20 || m.Quota != 2<<30 {
		t.Errorf("limit %d, quota %d, %v", m.Memory.Limit, m.Quota, err)
	}
	if len(m.Network) != 1 || m.Network[0].Interface != "net0" {
		t.Errorf("network meters = %+v", m.Network)
	}
	// All or nothing: what cannot be applied leaves what was.
	o.sh(t, z.UUID, "head -c 25000000 /dev/zero > /dev/shm/x")
	if _, err := o.Update(ctx, z.UUID, []byte(`{"max_physical_memory":16,"alias":"small"}`)); err == nil {
		t.Error("a limit below what is in use was accepted")
	} else if now, _ := o.Get(ctx, z.UUID); now.MaxPhysicalMemory != 128 || now.Alias != "" {
		t.Errorf("after a refused update: %d MiB, alias %q", now.MaxPhysicalMemory, now.Alias)
	}
	if out, err := o.try(ctx, z.UUID, "for i in $(seq 60); do sleep 5 & done; wait"); err == nil {
		t.Errorf("60 processes fit into 30: %s", out)
	}
	for _, bad := range []string{`{"uuid":"x"}`, `{"tags":{}}`, `{"max_lwps":-1}`, `{"update_nics":[{"mac":"00:00:00:00:00:01","ip":"10.0.0.1"}]}`, `[`} {
		if _, err := o.Update(ctx, z.UUID, []byte(bad)); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("update %s: %v, want ErrInvalid", bad, err)
		}
	}
	if _, err := o.Create(ctx, spec(t, `"nics":[{"nic_tag":"external","mac":"`+after.NICs[0].MAC+`","ip":"10.75.0.6","netmask":"255.255.255.0"}]`)); !errors.Is(err, zones.ErrExist) {
		t.Errorf("second zone with a MAC: %v, want ErrExist", err)
	}
	// One MAC for two zones at once, however it is written: one of them gets it.
	other, err := o.Create(ctx, spec(t, `"autoboot":false`))
	if err != nil {
		t.Fatal(err)
	}
	add := `{"add_nics":[{"nic_tag":"external","mac":%q,"ip":"10.75.0.%d","netmask":"255.255.255.0"}]}`
	got := make(chan error, 2)
	go func() { _, err := o.Update(ctx, z.UUID, []byte(fmt.Sprintf(add, "90:B8:D0:0:0:1", 8))); got <- err }()
	go func() {
		_, err := o.Update(ctx, other.UUID, []byte(fmt.Sprintf(add, "90:b8:d0:00:00:01", 9)))
		got <- err
	}()
	if a, b := <-got, <-got; (a == nil) == (b == nil) || !errors.Is(errors.Join(a, b), zones.ErrExist) {
		t.Errorf("one MAC for two zones: %v and %v", a, b)
	}
}

func TestDelegatedDatasetAndQuota(t *testing.T) {
	o := newLab(t, lab{btrfs: true}).must(t)
	ctx := t.Context()
	z, err := o.Create(ctx, spec(t, `"delegate_dataset":true,"quota":1`))
	if err != nil {
		t.Fatal(err)
	}
	o.sh(t, z.UUID, "echo mine > /data/f; chown 5:5 /data/f")
	if err := o.CreateSnapshot(ctx, z.UUID, "s"); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("snapshot with a delegated dataset: %v", err)
	}
	if err := o.Reprovision(ctx, z.UUID, "sparse"); err != nil {
		t.Fatal(err)
	}
	if got := o.sh(t, z.UUID, "cat /data/f; stat -c %u /data/f"); got != "mine\n5" {
		t.Errorf("after reprovision: %q", got)
	}
	m, err := o.Metrics(ctx, z.UUID)
	if err != nil || m.Quota != 1<<30 {
		t.Errorf("quota %d, %v", m.Quota, err)
	}
	// Both trees are counted together; a smaller limit than a spec can say spares the disk.
	if err := o.pool.SetQuota(ctx, rootDataset(z.UUID), 64<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := o.try(ctx, z.UUID, "dd if=/dev/urandom of=/data/big bs=1M count=45 conv=fsync && dd if=/dev/urandom of=/root/big bs=1M count=45 conv=fsync"); err == nil {
		t.Errorf("90 MiB fit into a quota of 64 MiB: %s", out)
	} else if !strings.Contains(out, "/root/big") && !strings.Contains(out, "45+0") {
		t.Errorf("45 MiB do not fit: %s", out)
	}
	if err := o.Reprovision(ctx, z.UUID, "sparse"); err != nil && !errors.Is(err, zones.ErrNoSpace) {
		t.Errorf("reprovision of a full zone: %v", err)
	}
	if got := o.sh(t, z.UUID, "wc -c < /data/big"); got != "47185920" {
		t.Errorf("after it the data has %s bytes", got)
	}
}

func TestRefusedBeforeAnythingIsMade(t *testing.T) {
	l := newLab(t, lab{})
	o := l.must(t)
	ctx := t.Context()
	for what, s := range map[string]*zones.Spec{
		"quota on overlays":     spec(t, `"quota":1`),
		"NIC without a network": spec(t, `"nics":[{"nic_tag":"external","ip":"10.0.0.2","netmask":"255.255.255.0"}]`),
	} {
		if _, err := o.Create(ctx, s); !errors.Is(err, zones.ErrNotSupported) {
			t.Errorf("%s: %v, want ErrNotSupported", what, err)
		}
	}
	nothing := spec(t, `"archive_on_delete":true,"fs_allowed":"nfs","filesystems":[{"type":"nfs","source":"a:/b","target":"/c"}]`)
	_, err := o.Create(ctx, nothing)
	if e, ok := errors.AsType[*zones.UnsupportedError](err); !ok || len(e.Properties) != 3 {
		t.Errorf("properties that nobody serves: %v", err)
	}
	z, err := o.Create(ctx, spec(t, `"autoboot":false`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Update(ctx, z.UUID, []byte(`{"fs_allowed":"nfs","alias":"x"}`)); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("update to what nobody serves: %v", err)
	} else if now, _ := o.Get(ctx, z.UUID); now.Alias != "" {
		t.Error("a refused update changed something")
	}
	if err := o.Delete(ctx, z.UUID); err != nil {
		t.Error(err)
	}
	s := spec(t, "")
	s.ImageUUID = image.NewUUID()
	if _, err := o.Create(ctx, s); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("unknown image: %v, want ErrNotExist", err)
	}
	clean(t, l, o)
}

// A zone that cannot start is not there afterwards.
func TestCreateUndone(t *testing.T) {
	l := newLab(t, lab{})
	o := l.must(t)
	s, err := zones.ParseSpec([]byte(`{"brand":"lx","kernel_version":"4.3.0","image_uuid":"sparse","docker":true}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Create(t.Context(), s); err == nil {
		t.Error("a container without a program was created")
	}
	clean(t, l, o)
	ctx, cancel := context.WithCancel(t.Context())
	o.step = func(what string) {
		if what == "create: cloned" {
			cancel()
		}
	}
	if _, err := o.Create(ctx, spec(t, "")); err == nil {
		t.Error("a cancelled create succeeded")
	}
	o.step = func(string) {}
	clean(t, l, o)
}

func TestSendBetweenKindsOfPool(t *testing.T) {
	from, to := newLab(t, lab{btrfs: true}).must(t), newLab(t, lab{}).must(t)
	ctx := t.Context()
	z, err := from.Create(ctx, spec(t, `"alias":"wanderer","delegate_dataset":true,"customer_metadata":{"k":"v"}`))
	if err != nil {
		t.Fatal(err)
	}
	from.sh(t, z.UUID, "echo root > /root/f; echo data > /data/f; ln -s /etc/passwd /root/l; chmod 4755 /root/f; chown 7:8 /data/f")
	if err := from.Send(ctx, z.UUID, io.Discard, SendOptions{}); !errors.Is(err, zones.ErrRunning) {
		t.Errorf("send of a running zone: %v", err)
	}
	var b bytes.Buffer
	for _, pair := range [][2]*opened{{from, to}, {to, from}} {
		src, dst := pair[0], pair[1]
		if err := src.Stop(ctx, z.UUID, StopOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if err := src.Send(ctx, z.UUID, &b, SendOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := src.Delete(ctx, z.UUID); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 10, 500, b.Len() / 2, b.Len() - 1} {
			if _, err := dst.Receive(ctx, bytes.NewReader(b.Bytes()[:n])); err == nil {
				t.Fatalf("a zone of %d of %d bytes was received", n, b.Len())
			}
		}
		broken := bytes.Clone(b.Bytes())
		broken[len(broken)-5] ^= 1
		if _, err := dst.Receive(ctx, bytes.NewReader(broken)); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("damaged zone: %v, want ErrInvalid", err)
		}
		got, err := dst.Receive(ctx, bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if got.State != zones.StateStopped || got.Alias != "wanderer" || got.CustomerMetadata["k"] != "v" {
			t.Errorf("received %+v", got)
		}
		if _, err := dst.Receive(ctx, bytes.NewReader(b.Bytes())); !errors.Is(err, zones.ErrExist) {
			t.Errorf("second receive: %v, want ErrExist", err)
		}
		if err := dst.Start(ctx, z.UUID, StartOptions{}); err != nil {
			t.Fatal(err)
		}
		want := "root\ndata\n4755\n7:8\n/etc/passwd"
		if got := dst.sh(t, z.UUID, "cat /root/f /data/f; stat -c %a /root/f; stat -c %u:%g /data/f; readlink /root/l"); got != want {
			t.Errorf("moved to %s: %q, want %q", dst.pool.Capabilities().Driver, got, want)
		}
	}
}

func TestContainerImage(t *testing.T) {
	testenv.NeedRoot(t)
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		testenv.Missing(t, "busybox", "no static /bin/busybox")
	}
	o := newLab(t, lab{}).must(t)
	ctx := t.Context()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name, body, link string
		mode             int64
	}{
		{"bin/busybox", string(busybox), "", 0o755}, {"bin/sh", "", "busybox", 0}, {"bin/sleep", "", "busybox", 0}, {"bin/cat", "", "busybox", 0}, {"bin/id", "", "busybox", 0},
		{"etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n", "", 0o644},
	} {
		h := &tar.Header{Name: f.name, Typeflag: tar.TypeReg, Size: int64(len(f.body)), Mode: f.mode}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		w.WriteHeader(h)
		io.WriteString(w, f.body)
	}
	w.Close()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.Config(img, v1.Config{
		Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{`echo "$GREETING $0 $(id -u)"; exec sleep 1000`}, Env: []string{"GREETING=hello"}, User: "web",
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "save.tar")
	tag, _ := name.NewTag("app:1")
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		t.Fatal(err)
	}
	made, err := o.Images().InstallContainer(ctx, path, image.ContainerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := zones.ParseSpec([]byte(`{"brand":"lx","docker":true,"kernel_version":"4.3.0","image_uuid":"` + made.Manifest.UUID + `","max_physical_memory":64}`))
	if err != nil {
		t.Fatal(err)
	}
	z, err := o.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	con, err := o.Console(ctx, z.UUID)
	if err != nil {
		t.Fatal(err)
	}
	defer con.Close()
	defer time.AfterFunc(20*time.Second, func() { con.Close() }).Stop() // what does not come is a failure, not a wait
	var out bytes.Buffer
	buf := make([]byte, 256)
	for !strings.Contains(out.String(), "\n") {
		n, err := con.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if got := strings.TrimSpace(out.String()); got != "hello /bin/sh 33" {
		t.Errorf("the container prints %q", got)
	}
	if err := o.Images().Delete(ctx, made.Manifest.UUID); !errors.Is(err, image.ErrDependents) {
		t.Errorf("delete of an image in use: %v", err)
	}
	if err := o.Stop(ctx, z.UUID, StopOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Run notices ends by themselves, answers metadata, and boots what is to be booted.
func TestRun(t *testing.T) {
	l := newLab(t, lab{})
	o := l.must(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ids []string
	for _, extra := range []string{`"alias":"up","customer_metadata":{"a":"b"}`, `"alias":"down","autoboot":false`} {
		z, err := o.Create(ctx, spec(t, extra))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, z.UUID)
	}
	if err := o.Stop(ctx, ids[0], StopOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	events := make(chan zones.Event, 100)
	go func() {
		for e, err := range o.Events(ctx) {
			if err != nil {
				close(events)
				return
			}
			events <- e
		}
	}()
	if e := <-events; e.Type != zones.EventReady {
		t.Errorf("first event = %+v", e)
	}
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	wait := func(id string, s zones.State) zones.Event {
		t.Helper()
		for {
			select {
			case e, ok := <-events:
				if !ok {
					t.Fatal("events ended")
				}
				if e.ZoneID == id && e.Zone.State == s {
					return e
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("zone %s does not become %s", id, s)
			}
		}
	}
	wait(ids[0], zones.StateRunning) // autoboot, this being the first time since the machine booted
	if s := state(t, o, ids[1]); s != zones.StateStopped {
		t.Errorf("zone without autoboot is %s", s)
	}
	second := l.must(t)
	if err := second.Run(ctx); !errors.Is(err, zones.ErrBusy) {
		t.Errorf("second Run: %v, want ErrBusy", err)
	}
	sock := filepath.Join(o.runDir(ids[0]), "control", "metadata.sock")
	for range 500 {
		if _, err := os.Stat(sock); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := o.sh(t, ids[0], `printf 'GET a\n' | /usr/bin/env python3 -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect("/.zonecontrol/metadata.sock"); s.send(sys.stdin.buffer.read()); print(s.recv(100))' 2>&1 || true`); !strings.Contains(got, "SUCCESS") && !strings.Contains(got, "python3") {
		t.Errorf("metadata: %q", got)
	}
	// The zone ends by itself: its first program is told to by nobody of ours.
	if err := o.Kill(ctx, ids[0], zones.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e := wait(ids[0], zones.StateStopped)
	if e.Zone.ExitStatus == nil || *e.Zone.ExitStatus != 137 {
		t.Errorf("exit status = %v", e.Zone.ExitStatus)
	}
	if n, err := o.Autoboot(ctx); n != 0 || err != nil {
		t.Errorf("second autoboot started %d, %v", n, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestZonesOutliveTheHost(t *testing.T) {
	l := newLab(t, lab{})
	first := mustOpen(t, l)
	z, err := first.Create(t.Context(), spec(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	first.close()
	second := l.must(t)
	again, err := second.Get(t.Context(), z.UUID)
	if err != nil || again.PID != z.PID || again.State != zones.StateRunning {
		t.Fatalf("after opening again: %+v, %v", again, err)
	}
	if got := second.sh(t, z.UUID, "echo here"); got != "here" {
		t.Errorf("exec after opening again: %q", got)
	}
	con, err := second.Console(t.Context(), z.UUID)
	if err != nil {
		t.Error(err)
	} else {
		con.Close()
	}
}
