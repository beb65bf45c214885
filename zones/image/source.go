package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"

	"github.com/spf13/afero"

	"github.com/mobulacloud/mobula/internal/rootfs"
)

// Source offers images. Methods may be called from several goroutines.
type Source interface {
	// String names the source: its path or URL.
	String() string
	// List gives the manifests of all images it offers, without those that are not valid.
	List(ctx context.Context) ([]Manifest, error)
	// Get gives one manifest; [ErrNotExist] if the source has no such image.
	Get(ctx context.Context, uuid string) (Manifest, error)
	// Open gives an image's file, as it is described by the manifest's first file. The caller checks it and closes it.
	Open(ctx context.Context, uuid string) (io.ReadCloser, error)
}

// Dir is a directory of images: manifests called NAME.imgmanifest or NAME.json, each with its file beside it, called NAME with
// any other ending, as imgadm create leaves them.
type Dir struct {
	path string
	open func() (afero.Fs, io.Closer, error)
}

// NewDir makes a source of a directory. It is looked at when it is asked, and nothing in it leads out of it.
func NewDir(path string) *Dir {
	return &Dir{path: path, open: func() (afero.Fs, io.Closer, error) {
		root, err := rootfs.Open(path)
		if err != nil {
			return nil, nil, err
		}
		return root, root, nil
	}}
}

// NewFS makes a source of the top directory of any file system, such as one in memory or in an archive. name is what its String says.
func NewFS(name string, files afero.Fs) *Dir {
	return &Dir{path: name, open: func() (afero.Fs, io.Closer, error) { return files, io.NopCloser(nil), nil }}
}

// String gives the path.
func (d *Dir) String() string { return d.path }

func stem(name string) (string, bool) {
	for _, ext := range []string{".imgmanifest", ".json"} {
		if s, ok := strings.CutSuffix(name, ext); ok && s != "" {
			return s, true
		}
	}
	return name, false
}

// each calls f with every manifest and the name of its file, until f says stop.
func (d *Dir) each(ctx context.Context, f func(m Manifest, file string) (more bool)) error {
	files, closer, err := d.open()
	if err != nil {
		return fmt.Errorf("image source %s: %w", d.path, err)
	}
	defer closer.Close()
	entries, err := afero.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("image source %s: %w", d.path, err)
	}
	var names []string
	for _, e := range entries {
		if e.Mode().IsRegular() {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	for _, n := range names {
		base, ok := stem(n)
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := readSmall(files, n)
		if err != nil {
			continue
		}
		m, err := ParseManifest(b)
		if err != nil {
			continue
		}
		file := ""
		for _, c := range names {
			if _, isManifest := stem(c); !isManifest && strings.HasPrefix(c, base+".") {
				file = c
				break
			}
		}
		if !f(m, file) {
			return nil
		}
	}
	return nil
}

func readSmall(files afero.Fs, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifest+1))
}

// List gives all manifests.
func (d *Dir) List(ctx context.Context) ([]Manifest, error) {
	var out []Manifest
	err := d.each(ctx, func(m Manifest, _ string) bool {
		out = append(out, m)
		return true
	})
	return out, err
}

func (d *Dir) find(ctx context.Context, uuid string) (Manifest, string, error) {
	var found Manifest
	var file string
	err := d.each(ctx, func(m Manifest, f string) bool {
		if m.UUID != uuid {
			return true
		}
		found, file = m, f
		return false
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // no directory: no images
	}
	if err == nil && found.UUID == "" {
		err = fmt.Errorf("image %s in %s: %w", uuid, d.path, ErrNotExist)
	}
	return found, file, err
}

// Get gives one manifest.
func (d *Dir) Get(ctx context.Context, uuid string) (Manifest, error) {
	m, _, err := d.find(ctx, uuid)
	return m, err
}

// Open opens an image's file.
func (d *Dir) Open(ctx context.Context, uuid string) (io.ReadCloser, error) {
	_, file, err := d.find(ctx, uuid)
	if err != nil {
		return nil, err
	}
	if file == "" {
		return nil, fmt.Errorf("file of image %s in %s: %w", uuid, d.path, ErrNotExist)
	}
	files, closer, err := d.open()
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return files.Open(path.Base(file))
}
