package image

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mobulacloud/mobula/zones/dataset"
	"github.com/mobulacloud/mobula/zones/dataset/archive"
	"github.com/mobulacloud/mobula/zones/dataset/sendstream"
)

// maxOrigins bounds a chain of incremental images.
const maxOrigins = 32

// Available gives what the sources offer, each uuid once, from the first source that has it.
func (s *Store) Available(ctx context.Context) ([]Manifest, error) {
	var out []Manifest
	seen := map[string]bool{}
	for _, src := range s.cfg.Sources {
		l, err := src.List(ctx)
		if err != nil {
			return out, err
		}
		for _, m := range l {
			if !seen[m.UUID] {
				seen[m.UUID] = true
				out = append(out, m)
			}
		}
	}
	return out, nil
}

// find asks the sources in order for a manifest.
func (s *Store) find(ctx context.Context, uuid string) (Manifest, Source, error) {
	var errs []error
	for _, src := range s.cfg.Sources {
		m, err := src.Get(ctx, uuid)
		if err == nil {
			return m, src, nil
		}
		if !errors.Is(err, ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return Manifest{}, nil, errors.Join(errs...)
	}
	return Manifest{}, nil, fmt.Errorf("image %.40q in %d sources: %w", uuid, len(s.cfg.Sources), ErrNotExist)
}

// Import installs an image from the sources, its origins first. Images that are installed already are left as they are; if
// uuid is one of them the error is [ErrExist].
func (s *Store) Import(ctx context.Context, uuid string) (Image, error) {
	if _, err := s.load(uuid); err == nil {
		return Image{}, fmt.Errorf("import image %s: %w", uuid, ErrExist)
	}
	type step struct {
		m   Manifest
		src Source
	}
	var chain []step
	for id := uuid; id != ""; {
		if _, err := s.load(id); err == nil {
			break
		}
		if len(chain) == maxOrigins {
			return Image{}, fmt.Errorf("import image %s: more than %d origins: %w", uuid, maxOrigins, ErrRefused)
		}
		m, src, err := s.find(ctx, id)
		if err != nil {
			return Image{}, fmt.Errorf("import image %s: %w", uuid, err)
		}
		chain = append(chain, step{m, src})
		id = m.Origin
	}
	var img Image
	for i := len(chain) - 1; i >= 0; i-- {
		c := chain[i]
		f, err := c.src.Open(ctx, c.m.UUID)
		if err != nil {
			return Image{}, fmt.Errorf("import image %s: %w", uuid, err)
		}
		img, err = s.install(ctx, c.m, f, c.src.String())
		f.Close()
		if err != nil && !(errors.Is(err, ErrExist) && i > 0) {
			return Image{}, err
		}
		s.log.Info("image imported", "image", c.m.UUID, "name", c.m.Name, "source", c.src.String())
	}
	return img, nil
}

// Install puts an image's file onto the pool. The file is checked against the manifest while it is unpacked; nothing of it can be
// seen before all of it is right. [ErrOrigin] if the image stands on one that is not installed.
func (s *Store) Install(ctx context.Context, m Manifest, file io.Reader) (Image, error) {
	return s.install(ctx, m, file, "")
}

func (s *Store) install(ctx context.Context, m Manifest, file io.Reader, source string) (Image, error) {
	fail := func(err error) (Image, error) {
		if errors.Is(err, archive.ErrRefused) || errors.Is(err, dataset.ErrBadStream) || errors.Is(err, sendstream.ErrBad) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return Image{}, fmt.Errorf("install image %s: %w", m.UUID, err)
	}
	if err := m.Validate(); err != nil {
		return fail(err)
	}
	if len(m.Files) != 1 {
		return fail(fmt.Errorf("%w: files: exactly one is needed", ErrManifest))
	}
	if _, err := s.load(m.UUID); err == nil || m.UUID == SparseUUID {
		return fail(ErrExist)
	}
	img := Image{Manifest: m, Source: source, Dataset: datasetPrefix + m.UUID}
	var origin *dataset.Ref
	if m.Origin != "" {
		o, err := s.load(m.Origin)
		if err != nil {
			return fail(fmt.Errorf("%w: %w", ErrOrigin, err))
		}
		ref := o.Ref()
		origin, img.Container, img.Disk = &ref, o.Container, o.Disk
	}
	return s.build(ctx, img, func(name string) error {
		return s.unpackFile(ctx, &img, name, origin, file)
	}, &img)
}

// build runs fill on a new dataset's name, then freezes and publishes what fill made. fill may set fields of final, which is
// what is recorded.
func (s *Store) build(ctx context.Context, img Image, fill func(name string) error, final *Image) (Image, error) {
	name, done, err := s.workname()
	if err != nil {
		return Image{}, err
	}
	defer done()
	if err = fill(name); err == nil {
		err = s.publish(ctx, name, final)
	}
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if derr := s.cfg.Pool.Delete(clean, name); derr != nil && !errors.Is(derr, dataset.ErrNotExist) {
			s.log.Warn("remains of an import", "dataset", name, "err", derr)
		}
		if errors.Is(err, archive.ErrRefused) || errors.Is(err, dataset.ErrBadStream) || errors.Is(err, sendstream.ErrBad) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return Image{}, fmt.Errorf("install image %s: %w", img.Manifest.UUID, err)
	}
	return *final, nil
}

