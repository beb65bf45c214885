package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/image"
)

// image is imgadm in small.
func (c *command) image(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError("wants a verb")
	}
	fs := newFlags()
	manifest := fs.String("m", "", "")
	file := fs.String("f", "", "")
	compression := fs.String("c", "gzip", "")
	incremental := fs.Bool("i", false, "")
	out := fs.String("o", "", "")
	name := fs.String("n", "", "")
	rest, err := c.flags(fs, args[1:])
	if err != nil {
		return err
	}
	one := ""
	if len(rest) == 1 {
		one = rest[0]
	}
	if one == "" && args[0] != "list" && args[0] != "install" && args[0] != "avail" {
		return usageError(args[0] + " wants one argument")
	}
	return c.with(ctx, func(s *server) error {
		switch args[0] {
		case "list":
			return c.listImages(ctx, s)
		case "avail":
			l, err := s.images.Available(ctx)
			if err != nil {
				return err
			}
			return c.json(l)
		case "show":
			img, err := s.images.Get(ctx, one)
			if err != nil {
				return err
			}
			return c.json(img)
		case "import":
			img, err := s.images.Import(ctx, one)
			return c.imported(img, err)
		case "container":
			img, err := s.images.InstallContainer(ctx, one, image.ContainerOptions{Name: *name})
			return c.imported(img, err)
		case "install":
			img, err := install(ctx, s, *manifest, *file)
			return c.imported(img, err)
		case "create":
			return c.createImage(ctx, s, one, *name, *out, *compression, *incremental)
		case "verify":
			return s.images.Verify(ctx, one)
		case "delete":
			return s.images.Delete(ctx, one)
		}
		return usageError(fmt.Sprintf("unknown verb %q", args[0]))
	})
}

func (c *command) imported(img image.Image, err error) error {
	if err == nil {
		c.say("Imported image %s (%s@%s)", img.Manifest.UUID, img.Manifest.Name, img.Manifest.Version)
	}
	return err
}

func (c *command) listImages(ctx context.Context, s *server) error {
	l, err := s.images.List(ctx)
	if err != nil {
		return err
	}
	table := [][]string{{"UUID", "NAME", "VERSION", "OS", "PUBLISHED"}}
	for _, img := range l {
		m := img.Manifest
		published := "-"
		if m.PublishedAt != nil {
			published = m.PublishedAt.Format("2006-01-02")
		}
		table = append(table, []string{m.UUID, m.Name, m.Version, m.OS, published})
	}
	printTable(c, table)
	return nil
}

func install(ctx context.Context, s *server, manifest, file string) (image.Image, error) {
	if manifest == "" || file == "" {
		return image.Image{}, usageError("install wants -m MANIFEST -f FILE")
	}
	b, err := os.ReadFile(manifest)
	if err != nil {
		return image.Image{}, err
	}
	m, err := image.ParseManifest(b)
	if err != nil {
		return image.Image{}, err
	}
	f, err := os.Open(file)
	if err != nil {
		return image.Image{}, err
	}
	defer f.Close()
	return s.images.Install(ctx, m, f)
}

// createImage makes an image of a stopped zone as OUT.imgmanifest and OUT.zfs.gz or the like, as imgadm create names them.
func (c *command) createImage(ctx context.Context, s *server, id, name, out, compression string, incremental bool) error {
	z, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	if name == "" {
		name = "image-of-" + id
	}
	if out == "" {
		out = name
	}
	snap := "imgadm-create"
	ref, done, err := s.Freeze(ctx, id, snap)
	if err != nil {
		return err
	}
	defer done()
	kind := "zone-dataset"
	if z.HVM {
		kind = "zvol"
	}
	ending := map[string]string{"gzip": ".gz", "xz": ".xz", "zstd": ".zst", "none": ""}[compression]
	f, err := os.Create(out + ".file" + ending)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := s.images.Create(ctx, f, ref, image.CreateOptions{
		Compression: compression, Incremental: incremental,
		Manifest: image.Manifest{Name: name, Version: "1.0.0", Type: kind, OS: "linux", Owner: zones.NilUUID},
	})
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	mf, err := os.Create(out + ".imgmanifest")
	if err != nil {
		return err
	}
	defer mf.Close()
	old := c.stdout
	c.stdout = mf
	err = c.json(m)
	c.stdout = old
	c.say("Manifest: %s", strings.TrimPrefix(mf.Name(), "./"))
	return err
}
