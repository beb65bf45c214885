//go:build linux

package host

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// goDown does to a host what a power cut does to all that is in memory: processes, mounts, namespaces, interfaces, control groups and what is on
// a tmpfs are gone; records and datasets are there.
func goDown(t *testing.T, l lab, o *opened, ids ...string) {
	t.Helper()
	ctx := t.Context()
	for _, id := range ids {
		z, err := o.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if z.PID == 0 {
			continue
		}
		if err := syscall.Kill(z.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _, err := o.driver.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.net.Destroy(ctx); err != nil {
		t.Fatal(err)
	}
	f, err := o.loadHostFile()
	if err != nil {
		t.Fatal(err)
	}
	f.Boot = "00000000-0000-0000-0000-00000000000b"
	if err := o.saveHostFile(f); err != nil {
		t.Fatal(err)
	}
	o.close()
	// The machine's groups are empty, and so may go.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		groups := l.cgroups()
		for i := len(groups) - 1; i >= 0; i-- {
			_ = os.Remove(groups[i])
		}
		if len(l.cgroups()) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("control groups %v", l.cgroups())
		}
	}
	if err := errors.Join(unmountBelow(l.run()), os.RemoveAll(l.run())); err != nil {
		t.Fatal(err)
	}
}

// After the machine came up again zones with autoboot run as before, also one that was being provisioned; the others are stopped, and
// nobody knows how they ended.
func TestMachineComesUpAgain(t *testing.T) {
	l := newLab(t, lab{btrfs: true, network: true})
	o := mustOpen(t, l)
	ctx := t.Context()
	nic := func(n string) string {
		return `"nics":[{"nic_tag":"external","ip":"10.74.0.` + n + `","netmask":"255.255.255.0"}]`
	}
	up, err := o.Create(ctx, spec(t, `"delegate_dataset":true,"firewall_enabled":true,`+nic("5")))
	if err != nil {
		t.Fatal(err)
	}
	o.sh(t, up.UUID, "echo kept > /data/f; echo kept > /root/f; sync")
	down, err := o.Create(ctx, spec(t, nic("6")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Update(ctx, down.UUID, []byte(`{"autoboot":false}`)); err != nil {
		t.Fatal(err)
	}
	first := scripted(t, "if test -e /root/twice; then exit 0; fi; touch /root/twice; sync; sleep 100", `,"nowait":true`)
	half, err := o.Create(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if out, err := o.try(ctx, half.UUID, "test -e /root/twice && echo yes"); err == nil && out == "yes\n" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	goDown(t, l, o, up.UUID, down.UUID, half.UUID)

	o = l.must(t)
	for _, id := range []string{up.UUID, down.UUID, half.UUID} {
		z, err := o.Get(ctx, id)
		if err != nil || z.State != zones.StateStopped || z.ExitStatus == nil || *z.ExitStatus != -1 {
			t.Errorf("before autoboot: %+v, %v", z, err)
		}
	}
	if n, err := o.Autoboot(ctx); n != 2 || err != nil {
		t.Errorf("autoboot started %d, %v", n, err)
	}
	if got := o.sh(t, up.UUID, "cat /data/f /root/f; grep -c net0 /proc/net/dev"); got != "kept\nkept\n1" {
		t.Errorf("after the boot: %q", got)
	}
	if got := state(t, o, down.UUID); got != zones.StateStopped {
		t.Errorf("a zone without autoboot is %s", got)
	}
	await(t, o, half.UUID, zones.StateRunning)
	if err := o.Start(ctx, down.UUID, StartOptions{}); err != nil {
		t.Error(err)
	}
	for _, id := range []string{up.UUID, down.UUID, half.UUID} {
		if err := o.Delete(ctx, id); err != nil {
			t.Error(err)
		}
	}
	clean(t, l, o)
}
