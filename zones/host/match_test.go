package host

import (
	"errors"
	"testing"

	"github.com/mobulacloud/mobula/zones"
)

func TestFilter(t *testing.T) {
	z := &zones.Zone{
		Spec: zones.Spec{
			UUID: "u", Alias: "web1", Brand: zones.BrandJoyent, MaxPhysicalMemory: 256, Autoboot: new(true),
			Tags: map[string]any{"role": "web", "a.b": "dotted", "n": 3, "t": true},
			NICs: []zones.NIC{{IP: "10.0.0.1", Primary: true}, {IP: "10.0.0.2", IPs: []string{"10.0.0.2/24", "fd00::2/64"}}},
		},
		State: zones.StateRunning,
	}
	for filter, want := range map[string]bool{
		"alias=web1": true, "alias=web": false, "alias=~^web": true, "alias=~x": false, "state=running": true, "max_physical_memory=256": true,
		"max_physical_memory=25": false, "autoboot=true": true, "tags.role=web": true, "tags.a.b=dotted": true, "tags.n=3": true, "tags.t=true": true,
		"tags.none=": true, "tags.none=~.*": false, "nics.0.ip=10.0.0.1": true, "nics.*.ip=10.0.0.2": true, "nics.*.ip=10.0.0.3": false,
		"nics.*.ips.*=fd00::2/64": true, "nics.7.ip=": true, "hostname=": true, "tags.*=web": true, "alias.x=": true,
	} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Errorf("ParseFilter(%q): %v", filter, err)
			continue
		}
		if got, err := f.Match(z); got != want || err != nil {
			t.Errorf("%q matches = %v, %v, want %v", filter, got, err, want)
		}
	}
	f, err := ParseFilter("alias=web1", "state=stopped")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := f.Match(z); got {
		t.Error("one of two conditions is enough")
	}
	for _, bad := range []string{"", "alias", "=x", "alias=~("} {
		if _, err := ParseFilter(bad); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("ParseFilter(%q) = %v, want ErrInvalid", bad, err)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add("tags.a=~x+")
	f.Add("nics.*.ip=")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseFilter(s)
		if err != nil {
			return
		}
		c.Match(&zones.Zone{Spec: zones.Spec{Alias: "x", Tags: map[string]any{"a": "b"}, NICs: []zones.NIC{{}}}})
	})
}
