//go:build linux

package kvm

import (
	"testing"
	"time"

	"github.com/mobulacloud/mobula/zones"
)

// Several processes have the same machine at once, as vmadm and its agent do: all verbs work in each, and all see the
// console, whichever has it and also when that one goes.
func TestSharedMachine(t *testing.T) {
	guest := withGuest(t)
	dir := t.TempDir()
	m := newMachine(t)
	addDisk(t, &m, "raw", 8)
	first := reopen(t, dir, guest)
	h := start(t, first, m)
	second, third := reopen(t, dir, guest), reopen(t, dir, guest)
	for _, d := range []*Driver{second, third} {
		if err := d.Recover(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	one, two := newTalk(t, first, m.ID), newTalk(t, second, m.ID)
	one.until("guest: booted")
	two.until("guest: booted")
	if got := two.ask("write shared"); got != "shared" {
		t.Errorf("the second process hears %q", got)
	}
	if got := one.until("guest: write -> "); got != "shared" {
		t.Errorf("the first process hears %q", got)
	}
	for _, d := range []*Driver{first, second, third} {
		if _, err := d.Usage(t.Context(), m.ID); err != nil {
			t.Error(err)
		}
		if _, err := d.Info(t.Context(), m.ID, "version"); err != nil {
			t.Error(err)
		}
	}
	// The one that has the console goes; another takes it over.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	three := newTalk(t, third, m.ID)
	if got := three.ask("read"); got != "shared" {
		t.Errorf("the third process hears %q", got)
	}
	four := newTalk(t, second, m.ID)
	if got := four.ask("size vda"); got != "16384" {
		t.Errorf("the second process hears %q after the first went", got)
	}
	if err := second.Stop(t.Context(), m.ID, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if st, err := third.Wait(t.Context(), m.ID); err != nil || st.Signal == zones.SIGKILL {
		t.Errorf("Wait = %+v, %v", st, err)
	}
	if err := third.Destroy(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
}
