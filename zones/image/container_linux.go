package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/uuid"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/archive"
)

// Container is how an image of a container wants to be run.
type Container struct {
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Cmd        []string          `json:"cmd,omitempty"`
	Env        []string          `json:"env,omitempty"`
	User       string            `json:"user,omitempty"`
	WorkingDir string            `json:"working_dir,omitempty"`
	StopSignal string            `json:"stop_signal,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Ports      []string          `json:"ports,omitempty"`
	Volumes    []string          `json:"volumes,omitempty"`
	// ID is the digest of the image's configuration, "sha256:hex".
	ID string `json:"id"`
}

// ContainerOptions says what an archive does not.
type ContainerOptions struct {
	// Name and Version are the image's; empty takes the archive's first tag, or the image's id.
	Name, Version string
	// Owner is a uuid; empty means nobody's.
	Owner string
	// Tag picks an image of an archive with several.
	Tag string
}

const maxLayers = 256

// InstallContainer installs an image from what docker save or podman save wrote, or from an OCI image layout: a file (tar) or, for
// a layout, a directory. Every layer is checked against the digest in the image's configuration. The uuid follows from
// that configuration, so the same image gives the same uuid everywhere; [ErrExist] if it is installed.
func (s *Store) InstallContainer(ctx context.Context, path string, o ContainerOptions) (Image, error) {
	src, name, done, err := s.openContainer(ctx, path, o.Tag)
	if err != nil {
		return Image{}, fmt.Errorf("install container image %s: %w", path, err)
	}
	defer done()
	conf, err := src.ConfigFile()
	if err != nil {
		return Image{}, fmt.Errorf("install container image %s: %w: %w", path, ErrRefused, err)
	}
	id, err := src.ConfigName()
	if err != nil {
		return Image{}, fmt.Errorf("install container image %s: %w: %w", path, ErrRefused, err)
	}
	img := describe(conf, id.String(), name, o)
	if err := img.Manifest.Validate(); err != nil {
		return Image{}, fmt.Errorf("install container image %s: %w", path, err)
	}
	if _, err := s.load(img.Manifest.UUID); err == nil {
		return img, fmt.Errorf("install container image %s: %w: %s", path, ErrExist, img.Manifest.UUID)
	}
	return s.build(ctx, img, func(name string) error { return s.applyLayers(ctx, name, src, conf) }, &img)
}

func describe(conf *v1.ConfigFile, id, tag string, o ContainerOptions) Image {
	c := conf.Config
	img := Image{Container: &Container{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, User: c.User, WorkingDir: c.WorkingDir, StopSignal: c.StopSignal,
		Labels: c.Labels, ID: id,
	}}
	for p := range c.ExposedPorts {
		img.Container.Ports = append(img.Container.Ports, p)
	}
	for v := range c.Volumes {
		img.Container.Volumes = append(img.Container.Volumes, v)
	}
	name, version := tag, "latest"
	if i := strings.LastIndexByte(tag, ':'); i > strings.LastIndexByte(tag, '/') {
		name, version = tag[:i], tag[i+1:]
	}
	first := func(v ...string) string {
		for _, s := range v {
			if s != "" {
				return s
			}
		}
		return ""
	}
	short := strings.TrimPrefix(id, "sha256:")
	now := time.Now().UTC()
	img.Manifest = Manifest{
		V: 2, UUID: uuid.NewSHA1(uuid.NameSpaceOID, []byte("docker:"+id)).String(), Owner: first(o.Owner, zones.NilUUID),
		Name: first(o.Name, name, short[:min(12, len(short))]), Version: first(o.Version, version), State: "unactivated", Type: "docker", OS: "linux",
		PublishedAt: &now, Requirements: &Requirements{Brand: string(zones.BrandLX)},
		Tags: map[string]any{"docker:id": id, "docker:architecture": conf.Architecture},
	}
	img.Dataset = datasetPrefix + img.Manifest.UUID
	return img
}

// openContainer finds the image in a file or directory. What a tar holds is unpacked into a directory of ours first where it is a layout.
func (s *Store) openContainer(ctx context.Context, path, tag string) (v1.Image, string, func(), error) {
	nothing := func() {}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, "", nothing, err
	}
	if fi.IsDir() {
		img, name, err := fromLayout(path, tag)
		return img, name, nothing, err
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
	if err == nil {
		img, name, err := fromTarball(path, manifest, tag)
		return img, name, nothing, err
	}
	tmp, err := os.MkdirTemp(filepath.Join(s.cfg.Dir, "work"), "layout-*")
	if err != nil {
		return nil, "", nothing, err
	}
	done := func() { os.RemoveAll(tmp) }
	if err := s.unpackLayout(ctx, path, tmp); err != nil {
		done()
		return nil, "", nothing, err
	}
	img, name, err := fromLayout(tmp, tag)
	if err != nil {
		done()
		done = nothing
	}
	return img, name, done, err
}

func (s *Store) unpackLayout(ctx context.Context, path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := Decompress(f, "")
	if err != nil {
		return err
	}
	defer plain.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = archive.Extract(ctx, plain, root, archive.Policy{MaxBytes: s.cfg.MaxBytes, MaxEntries: 10_000})
	return err
}

func fromTarball(path string, m tarball.Manifest, tag string) (v1.Image, string, error) {
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	var names []string
	for _, d := range m {
		names = append(names, d.RepoTags...)
	}
	switch {
	case tag == "" && len(m) != 1, tag != "" && !slices.Contains(names, tag):
		return nil, "", fmt.Errorf("%w: name one of the tags %v, not %q", ErrRefused, names, tag)
	case len(m) == 1:
		if tag == "" && len(names) > 0 {
			tag = names[0]
		}
		img, err := tarball.Image(open, nil)
		return img, tag, refused(err)
	}
	t, err := name.NewTag(tag, name.WeakValidation)
	if err != nil {
		return nil, "", refused(err)
	}
	img, err := tarball.Image(open, &t)
	return img, tag, refused(err)
}

func fromLayout(dir, tag string) (v1.Image, string, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, "", refused(err)
	}
	for range 4 { // an index may lead to another
		m, err := index.IndexManifest()
		if err != nil {
			return nil, "", refused(err)
		}
		d, err := choose(m, tag)
		if err != nil {
			return nil, "", err
		}
		name := d.Annotations["io.containerd.image.name"]
		if name == "" {
			name = d.Annotations["org.opencontainers.image.ref.name"]
		}
		if d.MediaType.IsImage() {
			img, err := index.Image(d.Digest)
			return img, name, refused(err)
		}
		if !d.MediaType.IsIndex() {
			return nil, "", fmt.Errorf("%w: media type %.80q", ErrRefused, d.MediaType)
		}
		if index, err = index.ImageIndex(d.Digest); err != nil {
			return nil, "", refused(err)
		}
		tag = ""
	}
	return nil, "", fmt.Errorf("%w: indexes within indexes", ErrRefused)
}

// choose takes the entry with the tag, or the only one, or the one for this machine.
func choose(m *v1.IndexManifest, tag string) (v1.Descriptor, error) {
	var fit []v1.Descriptor
	for _, d := range m.Manifests {
		switch {
		case tag != "" && d.Annotations["org.opencontainers.image.ref.name"] != tag && d.Annotations["io.containerd.image.name"] != tag:
		case d.Platform != nil && d.Platform.OS != "" && d.Platform.OS != "linux":
		case d.Platform != nil && d.Platform.Architecture != "" && len(m.Manifests) > 1 && d.Platform.Architecture != runtime.GOARCH:
		default:
			fit = append(fit, d)
		}
	}
	if len(fit) != 1 {
		return v1.Descriptor{}, fmt.Errorf("%w: %d of %d images fit; name a tag", ErrRefused, len(fit), len(m.Manifests))
	}
	return fit[0], nil
}

func refused(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// applyLayers unpacks the layers in order, one over the other.
func (s *Store) applyLayers(ctx context.Context, name string, src v1.Image, conf *v1.ConfigFile) error {
	layers, err := src.Layers()
	if err != nil {
		return refused(err)
	}
	if len(layers) != len(conf.RootFS.DiffIDs) || len(layers) > maxLayers {
		return fmt.Errorf("%w: %d layers, the configuration says %d, at most %d", ErrRefused, len(layers), len(conf.RootFS.DiffIDs), maxLayers)
	}
	if _, err := s.cfg.Pool.Create(ctx, name, dataset.Options{}); err != nil {
		return err
	}
	return s.live(ctx, name, func(root *os.Root) error {
		left := s.maxBytes()
		for i, l := range layers {
			n, err := s.applyLayer(ctx, root, l, conf.RootFS.DiffIDs[i], left)
			if err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
			left -= n
		}
		return nil
	})
}

func (s *Store) applyLayer(ctx context.Context, root *os.Root, l v1.Layer, want v1.Hash, left int64) (int64, error) {
	if want.Algorithm != "sha256" {
		return 0, fmt.Errorf("%w: digest %s", ErrRefused, want)
	}
	r, err := l.Uncompressed()
	if err != nil {
		return 0, refused(err)
	}
	defer r.Close()
	h := sha256.New()
	in := &sums{r: r, limit: 2*left + 1<<20, hashes: []hash.Hash{h}}
	st, err := archive.Extract(ctx, in, root, archive.Policy{
		MaxBytes: max(left, 1), MaxEntries: s.cfg.MaxEntries, SkipDevices: s.cfg.SkipDevices, Whiteouts: true,
	})
	if err != nil {
		return st.Bytes, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return st.Bytes, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.Hex {
		return st.Bytes, fmt.Errorf("%w: sha256 %s, want %s", ErrChecksum, got, want.Hex)
	}
	return st.Bytes, nil
}

var errNoEntrypoint = errors.New("the image names no program to run")

// Command is what the image runs: its entrypoint with its command, either of which a caller may replace.
func (c *Container) Command(entrypoint, cmd []string) ([]string, error) {
	if entrypoint == nil {
		entrypoint = c.Entrypoint
		if cmd == nil {
			cmd = c.Cmd
		}
	}
	args := append(append([]string{}, entrypoint...), cmd...)
	if len(args) == 0 {
		return nil, errNoEntrypoint
	}
	return args, nil
}
