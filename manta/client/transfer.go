package client

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
)

// UploadInput says which content to send in parallel parts.
type UploadInput struct {
	Path string
	Body io.ReaderAt
	Size int64 // of Body in bytes

	// PartSize in bytes: at least MinPartSize; 32 MiB when 0, or what keeps the number of parts below MaxParts.
	PartSize int64

	// Parallel is the number of parts under way at once: 4 when 0.
	Parallel int

	// Resume continues an upload that Upload had begun for the same content: parts that are there with the right check sum are not sent
	// again. nil begins a new one.
	Resume *UploadRef

	// Began, if set, is told the upload before the first part is sent, so that it can be kept for Resume.
	Began func(*UploadRef)

	// Progress, if set, is called with the bytes that the server has of all bytes, in no particular goroutine, never at once.
	Progress func(done, total int64)

	Copies int
	Attributes
}

// Upload sends a large content as a multipart upload and commits it. Content of no more than one part goes as a plain put. When it fails the
// upload stays open, for Resume; AbortUpload gives it up.
func (c *Client) Upload(ctx context.Context, in *UploadInput) (*Info, error) {
	size := in.PartSize
	if size == 0 {
		size = 32 << 20
		for in.Size > size*MaxParts {
			size *= 2
		}
	}
	parallel := in.Parallel
	if parallel == 0 {
		parallel = 4
	}
	parts := int((in.Size + size - 1) / size)
	if in.Size < 0 || size < MinPartSize || parts > MaxParts || parallel < 1 {
		return nil, fmt.Errorf("Upload %s: %w: %d bytes in parts of %d", in.Path, ErrInput, in.Size, size)
	}
	report := newReport(in.Progress, in.Size)
	if parts <= 1 && in.Resume == nil {
		_, err := c.PutObject(ctx, &PutObjectInput{Path: in.Path, Body: io.NewSectionReader(in.Body, 0, in.Size), Size: in.Size, Copies: in.Copies, Attributes: in.Attributes})
		if err != nil {
			return nil, err
		}
		report.add(in.Size)
		return c.HeadObject(ctx, &HeadObjectInput{Path: in.Path})
	}

	u := in.Resume
	have := map[int]Entry{}
	var err error
	if u == nil {
		u, err = c.CreateUpload(ctx, &CreateUploadInput{Path: in.Path, Size: in.Size, Copies: in.Copies, Attributes: in.Attributes})
	} else {
		have, err = c.Parts(ctx, u)
	}
	if err != nil {
		return nil, err
	}
	if in.Began != nil {
		in.Began(u)
	}
	etags := make([]string, parts)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range parts {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			part := io.NewSectionReader(in.Body, int64(i)*size, min(size, in.Size-int64(i)*size))
			etag := ""
			if e, ok := have[i]; ok && e.Size == part.Size() {
				if sum, err := sumOf(part); err != nil {
					return err
				} else if sum == e.ContentMD5 {
					etag = e.Etag
				}
			}
			if etag == "" {
				var err error
				if etag, err = c.UploadPart(gctx, &UploadPartInput{Upload: u, Number: i, Body: part, Size: part.Size()}); err != nil {
					return err
				}
			}
			etags[i] = etag
			report.add(part.Size())
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if _, err := c.CommitUpload(ctx, u, etags); err != nil {
		return nil, err
	}
	return c.HeadObject(ctx, &HeadObjectInput{Path: in.Path})
}

func sumOf(r *io.SectionReader) (string, error) {
	h := md5.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	_, err := r.Seek(0, io.SeekStart)
	return base64.StdEncoding.EncodeToString(h.Sum(nil)), err
}

// DownloadInput says which object to fetch in parallel ranges.
type DownloadInput struct {
	Path string
	To   io.WriterAt

	// PartSize in bytes: 32 MiB when 0. Parallel is the number of ranges under way at once: 4 when 0.
	PartSize int64
	Parallel int

	// Etag continues an earlier download of this very object; Done says which parts of it To has already. Another etag
	// on the server is [ErrPreconditionFailed].
	Etag string
	Done func(part int) bool

	// Progress, if set, is called with the bytes that To has of all bytes, never at once. PartDone, if set, is told each part that To has in full.
	Progress func(done, total int64)
	PartDone func(part int)
}

// Download fetches an object in parallel ranges, all of the same etag. To may also be an io.ReaderAt, as a file is: then the check sum of the whole is verified at the end
// ([ErrChecksum]), otherwise each range is as the server verified it. After an error To has the parts that PartDone was told.
func (c *Client) Download(ctx context.Context, in *DownloadInput) (*Info, error) {
	info, err := c.HeadObject(ctx, &HeadObjectInput{Path: in.Path, Conditions: Conditions{IfMatch: in.Etag}})
	if err != nil {
		return nil, err
	}
	if info.Directory {
		return nil, fmt.Errorf("Download %s: %w: it is a directory", in.Path, ErrInput)
	}
	size, parallel := in.PartSize, in.Parallel
	if size == 0 {
		size = 32 << 20
	}
	if parallel == 0 {
		parallel = 4
	}
	if size < 1 || parallel < 1 {
		return nil, fmt.Errorf("Download %s: %w: parts of %d, %d at once", in.Path, ErrInput, size, parallel)
	}
	report := newReport(in.Progress, info.Size)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := 0; int64(i)*size < info.Size && gctx.Err() == nil; i++ {
		off := int64(i) * size
		n := min(size, info.Size-off)
		if in.Done != nil && in.Done(i) {
			report.add(n)
			continue
		}
		g.Go(func() error {
			if err := c.fetch(gctx, in, info.Etag, off, n, report); err != nil {
				return err
			}
			if in.PartDone != nil {
				report.mu.Lock()
				defer report.mu.Unlock()
				in.PartDone(i)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if r, ok := in.To.(io.ReaderAt); ok && len(info.MD5) == md5.Size {
		sum, err := sumOf(io.NewSectionReader(r, 0, info.Size))
		if err != nil {
			return nil, fmt.Errorf("Download %s: read back: %w", in.Path, err)
		}
		if sum != base64.StdEncoding.EncodeToString(info.MD5) {
			return nil, fmt.Errorf("Download %s: %w", in.Path, ErrChecksum)
		}
	}
	return info, nil
}

func (c *Client) fetch(ctx context.Context, in *DownloadInput, etag string, off, n int64, report *report) error {
	obj, err := c.GetObject(ctx, &GetObjectInput{Path: in.Path, Offset: off, Length: n, Conditions: Conditions{IfMatch: etag}})
	if err != nil {
		return err
	}
	defer obj.Body.Close()
	buf := make([]byte, 256<<10)
	for end := off + n; off < end; {
		k, err := obj.Body.Read(buf)
		if k > 0 {
			if _, err := in.To.WriteAt(buf[:k], off); err != nil {
				return fmt.Errorf("Download %s: %w", in.Path, err)
			}
			off += int64(k)
			report.add(int64(k))
		}
		if err != nil && (!errors.Is(err, io.EOF) || off < end) {
			return err
		}
	}
	return nil
}

// A report adds up what parallel transfers have done and tells it to one function at a time.
type report struct {
	mu          sync.Mutex
	fn          func(done, total int64)
	done, total int64
}

func newReport(fn func(done, total int64), total int64) *report { return &report{fn: fn, total: total} }

func (r *report) add(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	if r.fn != nil {
		r.fn(r.done, r.total)
	}
}
