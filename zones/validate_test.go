package zones_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/zones"
)

const image = "01b2c898-945f-11e1-a523-af1afbe22822"

func TestParseSpec(t *testing.T) {
	s, err := zones.ParseSpec([]byte(`{"brand": "joyent-minimal", "image_uuid": "sparse", "alias": "web0",
		"max_physical_memory": "512", "cpu_cap": 150, "autoboot": "false", "quota": 10, "resolvers": ["8.8.8.8"],
		"customer_metadata": {"user-script": "#!/bin/sh", "n": 1, "b": true},
		"nics": [{"nic_tag": "admin", "ip": "10.0.0.5", "netmask": "255.255.255.0", "gateway": "10.0.0.1"}],
		"filesystems": [{"type": "lofs", "source": "/srv", "target": "/srv", "options": ["ro"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s.SetDefaults()
	if s.MaxPhysicalMemory != 512 || s.RAM != 512 || s.MaxSwap != 512 || s.AutobootOn() || *s.TmpFS != 512 || s.MaxLWPs != 2000 {
		t.Errorf("after defaults: %+v", s)
	}
	if got, want := s.Limits(), (zones.Limits{CPUCap: 150, CPUShares: 100, Memory: 512 << 20, Swap: 512 << 20, LWPs: 2000,
		LockedMemory: 512 << 20, IOPriority: 100, TmpFS: 512 << 20}); got != want {
		t.Errorf("Limits() = %+v, want %+v", got, want)
	}
	if got := s.NICs[0].Prefixes(); len(got) != 1 || got[0].String() != "10.0.0.5/24" {
		t.Errorf("Prefixes() = %v", got)
	}
	if !s.NICs[0].Primary {
		t.Error("the only NIC is not primary")
	}
	if err := s.Validate(); err != nil {
		t.Errorf("a parsed spec with defaults is invalid: %v", err)
	}
	c := s.Clone()
	if d := cmp.Diff(s, c); d != "" {
		t.Error(d)
	}
	c.NICs[0].IP, c.CustomerMetadata["n"], *c.Quota = "1.1.1.1", 2, 3
	if s.NICs[0].IP == "1.1.1.1" || s.CustomerMetadata["n"] == 2 || *s.Quota == 3 {
		t.Error("Clone shares memory")
	}
}

func TestParseSpecReportsEverything(t *testing.T) {
	tests := []struct {
		name, payload string
		want          zones.ValidationError
	}{
		{"no brand", `{}`, zones.ValidationError{MissingProperties: []string{"brand"}}},
		{"unknown brand", `{"brand": "gorilla", "hello": "world"}`, zones.ValidationError{BadBrand: "gorilla"}},
		{"many at once", `{"brand": "joyent", "vcpus": 2, "hello": 1, "cpu_cap": -3, "ram": "lots",
			"nics": [{"nic_tag": "a", "ip": "dhcp"}, {"ip": "10.0.0.300", "mac": "x"}, {"nic_tag": "b", "ip": "10.0.0.1"}]}`,
			zones.ValidationError{BadProperties: []string{"hello", "vcpus"}, BadValues: []string{"cpu_cap", "nics.1.ip", "nics.1.mac", "ram"},
				MissingProperties: []string{"image_uuid", "nics.1.nic_tag", "nics.2.netmask"}}},
		{"image", `{"brand": "lx", "image_uuid": "../../etc"}`, zones.ValidationError{BadValues: []string{"image_uuid"}}},
		{"read-only property", `{"brand": "lx", "image_uuid": "` + image + `", "zone_state": "running"}`,
			zones.ValidationError{BadProperties: []string{"zone_state"}}},
		{"disks", `{"brand": "kvm", "disks": [{"size": 10, "boot": true}, {"boot": true}, {"media": "cdrom"}], "vcpus": 65}`,
			zones.ValidationError{BadValues: []string{"disks", "vcpus"}, MissingProperties: []string{"disks.1.size", "disks.2.path"}}},
		{"swap below memory", `{"brand": "joyent", "image_uuid": "sparse", "max_physical_memory": 1024, "max_swap": 512}`,
			zones.ValidationError{BadValues: []string{"max_swap"}}},
		{"metadata", `{"brand": "joyent", "image_uuid": "sparse", "tags": {"a": {}}, "customer_metadata": [1]}`,
			zones.ValidationError{BadValues: []string{"customer_metadata", "tags.a"}}},
		{"two primaries", `{"brand": "kvm", "nics": [{"nic_tag": "a", "ip": "dhcp", "primary": true}, {"nic_tag": "a", "ip": "dhcp", "primary": 1}]}`,
			zones.ValidationError{BadValues: []string{"nics"}}},
		{"filesystem", `{"brand": "joyent", "image_uuid": "sparse", "filesystems": [{"type": "lofs", "source": "a", "target": "/x/../y"}]}`,
			zones.ValidationError{BadValues: []string{"filesystems.0.source", "filesystems.0.target"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := zones.ParseSpec([]byte(tt.payload))
			got, ok := errors.AsType[*zones.ValidationError](err)
			if !ok || !errors.Is(err, zones.ErrInvalid) {
				t.Fatalf("err = %v, want a ValidationError", err)
			}
			for _, l := range []*[]string{&tt.want.BadProperties, &tt.want.BadValues, &tt.want.MissingProperties} {
				if *l == nil {
					*l = []string{}
				}
			}
			got.Reasons = nil
			if d := cmp.Diff(&tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestValidationErrorJSON(t *testing.T) {
	_, err := zones.ParseSpec([]byte(`{"brand": "joyent"}`))
	data, _ := json.Marshal(err)
	if got, want := string(data), `{"bad_properties":[],"bad_values":[],"missing_properties":["image_uuid"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseSpecNotAnObject(t *testing.T) {
	for _, s := range []string{"", "null", "[]", "{} {}", `{"brand": "kvm"`, strings.Repeat(" ", zones.MaxPayload+1)} {
		if _, err := zones.ParseSpec([]byte(s)); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("ParseSpec(%.20q) = %v", s, err)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"brand": "joyent", "image_uuid": "sparse", "nics": [{"nic_tag": "a", "ip": "dhcp"}], "quota": 1.5}`))
	f.Add([]byte(`{"brand": "kvm", "disks": [{"size": "10"}], "tags": {"a": 1}, "routes": {"10.0.0.0/8": "nics[0]"}}`))
	f.Add([]byte(`{"brand": "lx", "nics": [null, 1, []], "resolvers": "1.1.1.1,::1", "tmpfs": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := zones.ParseSpec(data)
		if err != nil {
			if !errors.Is(err, zones.ErrInvalid) || err.Error() == "" {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			return
		}
		s.SetDefaults()
		_ = s.Limits()
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := zones.ParseSpec(out); err != nil {
			t.Fatalf("an accepted payload is refused with its defaults: %v\n%s", err, out)
		}
	})
}
