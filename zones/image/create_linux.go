package image

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/mobulacloud/mobula/zones"
	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/archive"
)

// CreateOptions describes an image that is made of a zone.
type CreateOptions struct {
	// Manifest gives name, version, type, os and whatever else is known; uuid is made when empty, files and v are set. Required.
	Manifest Manifest
	// Compression is none, gzip, xz or zstd; empty means gzip.
	Compression string
	// Incremental writes only what differs from the image that the zone was cloned from; the new image has it as its origin.
	Incremental bool
}

// Create writes the file of an image made from a snapshot of a zone's dataset, and gives its manifest. The zone's image must
// be installed for an incremental one. What a disk image is made of is its disk.
func (s *Store) Create(ctx context.Context, w io.Writer, from dataset.Ref, o CreateOptions) (Manifest, error) {
	m := o.Manifest
	fail := func(err error) (Manifest, error) {
		return Manifest{}, fmt.Errorf("create image of %s: %w", from, err)
	}
	if m.UUID == "" {
		m.UUID = NewUUID()
	}
	if o.Compression == "" {
		o.Compression = "gzip"
	}
	if m.Owner == "" {
		m.Owner = zones.NilUUID
	}
	m.V, m.State, m.Origin, m.PublishedAt = 2, "unactivated", "", nil
	var base *Image
	if o.Incremental {
		b, err := s.originOf(ctx, from)
		if err != nil {
			return fail(err)
		}
		if b.Disk != "" || m.Type == "zvol" {
			return fail(fmt.Errorf("an incremental image of a disk: %w", dataset.ErrUnsupported))
		}
		base, m.Origin = &b, b.Manifest.UUID
	}
	one, two := sha1.New(), sha256.New()
	out := &counter{w: io.MultiWriter(w, one, two)}
	inner := sha256.New()
	z, err := compressor(out, o.Compression)
	if err != nil {
		return fail(err)
	}
	if err := s.writeFile(ctx, io.MultiWriter(z, inner), from, base, m.Type == "zvol"); err != nil {
		return fail(err)
	}
	if err := z.Close(); err != nil {
		return fail(err)
	}
	sum := func(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
	m.Files = []File{{
		SHA1: sum(one), Size: out.n, Compression: o.Compression, Digest: "sha256:" + sum(two), UncompressedDigest: "sha256:" + sum(inner),
	}}
	if err := m.Validate(); err != nil {
		return fail(err)
	}
	return m, nil
}

func (s *Store) originOf(ctx context.Context, from dataset.Ref) (Image, error) {
	info, err := s.cfg.Pool.Get(ctx, from.Dataset)
	if err != nil {
		return Image{}, err
	}
	all, err := s.List(ctx)
	if err != nil {
		return Image{}, err
	}
	for _, img := range all {
		if img.Ref() == info.Origin {
			return img, nil
		}
	}
	return Image{}, fmt.Errorf("%w: %s stands on %q", ErrOrigin, from.Dataset, info.Origin)
}

func (s *Store) writeFile(ctx context.Context, w io.Writer, from dataset.Ref, base *Image, disk bool) error {
	return s.tree(ctx, from, func(root *os.Root) error {
		switch {
		case disk:
			return writeDisk(ctx, w, root)
		case base == nil:
			return archive.Write(ctx, w, root)
		}
		return s.tree(ctx, base.Ref(), func(below *os.Root) error { return archive.WriteDiff(ctx, w, below, root) })
	})
}

func writeDisk(ctx context.Context, w io.Writer, root *os.Root) error {
	for _, format := range []string{"raw", "qcow2"} {
		f, err := root.Open(DiskName + "." + format)
		if err != nil {
			continue
		}
		defer f.Close()
		_, err = io.Copy(w, &ctxReader{ctx, f})
		return err
	}
	return fmt.Errorf("its disk: %w", os.ErrNotExist)
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (s *Store) now() time.Time { return time.Now().UTC().Truncate(time.Second) }
