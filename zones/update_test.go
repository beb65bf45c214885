package zones_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/zones"
)

func zone(t *testing.T) *zones.Spec {
	t.Helper()
	s, err := zones.ParseSpec([]byte(`{"brand": "joyent", "image_uuid": "sparse", "alias": "a", "tags": {"x": 1, "y": "z"},
		"nics": [{"mac": "02:08:20:00:00:01", "nic_tag": "admin", "ip": "dhcp", "primary": true},
		         {"mac": "02:08:20:00:00:02", "nic_tag": "external", "ip": "dhcp"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s.SetDefaults()
	return s
}

func TestUpdateApply(t *testing.T) {
	tests := []struct {
		name, payload string
		live          zones.Live
		want          func(*zones.Spec)
	}{
		{"nothing", `{}`, zones.LiveRecord, func(*zones.Spec) {}},
		{"alias", `{"alias": "b"}`, zones.LiveRecord, func(s *zones.Spec) { s.Alias = "b" }},
		{"null clears", `{"alias": null}`, zones.LiveRecord, func(s *zones.Spec) { s.Alias = "" }},
		{"memory takes swap along", `{"max_physical_memory": 1024}`, zones.LiveNow, func(s *zones.Spec) {
			s.MaxPhysicalMemory, s.RAM, s.MaxSwap, s.MaxLockedMemory = 1024, 1024, 1024, 1024
		}},
		{"cap is live", `{"cpu_cap": "250"}`, zones.LiveNow, func(s *zones.Spec) { s.CPUCap = 250 }},
		{"tags", `{"set_tags": {"x": 2, "n": true}, "remove_tags": ["y", "none"]}`, zones.LiveRecord, func(s *zones.Spec) {
			s.Tags = map[string]any{"x": 2.0, "n": true}
		}},
		{"new primary", `{"update_nics": [{"mac": "02:08:20:00:00:02", "primary": true}]}`, zones.LiveReboot, func(s *zones.Spec) {
			s.NICs[0].Primary, s.NICs[1].Primary = false, true
		}},
		{"remove and add", `{"remove_nics": ["02:08:20:00:00:01"], "add_nics": [{"mac": "02:08:20:00:00:03", "nic_tag": "x", "ip": "dhcp"}]}`,
			zones.LiveReboot, func(s *zones.Spec) {
				s.NICs = []zones.NIC{s.NICs[1], {MAC: "02:08:20:00:00:03", NICTag: "x", IP: "dhcp"}}
				s.NICs[0].Primary = true
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := zone(t)
			u, err := zones.ParseUpdate(s.Brand, []byte(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			got, changes, live, err := u.Apply(s)
			if err != nil {
				t.Fatal(err)
			}
			want := zone(t)
			if d := cmp.Diff(want, s); d != "" {
				t.Errorf("Apply changed its argument: %s", d)
			}
			tt.want(want)
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if live != tt.live {
				t.Errorf("live = %s, want %s (%v)", live, tt.live, changes)
			}
			if again, more, _, err := u.Apply(got); err == nil && len(more) > 0 && tt.name != "remove and add" {
				t.Errorf("applying twice changes %v in %+v", more, again)
			}
		})
	}
}

func TestUpdateRefusals(t *testing.T) {
	for _, payload := range []string{`{"tags": {}}`, `{"nics": []}`, `{"uuid": "` + image + `"}`, `{"brand": "kvm"}`, `{"vcpus": 2}`,
		`{"add_disks": []}`, `{"update_nics": [{"ip": "dhcp"}]}`, `{"set_tags": 1}`, `{"max_swap": 1}`} {
		if _, err := zones.ParseUpdate(zones.BrandJoyent, []byte(payload)); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("ParseUpdate(%s) = %v, want ErrInvalid", payload, err)
		}
	}
	for _, payload := range []string{`{"update_nics": [{"mac": "02:08:20:00:00:09", "ip": "dhcp"}]}`,
		`{"add_nics": [{"mac": "02:08:20:00:00:01", "nic_tag": "a", "ip": "dhcp"}]}`, `{"add_nics": [{"ip": "dhcp"}]}`,
		`{"max_physical_memory": 2048, "max_swap": 1024}`} {
		u, err := zones.ParseUpdate(zones.BrandJoyent, []byte(payload))
		if err != nil {
			t.Errorf("ParseUpdate(%s): %v", payload, err)
			continue
		}
		if _, _, _, err := u.Apply(zone(t)); !errors.Is(err, zones.ErrInvalid) {
			t.Errorf("Apply(%s) = %v, want ErrInvalid", payload, err)
		}
	}
}

func TestSignals(t *testing.T) {
	for in, want := range map[string]zones.Signal{"TERM": zones.SIGTERM, "sigkill": zones.SIGKILL, "1": zones.SIGHUP, "SIGRTMIN+3": "SIGRTMIN+3"} {
		if got, err := zones.ParseSignal(in); err != nil || got != want || zones.SignalOf(got.Number()) != want {
			t.Errorf("ParseSignal(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "SIG", "0", "99", "NONE", "-1"} {
		if got, err := zones.ParseSignal(in); err == nil {
			t.Errorf("ParseSignal(%q) = %q, want an error", in, got)
		}
	}
}
