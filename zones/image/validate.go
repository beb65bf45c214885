package image

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Values that a manifest may hold.
var (
	Types        = []string{"zone-dataset", "lx-dataset", "zvol", "docker", "lxd", "other"}
	OSes         = []string{"smartos", "windows", "linux", "bsd", "illumos", "other"}
	Compressions = []string{"none", "gzip", "bzip2", "xz", "zstd"}
)

// Validate checks the manifest and names every problem with its field; the error matches [ErrManifest].
func (m *Manifest) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	oneOf := func(field, v string, of []string) {
		if !slices.Contains(of, v) {
			bad(field, "%.40q is none of %s", v, strings.Join(of, ", "))
		}
	}
	id := func(field, v string) {
		if !validUUID(v) {
			bad(field, "%.40q is not a uuid", v)
		}
	}
	if m.V != 2 {
		bad("v", "%d, want 2", m.V)
	}
	id("uuid", m.UUID)
	id("owner", m.Owner)
	if m.Name == "" || len(m.Name) > 512 {
		bad("name", "1 to 512 bytes")
	}
	if m.Version == "" || len(m.Version) > 128 {
		bad("version", "1 to 128 bytes")
	}
	if len(m.Description) > 512 {
		bad("description", "at most 512 bytes")
	}
	oneOf("type", m.Type, Types)
	oneOf("os", m.OS, OSes)
	if m.Origin != "" {
		id("origin", m.Origin)
		if m.Origin == m.UUID {
			bad("origin", "the image itself")
		}
	}
	for _, f := range [][2]string{{"homepage", m.Homepage}, {"eula", m.EULA}} {
		if f[1] == "" {
			continue
		}
		if u, err := url.Parse(f[1]); err != nil || len(f[1]) > 128 || u.Scheme != "http" && u.Scheme != "https" {
			bad(f[0], "at most 128 bytes of an http URL")
		}
	}
	for i, a := range m.ACL {
		id(fmt.Sprintf("acl[%d]", i), a)
	}
	m.checkFiles(bad, oneOf)
	m.checkUsers(bad)
	if r := m.Requirements; r != nil {
		if r.MinRAM < 0 || r.MaxRAM < 0 || r.MaxRAM > 0 && r.MaxRAM < r.MinRAM {
			bad("requirements", "min_ram %d and max_ram %d", r.MinRAM, r.MaxRAM)
		}
		for i, n := range r.Networks {
			if n.Name == "" {
				bad(fmt.Sprintf("requirements.networks[%d].name", i), "missing")
			}
		}
	}
	if m.Type == "zvol" {
		for _, f := range [][2]string{{"nic_driver", m.NICDriver}, {"disk_driver", m.DiskDriver}, {"cpu_type", m.CPUType}} {
			if f[1] == "" {
				bad(f[0], "missing for type zvol")
			}
		}
		if m.ImageSize <= 0 {
			bad("image_size", "missing for type zvol")
		}
	}
	for _, d := range m.InheritedDirectories {
		if !strings.HasPrefix(d, "/") || strings.Contains(d, "..") {
			bad("inherited_directories", "%.60q", d)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", ErrManifest, errors.Join(errs...))
	}
	return nil
}

func (m *Manifest) checkFiles(bad func(string, string, ...any), oneOf func(string, string, []string)) {
	if len(m.Files) == 0 && m.State != "unactivated" && m.State != "creating" {
		bad("files", "missing")
	}
	if len(m.Files) > 1 {
		bad("files", "%d, at most 1", len(m.Files))
	}
	for i, f := range m.Files {
		at := fmt.Sprintf("files[%d].", i)
		if b, err := hex.DecodeString(f.SHA1); err != nil || len(b) != 20 {
			bad(at+"sha1", "40 hexadecimal digits")
		}
		if f.Size <= 0 {
			bad(at+"size", "%d", f.Size)
		}
		oneOf(at+"compression", f.Compression, Compressions)
		for _, d := range [][2]string{{"digest", f.Digest}, {"uncompressedDigest", f.UncompressedDigest}} {
			if d[1] == "" {
				continue
			}
			h, ok := strings.CutPrefix(d[1], "sha256:")
			if b, err := hex.DecodeString(h); !ok || err != nil || len(b) != 32 {
				bad(at+d[0], "sha256: and 64 hexadecimal digits")
			}
		}
	}
}

func (m *Manifest) checkUsers(bad func(string, string, ...any)) {
	seen := map[string]bool{}
	for i, u := range m.Users {
		at := fmt.Sprintf("users[%d].name", i)
		ok := u.Name != "" && len(u.Name) <= 64
		for _, c := range u.Name {
			ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.')
		}
		if !ok {
			bad(at, "%.40q", u.Name)
		}
		if seen[u.Name] {
			bad(at, "%q twice", u.Name)
		}
		seen[u.Name] = true
	}
}

// validUUID takes the one form that is also safe as a file's name.
func validUUID(s string) bool {
	if len(s) != 36 || strings.ToLower(s) != s {
		return false
	}
	_, err := uuid.Parse(s)
	return err == nil
}
