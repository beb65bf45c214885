//go:build linux

package kvm

import (
	"strings"
	"testing"
	"time"

	"github.com/mobulacloud/mobula/internal/testenv"
)

// Package network on the kernel that Debian 12 has, whatever this machine has: another version, with modules, with 802.1Q.
// Under emulation it takes minutes, so it runs when long runs are asked for.
func TestNetworkOnDebianKernel(t *testing.T) {
	if !testenv.Long() {
		t.Skip("takes minutes; set MOBULA_LONG=1")
	}
	withGuest(t)
	k, err := makeGuest(networkModules, "../network")
	if err != nil {
		t.Fatal(err)
	}
	d := newDriver(t, func(c *Config) { c.Kernel = k })
	m := newMachine(t)
	m.Spec.RAM, m.Spec.VCPUs, m.Spec.CPUType = 1024, 2, "host"
	m.Limits.Memory, m.Limits.Swap = 2<<30, 2<<30
	start(t, d, m)
	console := newTalk(t, d, m.ID)
	console.limit = 20 * time.Minute
	if got := console.until("guest: tests ended: "); got != "<nil>" {
		t.Errorf("the tests ended with %s:\n%s", got, console.seen.String())
	}
	if said := console.seen.String(); !strings.Contains(said, "--- PASS: TestUplinkVLAN") || strings.Contains(said, "--- SKIP") {
		t.Errorf("tests were left out:\n%s", said)
	}
	if st, err := d.Wait(t.Context(), m.ID); err != nil || !st.Success() {
		t.Errorf("Wait = %+v, %v", st, err)
	}
}
