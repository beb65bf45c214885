//go:build linux

package image

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/mobulacloud/mobula/zones"
)

func layer(t testing.TB, files map[string]string) v1.Layer {
	t.Helper()
	b := tarOf(t, files)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func container(t testing.TB) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layer(t, map[string]string{"bin/app": "app", "old": "x", "etc/passwd": "web:x:33:34::/srv:/bin/sh\n", "etc/group": "adm:x:4:web\nops:x:7:\n"}),
		layer(t, map[string]string{".wh.old": "", "new": "y"}))
	if err != nil {
		t.Fatal(err)
	}
	img, err = mutate.Config(img, v1.Config{
		Entrypoint: []string{"/bin/app"}, Cmd: []string{"-x"}, Env: []string{"A=b"}, User: "web", WorkingDir: "/srv", StopSignal: "SIGINT",
	})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestContainerArchives(t *testing.T) {
	src := container(t)
	dir := t.TempDir()
	save := filepath.Join(dir, "save.tar")
	tag, _ := name.NewTag("example.com/app:1.2")
	if err := tarball.WriteToFile(save, tag, src); err != nil {
		t.Fatal(err)
	}
	oci := filepath.Join(dir, "oci")
	index, err := layout.Write(oci, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := index.AppendImage(src); err != nil {
		t.Fatal(err)
	}
	ociTar := filepath.Join(dir, "oci.tar.gz")
	if out, err := exec.Command("tar", "-C", oci, "-czf", ociTar, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	var ids []string
	for _, path := range []string{save, oci, ociTar} {
		s, p := newStore(t)
		img, err := s.InstallContainer(t.Context(), path, ContainerOptions{})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		ids = append(ids, img.Manifest.UUID)
		if readIn(t, s, img, "new") != "y" || !strings.Contains(readIn(t, s, img, "old"), "no such file") {
			t.Errorf("%s: layers are not applied", path)
		}
		got, err := s.Get(t.Context(), img.Manifest.UUID)
		if err != nil {
			t.Fatal(err)
		}
		c := got.Container
		if args, err := c.Command(nil, nil); err != nil || !cmp.Equal(args, []string{"/bin/app", "-x"}) || c.User != "web" || c.StopSignal != "SIGINT" || c.WorkingDir != "/srv" {
			t.Errorf("%s: container = %+v, %v", path, c, err)
		}
		err = s.tree(t.Context(), img.Ref(), func(r *os.Root) error {
			u, home, err := ResolveUser(r, "web")
			if want := (zones.User{UID: 33, GID: 34, Groups: []uint32{4}}); !cmp.Equal(u, want) || home != "/srv" {
				t.Errorf("user = %+v at %s", u, home)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if _, err := s.InstallContainer(t.Context(), path, ContainerOptions{}); !errors.Is(err, ErrExist) {
			t.Errorf("%s: again = %v, want ErrExist", path, err)
		}
		if left, _ := os.ReadDir(filepath.Join(s.cfg.Dir, "work")); len(left) > 0 {
			t.Errorf("%s: left in work: %v", path, left)
		}
		noRemains(t, p)
	}
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("uuids differ by the archive's form: %v", ids)
		}
	}
	if strings.HasPrefix(ids[0], "0000") {
		t.Errorf("uuid = %s", ids[0])
	}
}

func TestHostileContainerLayerIsRefused(t *testing.T) {
	s, p := newStore(t)
	img, err := mutate.AppendLayers(empty.Image, layer(t, map[string]string{"../../etc/cron.d/x": "y"}))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "save.tar")
	tag, _ := name.NewTag("evil:1")
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		t.Fatal(err)
	}
	if _, err := s.InstallContainer(t.Context(), path, ContainerOptions{}); !errors.Is(err, ErrRefused) {
		t.Errorf("InstallContainer = %v, want ErrRefused", err)
	}
	noRemains(t, p)
}
