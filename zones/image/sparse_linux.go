package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mobulacloud/mobula/zones"
)

const nonblock = syscall.O_NONBLOCK

// SparseUUID is the uuid of the built-in image; its last digits spell its name.
const SparseUUID = "00000000-0000-0000-0000-737061727365"

// sparseDirs are the host's directories that a sparse zone shares. Where the host has links (usr-merge), the zone has them too.
var sparseDirs = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// sparseEtc is what programs of the host's need of its /etc to find their parts; all of it is public.
var sparseEtc = []string{"etc/alternatives", "etc/ld.so.cache", "etc/ld.so.conf", "etc/ld.so.conf.d", "etc/ssl/certs", "etc/ca-certificates.conf", "etc/mime.types", "etc/services", "etc/protocols"}

// sparseTree is the private part: what a zone finds of its own. A "/" at the end is a directory.
var sparseTree = []struct {
	name string
	mode fs.FileMode
	body string
}{
	{"etc/", 0o755, ""}, {"etc/ssl/", 0o755, ""}, {"etc/profile.d/", 0o755, ""},
	{"var/", 0o755, ""}, {"var/log/", 0o755, ""}, {"var/tmp/", 0o777 | fs.ModeSticky, ""}, {"var/lib/", 0o755, ""},
	{"var/cache/", 0o755, ""}, {"var/spool/", 0o755, ""}, {"var/db/", 0o755, ""}, {"var/svc/", 0o755, ""},
	{"tmp/", 0o777 | fs.ModeSticky, ""}, {"home/", 0o755, ""}, {"root/", 0o700, ""}, {"opt/", 0o755, ""}, {"srv/", 0o755, ""},
	{"dev/", 0o755, ""}, {"proc/", 0o555, ""}, {"sys/", 0o555, ""}, {"run/", 0o755, ""}, {"mnt/", 0o755, ""}, {"media/", 0o755, ""},
	{"etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n" +
		"bin:x:2:2:bin:/bin:/usr/sbin/nologin\nsys:x:3:3:sys:/dev:/usr/sbin/nologin\nmail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n" +
		"www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	{"etc/group", 0o644, "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\nwww-data:x:33:\n" +
		"utmp:x:43:\nstaff:x:50:\nusers:x:100:\nnogroup:x:65534:\n"},
	{"etc/shadow", 0o600, "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"},
	{"etc/gshadow", 0o600, "root:*::\n"},
	{"etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	{"etc/hostname", 0o644, "localhost\n"},
	{"etc/resolv.conf", 0o644, ""},
	{"etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"},
	{"etc/shells", 0o644, "/bin/sh\n/bin/bash\n"},
	{"etc/fstab", 0o644, ""},
	{"etc/profile", 0o644, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/local/bin\nexport PATH\n" +
		"for f in /etc/profile.d/*.sh; do [ -r \"$f\" ] && . \"$f\"; done\nunset f\n"},
	{"root/.profile", 0o644, "mesg n 2>/dev/null || true\n"},
}

// sparseLayout says what a sparse zone shows of a host: the links that its tree has, and the mounts.
func sparseLayout(hostRoot string) (links map[string]string, dirs []string, files []string, mounts []zones.Mount, err error) {
	links = map[string]string{}
	share := func(name string, dir bool) {
		if dir {
			dirs = append(dirs, name)
		} else {
			files = append(files, name)
		}
		mounts = append(mounts, zones.Mount{
			Type: zones.MountBind, Source: filepath.Join(hostRoot, name), Target: "/" + name, ReadOnly: true,
			Optional: strings.HasPrefix(name, "etc/"),
		})
	}
	for _, d := range append(append([]string{}, sparseDirs...), sparseEtc...) {
		host := filepath.Join(hostRoot, d)
		fi, err := os.Lstat(host)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, nil, nil, fmt.Errorf("sparse image: %w", err)
		}
		switch {
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(host)
			if err != nil {
				return nil, nil, nil, nil, fmt.Errorf("sparse image: %w", err)
			}
			if strings.HasPrefix(path.Clean("/"+path.Dir(d)+"/"+to), "/usr/") || strings.HasPrefix(to, "/usr/") {
				links[d] = to
			}
		case fi.IsDir():
			share(d, true)
		case fi.Mode().IsRegular():
			share(d, false)
		}
	}
	return links, dirs, files, mounts, nil
}

// sparse gives the built-in image, making its private part on the pool when it is not there yet. Mounts are those of the
// host as it is now.
func (s *Store) sparse(ctx context.Context) (Image, error) {
	links, dirs, files, mounts, err := sparseLayout(s.cfg.HostRoot)
	if err != nil {
		return Image{}, err
	}
	img, err := s.load(SparseUUID)
	if err == nil {
		img.Mounts = mounts
		return img, nil
	}
	if !errors.Is(err, ErrNotExist) {
		return Image{}, err
	}
	now := s.now()
	img = Image{
		Manifest: Manifest{
			V: 2, UUID: SparseUUID, Owner: zones.NilUUID, Name: "sparse", Version: "1", State: "active", Public: true, PublishedAt: &now,
			Type: "zone-dataset", OS: "linux", Description: "the host's /usr, read-only, and a tree of its own",
			InheritedDirectories: []string{"/usr"},
		},
		Dataset: datasetPrefix + SparseUUID, Mounts: mounts,
	}
	made, err := s.build(ctx, img, func(name string) error {
		if err := s.newDataset(ctx, name, nil); err != nil {
			return err
		}
		return s.live(ctx, name, func(root *os.Root) error { return sparseFill(root, links, dirs, files) })
	}, &img)
	if errors.Is(err, ErrExist) { // somebody else made it meanwhile
		made, err = s.load(SparseUUID)
		made.Mounts = mounts
	}
	return made, err
}

func sparseFill(root *os.Root, links map[string]string, dirs, files []string) error {
	for _, e := range sparseTree {
		name := strings.TrimSuffix(e.name, "/")
		var err error
		if name != e.name {
			err = root.MkdirAll(name, 0o755)
		} else {
			err = root.WriteFile(name, []byte(e.body), 0o600)
		}
		if err == nil {
			err = root.Chmod(name, e.mode)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range dirs {
		if err := root.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := root.WriteFile(f, nil, 0o644); err != nil {
			return err
		}
	}
	for name, to := range links {
		if err := errors.Join(root.MkdirAll(path.Dir(name), 0o755), root.Symlink(to, name)); err != nil {
			return err
		}
	}
	return root.Symlink("../usr/lib/os-release", "etc/os-release")
}
