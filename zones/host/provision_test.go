//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

func scripted(t *testing.T, script, extra string) *zones.Spec {
	t.Helper()
	return spec(t, fmt.Sprintf(`"customer_metadata":{"user-script":%q}`, script)+extra)
}

// A new zone is provisioned when its scripts have run: then Create returns, and says how it went.
func TestProvisioning(t *testing.T) {
	for name, l := range map[string]lab{"overlay": {}, "btrfs": {btrfs: true}} {
		t.Run(name, func(t *testing.T) { provision(t, newLab(t, l).must(t)) })
	}
}

func provision(t *testing.T, o *opened) {
	ctx := t.Context()
	tests := []struct {
		name, script, extra string
		failure             string // a part of it; empty for success
	}{
		{"success", "sleep 0.2; echo made > /root/made", "", ""},
		{"operator first", "cat /root/first > /root/made", `,"internal_metadata":{"operator-script":"echo made > /root/first"}`, ""},
		{"a marker of its own", "rm -r /var/svc; echo made > /root/made; sleep 0.1", "", ""},
		{"failure", "echo made > /root/made; exit 3", "", "user-script ended with status 3"},
		{"timeout", "sleep 100", `,"mdata_exec_timeout":1`, "within 1 seconds"},
		{"a link for an answer", "ln -s /etc/passwd /var/svc/provision_failure; rm /var/svc/provisioning; sleep 1", "", "it failed"},
		{"a pipe for an answer", "mkfifo /var/svc/provision_failure; rm /var/svc/provisioning; sleep 1", "", "it failed"},
		{"terminal codes", `printf 'bad\033[2Jluck\n' > /var/svc/provision_failure; rm /var/svc/provisioning; sleep 1`, "", "bad[2Jluck"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := scripted(t, tt.script, tt.extra)
			s.UUID = "dededede-0000-4000-8000-000000000001"
			z, err := o.Create(ctx, s)
			defer func() {
				if err := o.Delete(ctx, s.UUID); err != nil {
					t.Error(err)
				}
			}()
			if tt.failure == "" {
				if err != nil || z.State != zones.StateRunning || z.Failure != "" {
					t.Fatalf("%+v, %v", z, err)
				}
				if got := o.sh(t, s.UUID, "cat /root/made"); got != "made" {
					t.Errorf("the script made %q", got)
				}
				// It runs at every boot, and a failure then is the zone's own business.
				if err := o.Reboot(ctx, s.UUID, StopOptions{Force: true}); err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, zones.ErrFailed) || !strings.Contains(err.Error(), tt.failure) {
				t.Fatalf("create: %v, want %q", err, tt.failure)
			}
			if z, err = o.Get(ctx, s.UUID); err != nil || z.State != zones.StateFailed || z.ZoneState != zones.StateInstalled || !strings.Contains(z.Failure, tt.failure) {
				t.Errorf("%+v, %v", z, err)
			}
			if err := o.Start(ctx, s.UUID, StartOptions{}); !errors.Is(err, zones.ErrFailed) {
				t.Errorf("start of a failed zone: %v", err)
			}
		})
	}
}

// With nowait, or when its caller goes, a zone goes on being provisioned, and whoever looks next finds out how that went.
func TestProvisioningWithoutWaiting(t *testing.T) {
	o := newLab(t, lab{}).must(t)
	ctx := t.Context()
	go func() { _ = o.Run(ctx) }()
	s := scripted(t, "while ! test -e /root/go; do sleep 0.02; done", `,"nowait":true`)
	z, err := o.Create(ctx, s)
	if err != nil || z.State != zones.StateProvisioning || z.ZoneState != zones.StateRunning || z.TransitionTo != zones.StateRunning || z.TransitionExpire.IsZero() {
		t.Fatalf("%+v, %v", z, err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	s2 := scripted(t, "sleep 100", "")
	s2.UUID = "dededede-0000-4000-8000-000000000002"
	if _, err := o.Create(short, s2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("create: %v", err)
	}
	if got := state(t, o, s2.UUID); got != zones.StateProvisioning {
		t.Errorf("a zone whose creator went is %s", got)
	}
	// It ends before it is done.
	if err := o.Kill(ctx, s2.UUID, zones.SIGKILL); err != nil {
		t.Error(err)
	}
	await(t, o, s2.UUID, zones.StateFailed)
	o.sh(t, z.UUID, "touch /root/go")
	await(t, o, z.UUID, zones.StateRunning)
	// Whoever watches has noted it too.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r, err := o.load(z.UUID); err != nil || r.Provisioning == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Error("the record still says provisioning")
			break
		}
	}
	if err := o.Reprovision(ctx, s2.UUID, "sparse"); err != nil {
		t.Fatal(err)
	}
	if err := o.Start(ctx, s2.UUID, StartOptions{}); err != nil || state(t, o, s2.UUID) != zones.StateRunning {
		t.Errorf("a failed zone after a reprovision: %v, %s", err, state(t, o, s2.UUID))
	}
}

// await waits until another goroutine has brought a zone to a state.
func await(t *testing.T, o *opened, id string, want zones.State) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); state(t, o, id) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("zone %s is %s, not %s", id, state(t, o, id), want)
		}
	}
}
