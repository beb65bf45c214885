package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mobulacloud/mobula/zones/image"
	"github.com/mobulacloud/mobula/zones/metadata"
)

// script is what the zone's metadata wants run at every boot.
func (z *zone) script(name string) string {
	s, _ := z.Spec.CustomerMetadata[name].(string)
	if name == "operator-script" {
		s, _ = z.Spec.InternalMetadata[name].(string)
	}
	return s
}

// writeControl fills the directory that the zone sees as /.zonecontrol, all of it the zone's root's: scripts now, the metadata socket when
// somebody serves it.
func (z *zone) writeControl(dir string) error {
	own := int(z.IDs.First)
	err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755))
	if z.cfg.GuestTools != "" {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, "bin"), 0o755), os.Chmod(filepath.Join(dir, "bin"), 0o755))
		for _, name := range metadata.GuestPrograms {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, "bin", name), nil, 0o555))
		}
	}
	if err != nil {
		return err
	}
	scripts := []string{"operator-script", "user-script"}
	if z.Provisioning != nil {
		scripts = append(scripts, "provision")
	}
	for _, name := range scripts {
		s := z.script(name)
		if name == "provision" {
			s = provisionScript
		}
		if s == "" {
			continue
		}
		if !strings.HasPrefix(s, "#!") {
			s = "#!/bin/sh\n" + s
		}
		p := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(p, []byte(s), 0o500), os.Chmod(p, 0o500), os.Chown(p, own, own)); err != nil {
			return err
		}
	}
	return nil
}

// seedCreate writes what a new zone's tree gets once.
func (z *zone) seedCreate(root *os.Root) error {
	errs := []error{
		put(root, "etc/hostname", z.Spec.Hostname+"\n", 0o644),
		put(root, "etc/hosts", z.hosts(), 0o644),
	}
	if len(z.Spec.Resolvers) > 0 {
		errs = append(errs, put(root, "etc/resolv.conf", z.resolvConf(), 0o644))
	}
	if z.Provisioning != nil {
		errs = append(errs, root.MkdirAll(markerDir, 0o755), put(root, markerPending, "", 0o644))
	}
	if z.cfg.GuestTools != "" && z.Image == image.SparseUUID {
		errs = append(errs, root.MkdirAll("opt/local/bin", 0o755))
		for _, name := range metadata.GuestPrograms {
			errs = append(errs, root.Symlink("/.zonecontrol/bin/"+name, "opt/local/bin/"+name))
		}
	}
	return errors.Join(errs...)
}

// seedBoot writes what a zone's tree gets at every boot. What the zone's own root put in the way is left: the zone then boots without.
func (z *zone) seedBoot(root *os.Root) error {
	var errs []error
	if z.Spec.MaintainResolvers && len(z.Spec.Resolvers) > 0 {
		errs = append(errs, put(root, "etc/resolv.conf", z.resolvConf(), 0o644))
	}
	if keys, _ := z.Spec.CustomerMetadata["root_authorized_keys"].(string); keys != "" && !z.Spec.Docker {
		errs = append(errs, root.MkdirAll("root/.ssh", 0o700), put(root, "root/.ssh/authorized_keys", strings.TrimRight(keys, "\n")+"\n", 0o600))
	}
	return errors.Join(errs...)
}

func (z *zone) hosts() string {
	name := z.Spec.Hostname
	if z.Spec.DNSDomain != "" {
		name += "." + z.Spec.DNSDomain + " " + z.Spec.Hostname
	}
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, n := range z.Spec.NICs {
		for _, p := range n.Prefixes() {
			fmt.Fprintf(&b, "%s\t%s\n", p.Addr(), name)
		}
	}
	return b.String()
}

func (z *zone) resolvConf() string {
	var b strings.Builder
	if z.Spec.DNSDomain != "" {
		fmt.Fprintf(&b, "search %s\n", z.Spec.DNSDomain)
	}
	for _, r := range z.Spec.Resolvers {
		fmt.Fprintf(&b, "nameserver %s\n", r)
	}
	return b.String()
}

// put replaces a file in a zone's tree. A link in its place is removed rather than followed; a directory on the way that is missing means
// that the image has no use for the file.
func put(root *os.Root, name, body string, mode fs.FileMode) error {
	if _, err := root.Stat(path.Dir(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	tmp := name + ".mobula"
	_ = root.Remove(tmp)
	err := root.WriteFile(tmp, []byte(body), 0o600)
	if err == nil {
		err = root.Chmod(tmp, mode)
	}
	if err == nil {
		err = root.Rename(tmp, name)
	}
	if err != nil {
		_ = root.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
