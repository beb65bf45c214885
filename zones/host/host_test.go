//go:build linux

package host

import (
	"errors"
	"testing"

	"github.com/mobulacloud/mobula/zones"
)

func TestLife(t *testing.T) {
	for name, l := range map[string]lab{"overlay": {}, "btrfs": {btrfs: true, network: true}} {
		t.Run(name, func(t *testing.T) { testLife(t, newLab(t, l)) })
	}
}

func testLife(t *testing.T, l lab) {
	o := l.must(t)
	ctx := t.Context()
	extra := `"alias":"one","hostname":"one","tags":{"role":"web"},"resolvers":["192.0.2.53"]`
	if l.network {
		extra += `,"nics":[{"nic_tag":"external","ip":"10.77.0.5","netmask":"255.255.255.0","gateway":"10.77.0.1"}],"quota":1`
	}
	z, err := o.Create(ctx, spec(t, extra))
	if err != nil {
		t.Fatal(err)
	}
	id := z.UUID
	if z.State != zones.StateRunning || z.PID == 0 {
		t.Errorf("after create: %s, pid %d", z.State, z.PID)
	}
	if got := o.sh(t, id, "hostname; id -u; cat /etc/resolv.conf | tail -1; echo hi > /root/f; awk 'BEGIN{print 6*7}'; touch /usr/x 2>/dev/null || echo ro"); got != "one\n0\nnameserver 192.0.2.53\n42\nro" {
		t.Errorf("inside: %q", got)
	}
	if l.network {
		if got := o.sh(t, id, "cat /proc/net/dev | grep -c net0"); got != "1" {
			t.Errorf("interfaces: %q", got)
		}
	}
	if err := o.Start(ctx, id, StartOptions{}); !errors.Is(err, zones.ErrRunning) {
		t.Errorf("start of a running zone: %v", err)
	}
	if err := o.Reboot(ctx, id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := o.sh(t, id, "cat /root/f"); got != "hi" {
		t.Errorf("after reboot: %q", got)
	}
	m, err := o.Metrics(ctx, id)
	if err != nil || m.Processes == 0 || m.Memory.Total == 0 || m.Stored == 0 {
		t.Errorf("metrics = %+v, %v", m, err)
	}
	if err := o.Stop(ctx, id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := state(t, o, id); s != zones.StateStopped {
		t.Errorf("after stop: %s", s)
	}
	if err := o.Stop(ctx, id, StopOptions{}); !errors.Is(err, zones.ErrNotRunning) {
		t.Errorf("second stop: %v", err)
	}
	if err := o.CreateSnapshot(ctx, id, "a"); err != nil {
		t.Fatal(err)
	}
	if err := o.Start(ctx, id, StartOptions{}); err != nil {
		t.Fatal(err)
	}
	o.sh(t, id, "echo changed > /root/f")
	err = o.CreateSnapshot(ctx, id, "b")
	if live := o.pool.Capabilities().LiveSnapshot; live && err != nil || !live && !errors.Is(err, zones.ErrBusy) {
		t.Errorf("snapshot of a running zone: %v", err)
	}
	if err := o.RollbackSnapshot(ctx, id, "a"); err != nil {
		t.Fatal(err)
	}
	if got := o.sh(t, id, "cat /root/f"); got != "hi" {
		t.Errorf("after rollback: %q", got)
	}
	z, err = o.Get(ctx, id)
	if err != nil || len(z.Snapshots) != 1 || z.State != zones.StateRunning {
		t.Errorf("after rollback: %+v, %v", z, err)
	}
	if err := o.DeleteSnapshot(ctx, id, "a"); err != nil {
		t.Error(err)
	}
	if err := o.Reprovision(ctx, id, "sparse"); err != nil {
		t.Fatal(err)
	}
	if got := o.sh(t, id, "cat /root/f 2>/dev/null || hostname"); got != "one" {
		t.Errorf("after reprovision: %q", got)
	}
	if err := o.Kill(ctx, id, zones.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := o.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Get(ctx, id); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("get after delete: %v", err)
	}
	if left, _ := o.pool.List(ctx); len(left) != 1 { // the sparse image
		t.Errorf("datasets left: %v", left)
	}
}
