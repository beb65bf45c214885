//go:build linux

package kvm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mobulacloud/mobula/internal/testenv"
	"github.com/mobulacloud/mobula/zones"
)

// A machine starts from UEFI firmware, which finds its variables again at the next boot.
func TestUEFI(t *testing.T) {
	d := newDriver(t, withGuest(t))
	if d.firmware == nil {
		testenv.Missing(t, "ovmf", "no UEFI firmware is installed")
	}
	m := newMachine(t)
	m.Spec.Brand, m.Spec.Bootrom, m.Spec.RAM = zones.BrandBhyve, "uefi", 192
	m.NVRAM = filepath.Join(t.TempDir(), "nvram.fd")
	if err := os.WriteFile(m.NVRAM, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, d, m)
	console := newTalk(t, d, m.ID)
	console.until("guest: firmware is UEFI")
	console.until("guest: booted")
	if err := d.Destroy(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.ReadFile(d.firmware.Vars)
	if err != nil {
		t.Fatal(err)
	}
	vars, err := os.ReadFile(m.NVRAM)
	if err != nil || len(vars) != len(fresh) || bytes.Equal(vars, fresh) {
		t.Errorf("%d bytes of variables, %v; the firmware wrote none", len(vars), err)
	}
}

func TestUEFIRefused(t *testing.T) {
	d := newDriver(t)
	m := newMachine(t)
	m.Spec.Brand, m.Spec.Bootrom = zones.BrandBhyve, "uefi"
	if d.firmware != nil {
		m.NVRAM = filepath.Join(t.TempDir(), "nvram.fd")
		if err := os.WriteFile(m.NVRAM, []byte("of something else"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Start(t.Context(), m); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("variables of other firmware: %v", err)
		}
	}
	d.firmware = nil
	if _, err := d.Start(t.Context(), m); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("without firmware: %v", err)
	}
	m.Spec.Bootrom = "/etc/passwd"
	if _, err := d.Start(t.Context(), m); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("a file as firmware: %v", err)
	}
}
