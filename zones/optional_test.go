package zones_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/zones"
)

const propertiesHead = `# Properties

What a payload of ` + "`vmadm create` and `vmadm update`" + ` may have, and what is done with it. ` + "`zones.Properties`" + ` gives this table to a program; after a
change of it, MOBULA_WRITE=1 writes this file anew in the package's tests.

- Changes take hold at once (now), at once because only records change (record), or when the zone is next started (reboot). Without one of these a property
  cannot be changed, or has verbs of its own: set_ and remove_ for objects, add_, update_ and remove_ for lists.
- **served** properties do what vmadm's manual says. **kept** ones are kept and shown, and nothing follows them. A spec that asks for something **refused**
  gives an UnsupportedError that names every such property, before anything is made or changed; so does one that asks for something **optional** of a
  driver that does not name it in its Capabilities.

| property | kind | brands | change | here | |
|---|---|---|---|---|---|
`

func brandsOf(p zones.PropertyInfo) string {
	var names []string
	for _, b := range p.Brands {
		names = append(names, string(b))
	}
	s := strings.Join(names, " ")
	return strings.NewReplacer("joyent joyent-minimal builder lx kvm bhyve", "all", "joyent joyent-minimal builder lx", "OS", "kvm bhyve", "HVM").Replace(s)
}

// The page lists what the code takes, and nothing else.
func TestPropertiesPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(propertiesHead)
	for _, p := range zones.Properties() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", p.Name, p.Kind, brandsOf(p), p.Update, p.Effect, p.Note)
	}
	if os.Getenv("MOBULA_WRITE") != "" {
		if err := os.WriteFile("PROPERTIES.md", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile("PROPERTIES.md")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.String(), string(have)); d != "" {
		t.Errorf("PROPERTIES.md is not what the code says:\n%s", d)
	}
}

func TestSupports(t *testing.T) {
	tests := []struct {
		name, payload string
		properties    []string
		refused       []string
	}{
		{"plain", `{"brand":"joyent","image_uuid":"sparse","nics":[{"nic_tag":"a","ip":"dhcp"}]}`, nil, nil},
		{"defaults of a VM", `{"brand":"bhyve","bootrom":"bios","vnc_port":0,"disks":[{"size":10,"refreservation":0}]}`, nil, nil},
		{"all at once", `{"brand":"bhyve","bootrom":"uefi","vnc_password":"secret","disks":[{"size":10,"refreservation":5}],"nics":[{"nic_tag":"a","ip":"dhcp","allowed_dhcp_cids":["x"]}]}`,
			nil, []string{"bootrom=uefi", "vnc_password", "disks.*.refreservation", "nics.*.allowed_dhcp_cids"}},
		{"what the driver has", `{"brand":"bhyve","bootrom":"uefi","vnc_port":-1}`, []string{"bootrom=uefi"}, nil},
		{"never", `{"brand":"bhyve","bootrom":"/etc/passwd","archive_on_delete":true}`, []string{"bootrom=PATH", "archive_on_delete"}, []string{"bootrom=PATH", "archive_on_delete"}},
		{"another pool", `{"brand":"joyent","image_uuid":"sparse","zpool":"tank"}`, nil, []string{"zpool=NAME"}},
		{"file systems", `{"brand":"joyent","image_uuid":"sparse","filesystems":[{"type":"nfs","source":"a:/b","target":"/c"},{"type":"lofs","source":"/a","target":"/b","raw":"/dev/x"}]}`,
			nil, []string{"filesystems.*.type=nfs", "filesystems.*.raw"}},
		{"a router in an OS zone", `{"brand":"joyent","image_uuid":"sparse","nics":[{"nic_tag":"a","ip":"10.0.0.1","netmask":"255.0.0.0"},{"nic_tag":"a","ip":"10.0.0.2","netmask":"255.0.0.0","vrrp_vrid":3,"vrrp_primary_ip":"10.0.0.1"}]}`, nil,
			[]string{"nics.*.vrrp_vrid=OS"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := zones.ParseSpec([]byte(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			err = zones.Capabilities{Properties: tt.properties}.Supports(s)
			if len(tt.refused) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e, ok := errors.AsType[*zones.UnsupportedError](err)
			if !ok || !errors.Is(err, zones.ErrNotSupported) || !errors.Is(err, errors.ErrUnsupported) {
				t.Fatalf("error %v", err)
			}
			for _, name := range tt.refused {
				if e.Properties[name] == "" || !strings.Contains(err.Error(), name) {
					t.Errorf("%s is not refused: %v", name, err)
				}
			}
			if len(e.Properties) != len(tt.refused) || strings.Contains(err.Error(), "secret") {
				t.Errorf("refused %v, want %v", e.Properties, tt.refused)
			}
		})
	}
}