func (s *Store) publish(ctx context.Context, name string, img *Image) error {
	info, err := s.cfg.Pool.Get(ctx, name)
	if err != nil {
		return err
	}
	if _, ok := info.Find(Final); !ok {
		if err := s.live(ctx, name, syncTree); err != nil {
			return err
		}
		if _, err := s.cfg.Pool.Snapshot(ctx, name, Final); err != nil {
			return err
		}
	}
	if img.Digest, err = s.digest(ctx, dataset.Ref{Dataset: name, Snapshot: Final}); err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(s.record(img.Manifest.UUID)); err == nil {
		return ErrExist
	}
	if err := s.cfg.Pool.Rename(ctx, name, img.Dataset); err != nil {
		return err
	}
	img.Installed = time.Now().UTC()
	if err := s.save(*img); err != nil {
		_ = s.cfg.Pool.Rename(context.WithoutCancel(ctx), img.Dataset, name)
		return err
	}
	return nil
}

func syncTree(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// sums counts and hashes what is read through it, and stops behind limit.
type sums struct {
	r      io.Reader
	n      int64
	limit  int64
	hashes []hash.Hash
}

func (c *sums) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n > c.limit {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrChecksum, c.limit)
	}
	for _, h := range c.hashes {
		h.Write(p[:n])
	}
	return n, err
}

func (s *Store) maxBytes() int64 {
	if s.cfg.MaxBytes > 0 {
		return s.cfg.MaxBytes
	}
	return 64 << 30
}

