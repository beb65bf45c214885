//go:build linux

package pooldir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mobulacloud/mobula/zones/dataset"
)

// Every format ever written is read for good; a newer one is refused rather than misread.
func TestFormats(t *testing.T) {
	r, err := Load("testdata/v1")
	if err != nil {
		t.Fatal(err)
	}
	if r.Quota != 1<<30 || r.Group == 0 || !r.Volatile || r.Origin.Name != "image" || r.Find("one") != 0 || r.Snapshots[0].Stream == "" ||
		len(r.Snapshots[0].Lower) != 2 || len(r.Lower) != 2 || r.Pending.Verb != "rollback" || r.Pending.Layer != "x" {
		t.Errorf("record = %+v", r)
	}
	b, err := os.ReadFile("testdata/v1/record.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "record.json"), []byte(strings.Replace(string(b), `"version":1`, `"version":99`, 1)), 0o600)
	if _, err := Load(dir); !errors.Is(err, dataset.ErrNewerFormat) {
		t.Errorf("record of version 99: %v", err)
	}
	marker, err := os.ReadFile("testdata/v1/mobula.json")
	if err != nil {
		t.Fatal(err)
	}
	for change, want := range map[string]bool{"": true, "version\":1|version\":99": false, "btrfs|overlay": false, "mobula-dataset-pool|other": false} {
		pool := t.TempDir()
		from, to, _ := strings.Cut(change, "|")
		os.WriteFile(filepath.Join(pool, "mobula.json"), []byte(strings.Replace(string(marker), from, to, 1)), 0o600)
		d, err := Open(pool, "btrfs", os.RemoveAll)
		if (err == nil) != want {
			t.Errorf("%q: %v", change, err)
		}
		if err == nil {
			d.Close()
		}
	}
}
