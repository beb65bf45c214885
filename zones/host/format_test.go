//go:build linux

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/internal/statefile"
)

// Every format ever written is read for good; a newer one is refused rather than misread.
func TestFormats(t *testing.T) {
	h := &Host{cfg: Config{Dir: t.TempDir()}, files: statefile.OS{}}
	os.Mkdir(filepath.Join(h.cfg.Dir, "zones"), 0o700)
	const id = "c0c0c0c0-0000-4000-8000-000000000001"
	copyFile := func(from, to string, change ...string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(strings.NewReplacer(change...).Replace(string(b))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copyFile("testdata/v1/zone.json", h.recordPath(id))
	r, err := h.load(id)
	if err != nil {
		t.Fatal(err)
	}
	if r.Spec.Alias != "web1" || r.IDs != (zones.IDRange{First: 1 << 30, Size: 65536}) || r.Handle.Driver != "oci" || string(r.Handle.Data) != "{}" ||
		r.Exit.Code != 137 || r.Op.Verb != "reprovision" || r.Op.Step != "swap" || !r.Op.Running || r.Container.Entrypoint[0] != "/bin/app" ||
		*r.Spec.Quota != 10 || r.Created.IsZero() || r.Booted.IsZero() {
		t.Errorf("record = %+v", r)
	}
	if err := r.Spec.Validate(); err != nil {
		t.Error(err)
	}
	copyFile("testdata/v1/host.json", filepath.Join(h.cfg.Dir, "host.json"))
	f, err := h.loadHostFile()
	if err != nil || f.ServerUUID != "11111111-1111-4111-8111-111111111111" || !strings.HasPrefix(f.Boot, "2222") {
		t.Errorf("host file = %+v, %v", f, err)
	}
	copyFile("testdata/v1/zone.json", h.recordPath(id), `"version": 1,
  "spec"`, `"version": 99,
  "spec"`)
	if _, err := h.load(id); err == nil {
		t.Error("a record of version 99 was read")
	}
	copyFile("testdata/v1/host.json", filepath.Join(h.cfg.Dir, "host.json"), `"version": 1`, `"version": 99`)
	if _, err := h.loadHostFile(); err == nil {
		t.Error("a host file of version 99 was read")
	}
	copyFile("testdata/v1/zone.json", h.recordPath("c0c0c0c0-0000-4000-8000-000000000002"))
	if _, err := h.load("c0c0c0c0-0000-4000-8000-000000000002"); err == nil {
		t.Error("a record under another zone's name was read")
	}
}