// unpackFile fills the dataset name with the image's file and checks every sum that the manifest gives.
func (s *Store) unpackFile(ctx context.Context, img *Image, name string, origin *dataset.Ref, file io.Reader) error {
	f := img.Manifest.Files[0]
	one, two := sha1.New(), sha256.New()
	in := &sums{r: file, limit: f.Size, hashes: []hash.Hash{one, two}}
	plain, err := Decompress(in, f.Compression)
	if err != nil {
		return checkFirst(in, f, one, err)
	}
	defer plain.Close()
	inner := sha256.New()
	// Twice the limit on files leaves room for headers; what is inside is bounded where it is unpacked.
	out := &sums{r: plain, limit: 2*s.maxBytes() + 1<<20, hashes: []hash.Hash{inner}}
	if err := s.unpack(ctx, img, name, origin, out); err != nil {
		return checkFirst(in, f, one, err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		return checkFirst(in, f, one, err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if in.n != f.Size {
		return fmt.Errorf("%w: %d bytes, want %d", ErrChecksum, in.n, f.Size)
	}
	for _, c := range []struct{ what, got, want string }{
		{"sha1", hex.EncodeToString(one.Sum(nil)), f.SHA1},
		{"digest", "sha256:" + hex.EncodeToString(two.Sum(nil)), f.Digest},
		{"uncompressedDigest", "sha256:" + hex.EncodeToString(inner.Sum(nil)), f.UncompressedDigest},
	} {
		if c.want != "" && c.got != c.want {
			return fmt.Errorf("%w: %s %s, want %s", ErrChecksum, c.what, c.got, c.want)
		}
	}
	return nil
}

// checkFirst answers with the checksum where a file that does not unpack is not the one described: that is the cause, and the
// other a consequence.
func checkFirst(in *sums, f File, sum hash.Hash, err error) error {
	if errors.Is(err, ErrChecksum) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, dataset.ErrNoSpace) || errors.Is(err, unix.ENOSPC) {
		return err
	}
	if _, rerr := io.Copy(io.Discard, in); rerr != nil {
		return fmt.Errorf("%w (%w)", rerr, err)
	}
	if in.n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA1 {
		return fmt.Errorf("%w (%w)", ErrChecksum, err)
	}
	return err
}

func (s *Store) unpack(ctx context.Context, img *Image, name string, origin *dataset.Ref, in io.Reader) error {
	r := bufio.NewReaderSize(in, 128<<10)
	if origin == nil && img.Manifest.Type != "zvol" {
		if head, _ := r.Peek(len(sendstream.Magic)); string(head) == sendstream.Magic {
			_, err := s.cfg.Pool.Receive(ctx, r, name, Final, dataset.Options{})
			return err
		}
	}
	if err := s.newDataset(ctx, name, origin); err != nil {
		return err
	}
	return s.live(ctx, name, func(root *os.Root) error {
		if img.Manifest.Type == "zvol" {
			return s.unpackDisk(ctx, img, root, r)
		}
		_, err := archive.Extract(ctx, r, root, archive.Policy{
			MaxBytes: s.cfg.MaxBytes, MaxEntries: s.cfg.MaxEntries, SkipDevices: s.cfg.SkipDevices, Whiteouts: origin != nil,
		})
		return err
	})
}

func (s *Store) newDataset(ctx context.Context, name string, origin *dataset.Ref) error {
	var err error
	if origin == nil {
		_, err = s.cfg.Pool.Create(ctx, name, dataset.Options{})
	} else {
		_, err = s.cfg.Pool.Clone(ctx, *origin, name, dataset.Options{})
	}
	return err
}

// unpackDisk writes a disk image as DiskName.FORMAT, with holes where it is zero.
func (s *Store) unpackDisk(ctx context.Context, img *Image, root *os.Root, r *bufio.Reader) error {
	head, err := r.Peek(112)
	if err != nil && err != io.EOF {
		return err
	}
	format, err := diskFormat(head)
	if err != nil {
		return err
	}
	if format == "qcow2" && qcow2Size(head) > img.Manifest.ImageSize<<20 {
		return fmt.Errorf("%w: the disk has %d bytes, the manifest says %d MiB", ErrRefused, qcow2Size(head), img.Manifest.ImageSize)
	}
	for _, old := range []string{"raw", "qcow2"} { // an origin's
		if err := root.RemoveAll(DiskName + "." + old); err != nil {
			return err
		}
	}
	img.Disk = format
	f, err := root.OpenFile(DiskName+"."+format, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := copySparse(ctx, f, r, s.maxBytes())
	if err != nil {
		return err
	}
	if format == "raw" && n > img.Manifest.ImageSize<<20 {
		return fmt.Errorf("%w: the disk has %d bytes, the manifest says %d MiB", ErrRefused, n, img.Manifest.ImageSize)
	}
	return f.Close()
}

// copySparse writes blocks that hold anything, and gives the file its full size.
func copySparse(ctx context.Context, f *os.File, r io.Reader, limit int64) (int64, error) {
	buf := make([]byte, 64<<10)
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, err := io.ReadFull(r, buf)
		if total+int64(n) > limit {
			return total, fmt.Errorf("%w: more than %d bytes", ErrRefused, limit)
		}
		if strings.Trim(string(buf[:n]), "\x00") != "" {
			if _, werr := f.WriteAt(buf[:n], total); werr != nil {
				return total, werr
			}
		}
		total += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return total, f.Truncate(total)
		default:
			return total, err
		}
	}
}
