//go:build linux

package image

import (
	"os"
	"strings"
	"testing"
)

// Every format ever written is read for good; a newer one is refused rather than misread.
func TestFormats(t *testing.T) {
	s := &Store{cfg: Config{Dir: t.TempDir()}}
	os.MkdirAll(s.cfg.Dir+"/images", 0o700)
	b, err := os.ReadFile("testdata/v1/image.json")
	if err != nil {
		t.Fatal(err)
	}
	const id = "c0c0c0c0-0000-4000-8000-000000000001"
	os.WriteFile(s.record(id), b, 0o600)
	img, err := s.load(id)
	if err != nil || img.Manifest.Name != "base" || img.Manifest.Origin == "" || img.Dataset != "image-"+id || img.Disk != "raw" || img.Container.User != "web" || img.Digest != "sha256:00" {
		t.Errorf("image = %+v, %v", img, err)
	}
	os.WriteFile(s.record(id), []byte(strings.Replace(string(b), `"version": 1,`, `"version": 99,`, 1)), 0o600)
	if _, err := s.load(id); err == nil {
		t.Error("a record of version 99 was read")
	}
}

func TestHTTPSourceChecksItsURL(t *testing.T) {
	for _, u := range []string{"", "images.example.com", "ftp://x", "file:///etc"} {
		if _, err := NewHTTP(HTTPConfig{URL: u}); err == nil {
			t.Errorf("NewHTTP(%q) succeeded", u)
		}
	}
	h, err := NewHTTP(HTTPConfig{URL: "https://user:secret@images.example.com/?channel=dev"})
	if err != nil || strings.Contains(h.String(), "secret") || h.channel != "dev" {
		t.Errorf("source = %v, %v", h, err)
	}
}
