//go:build linux

package kvm

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/mobulacloud/mobula/zones"
)

func TestSysrq(t *testing.T) {
	d := newDriver(t)
	m := newMachine(t)
	start(t, d, m)
	var b bytes.Buffer
	for range 2 { // the second finds nothing of the first
		b.Reset()
		if err := d.Screenshot(t.Context(), m.ID, &b); err != nil {
			t.Fatal(err)
		}
	}
	var wide, high, most int
	if _, err := fmt.Sscanf(b.String(), "P6\n%d %d\n%d\n", &wide, &high, &most); err != nil || wide < 320 || high < 200 || b.Len() < 3*wide*high {
		t.Errorf("picture of %d by %d, %d bytes, %v", wide, high, b.Len(), err)
	}
	if err := d.NMI(t.Context(), m.ID); err != nil {
		t.Error(err)
	}
	blind := newMachine(t)
	blind.Spec.VGA = "none"
	start(t, d, blind)
	if err := d.Screenshot(t.Context(), blind.ID, &b); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("picture of no screen: %v", err)
	}
	if err := d.Destroy(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	if err := d.NMI(t.Context(), m.ID); !errors.Is(err, zones.ErrNotExist) {
		t.Errorf("NMI after the end: %v", err)
	}
}
