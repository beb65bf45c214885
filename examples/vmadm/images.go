package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/image"
)

// imageVerb is a row of the table of the image command's own commands.
type imageVerb struct {
	name, usage string
	run         func(c *command, ctx context.Context, s *server, in call) error
}

var imageTable = []imageVerb{
	{"avail", "", func(c *command, ctx context.Context, s *server, _ call) error {
		l, err := s.images.Available(ctx)
		if err != nil {
			return err
		}
		return c.json(l)
	}},
	{"container", "[-n NAME] ARCHIVE", func(c *command, ctx context.Context, s *server, in call) error {
		return c.imported(s.images.InstallContainer(ctx, in.args[0], image.ContainerOptions{Name: in.value('n', "")}))
	}},
	{"create", "[-i] [-c COMPRESSION] [-n NAME] [-o OUT] UUID", (*command).createImage},
	{"delete", "IMAGE", func(_ *command, ctx context.Context, s *server, in call) error {
		return s.images.Delete(ctx, in.args[0])
	}},
	{"import", "IMAGE", func(c *command, ctx context.Context, s *server, in call) error {
		return c.imported(s.images.Import(ctx, in.args[0]))
	}},
	{"install", "[-m MANIFEST] [-f FILE]", func(c *command, ctx context.Context, s *server, in call) error {
		return c.imported(install(ctx, s, in.value('m', ""), in.value('f', "")))
	}},
	{"list", "", func(c *command, ctx context.Context, s *server, _ call) error { return c.listImages(ctx, s) }},
	{"show", "IMAGE", func(c *command, ctx context.Context, s *server, in call) error {
		img, err := s.images.Get(ctx, in.args[0])
		if err != nil {
			return err
		}
		return c.json(img)
	}},
	{"verify", "IMAGE", func(_ *command, ctx context.Context, s *server, in call) error {
		return s.images.Verify(ctx, in.args[0])
	}},
}

func imageVerbs() string {
	var names []string
	for _, v := range imageTable {
		names = append(names, v.name)
	}
	return strings.Join(names, ", ")
}

// image is imgadm in small.
func (c *command) image(ctx context.Context, in call) error {
	name := in.args[0]
	for _, v := range imageTable {
		if v.name != name {
			continue
		}
		in, err := parse(v.usage, in.args[1:])
		if err != nil {
			return usageError(fmt.Sprintf("%s %s: %v", name, v.usage, err))
		}
		return c.with(ctx, func(s *server) error { return v.run(c, ctx, s, in) })
	}
	return usageError(fmt.Sprintf("there is no command %q for images: %s", name, imageVerbs()))
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
func (c *command) createImage(ctx context.Context, s *server, in call) error {
	id, name, out, compression := in.uuid, in.value('n', ""), in.value('o', ""), in.value('c', "gzip")
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
		Compression: compression, Incremental: in.has('i'),
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
