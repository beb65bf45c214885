//go:build cgo

package oci

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones"
)

func TestCapabilitiesOf(t *testing.T) {
	for in, want := range map[string]uint64{
		"": defaultCaps, "default": defaultCaps, " default , dtrace_user,sys_time": defaultCaps,
		"default,!net_rawaccess": defaultCaps &^ (1 << unix.CAP_NET_RAW), "default,-proc_setid": defaultCaps &^ (1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID),
		"basic": 0, "basic,file_chown": 1 << unix.CAP_CHOWN,
	} {
		if got, err := capabilitiesOf(in); err != nil || got != want {
			t.Errorf("capabilitiesOf(%q) = %#x, %v, want %#x", in, got, err, want)
		}
	}
	if _, err := capabilitiesOf("default,!proc_fork"); !errors.Is(err, zones.ErrNotSupported) {
		t.Errorf("taking proc_fork away = %v, want ErrNotSupported", err)
	}
	if n := len(capabilityNames(defaultCaps)); n != 14 {
		t.Errorf("%d names for 14 capabilities", n)
	}
}

func FuzzCapabilitiesOf(f *testing.F) {
	f.Add("default,!net_rawaccess,-,,all")
	f.Fuzz(func(t *testing.T, s string) {
		if caps, err := capabilitiesOf(s); err == nil && caps&^defaultCaps != 0 {
			t.Errorf("%q gives %#x beyond the default", s, caps&^defaultCaps)
		}
	})
}
