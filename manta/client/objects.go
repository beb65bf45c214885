package client

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Absent is a value of Conditions.IfMatch: only if there is no object. Of several clients that ask for it at once, one succeeds.
const Absent = `""`

// Conditions make an operation depend on the state of what is there. The zero value asks nothing.
type Conditions struct {
	IfMatch           string // an etag, "*" for whatever is or is not there, or Absent
	IfNoneMatch       string // an etag; "*" is what this store always refuses to write over, even nothing
	IfModifiedSince   time.Time
	IfUnmodifiedSince time.Time
}

func (c Conditions) none() bool { return c == Conditions{} }

func (c Conditions) set(h http.Header) {
	if c.IfMatch != "" {
		h.Set("If-Match", c.IfMatch)
	}
	if c.IfNoneMatch != "" {
		h.Set("If-None-Match", c.IfNoneMatch)
	}
	if !c.IfModifiedSince.IsZero() {
		h.Set("If-Modified-Since", c.IfModifiedSince.UTC().Format(http.TimeFormat))
	}
	if !c.IfUnmodifiedSince.IsZero() {
		h.Set("If-Unmodified-Since", c.IfUnmodifiedSince.UTC().Format(http.TimeFormat))
	}
}

// Attributes are what a caller may say of an entry beside its content.
type Attributes struct {
	ContentType string // "application/octet-stream" for an object when empty

	// Metadata holds the m-* headers, without the "m-". The store keeps 4 KiB of values and silently drops the rest.
	Metadata map[string]string

	// RoleTags are names of the owner's roles.
	RoleTags []string

	// Header has further headers that are stored with the entry: Cache-Control, Surrogate-Key, Content-Disposition, Access-Control-*.
	Header http.Header
}

func (a Attributes) header() http.Header {
	h := http.Header{}
	maps.Copy(h, a.Header)
	for k, v := range a.Metadata {
		h.Set("m-"+k, v)
	}
	if a.ContentType != "" {
		h.Set("Content-Type", a.ContentType)
	}
	if a.RoleTags != nil {
		h.Set("Role-Tag", strings.Join(a.RoleTags, ", "))
	}
	return h
}

// PutObjectInput says what to store where.
type PutObjectInput struct {
	Path string

	// Body is the content, from its present position on. One that is also an io.Seeker can be sent again by a retry; any other is read
	// once, after the server has agreed to take it.
	Body io.Reader

	// Size of Body in bytes; 0 means that it is found out: by seeking, or else by sending to the end in chunks.
	Size int64

	// Copies to keep: the server's default (2) when 0.
	Copies int

	// MaxSize bounds a body of unknown size; 0 means the server's default.
	MaxSize int64

	// MakeParents makes the directories above Path if they are not there.
	MakeParents bool

	// Progress, if set, is called with the number of bytes sent so far.
	Progress func(sent int64)

	Attributes
	Conditions
}

// PutObjectOutput describes the stored object.
type PutObjectOutput struct {
	Etag     string
	Modified time.Time
	MD5      []byte // of the content, as both sides computed it
}

// PutObject stores an object, in place of what was there under the path. When it returns without error the object is
// durable on all its copies and its check sum is that of what was read from Body. After another error than a refusal it may or may not be
// stored; storing it again is safe.
func (c *Client) PutObject(ctx context.Context, in *PutObjectInput) (*PutObjectOutput, error) {
	body, size, err := newHashed(in.Body, in.Size, in.Progress)
	if err != nil {
		return nil, err
	}
	h := in.header()
	in.set(h)
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/octet-stream")
	}
	if in.Copies > 0 {
		h.Set("Durability-Level", strconv.Itoa(in.Copies))
	}
	if size < 0 && in.MaxSize > 0 {
		h.Set("Max-Content-Length", strconv.FormatInt(in.MaxSize, 10))
	}
	op := &operation{name: "PutObject", method: http.MethodPut, path: in.Path, header: h, body: body, size: size, repeatable: in.none()}
	head, err := c.call(ctx, in, op)
	if in.MakeParents && isCode(err, ErrDirectoryNotThere) && body.rewind() {
		if err = c.MakeAll(ctx, dirname(in.Path)); err == nil {
			head, err = c.call(ctx, in, op)
		}
	}
	if err != nil {
		return nil, err
	}
	out := &PutObjectOutput{Etag: head.Get("Etag"), Modified: modified(head), MD5: body.sum()}
	if out.Etag == "" {
		return nil, fmt.Errorf("PutObject %s: the answer names no etag, so nothing says that the object is stored", in.Path)
	}
	if told := head.Get("Computed-Md5"); told != "" && told != base64.StdEncoding.EncodeToString(out.MD5) {
		return nil, fmt.Errorf("PutObject %s: %w: server computed %s", in.Path, ErrChecksum, told)
	}
	return out, nil
}

// Info describes an entry.
type Info struct {
	Path        string
	Directory   bool
	Etag        string // of an object
	Size        int64  // bytes of an object; entries of a directory
	MD5         []byte // of an object, when known
	Modified    time.Time
	ContentType string
	Copies      int
	RoleTags    []string
	Metadata    map[string]string
	Header      http.Header // all of the answer's headers
}

// HeadObjectInput names an object or a directory.
type HeadObjectInput struct {
	Path string
	Conditions
}

// HeadObject describes an object or a directory without its content. What is not there is [ErrNotFound].
func (c *Client) HeadObject(ctx context.Context, in *HeadObjectInput) (*Info, error) {
	h := http.Header{}
	in.set(h)
	head, err := c.call(ctx, in, &operation{name: "HeadObject", method: http.MethodHead, path: in.Path, header: h, repeatable: true})
	if err != nil {
		return nil, err
	}
	return newInfo(in.Path, head), nil
}

func newInfo(path string, h http.Header) *Info {
	i := &Info{Path: path, Header: h, Etag: h.Get("Etag"), Modified: modified(h), ContentType: h.Get("Content-Type")}
	i.Directory = strings.Contains(i.ContentType, "type=directory")
	size := h.Get("Content-Length")
	if i.Directory {
		size = h.Get("Result-Set-Size")
	}
	i.Size, _ = strconv.ParseInt(size, 10, 64)
	i.MD5, _ = base64.StdEncoding.DecodeString(h.Get("Content-Md5"))
	i.Copies, _ = strconv.Atoi(h.Get("Durability-Level"))
	for tag := range strings.SplitSeq(h.Get("Role-Tag"), ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			i.RoleTags = append(i.RoleTags, tag)
		}
	}
	for name, values := range h {
		if key, ok := strings.CutPrefix(strings.ToLower(name), "m-"); ok {
			if i.Metadata == nil {
				i.Metadata = map[string]string{}
			}
			i.Metadata[key] = strings.Join(values, ", ")
		}
	}
	return i
}

func modified(h http.Header) time.Time {
	t, _ := http.ParseTime(h.Get("Last-Modified"))
	return t
}

// DeleteObjectInput names an object or an empty directory.
type DeleteObjectInput struct {
	Path string
	Conditions
}

// DeleteObject removes an object, or a directory that is empty ([ErrDirectoryNotEmpty]). What is not there is
// [ErrNotFound]; after a retry that can mean that the first try had removed it.
func (c *Client) DeleteObject(ctx context.Context, in *DeleteObjectInput) error {
	h := http.Header{}
	in.set(h)
	_, err := c.call(ctx, in, &operation{name: "DeleteObject", method: http.MethodDelete, path: in.Path, header: h, repeatable: in.none()})
	return err
}

// PutMetadataInput says which attributes an entry is to have.
type PutMetadataInput struct {
	Path string
	Attributes
	Conditions
}

// PutMetadata replaces all attributes of an entry: metadata and headers that are not named are gone, and so are role tags. The content type
// stays when none is given. The content and the etag do not change.
func (c *Client) PutMetadata(ctx context.Context, in *PutMetadataInput) error {
	h := in.header()
	in.set(h)
	// A length, even 0, is refused by this operation: its body is empty, and chunked.
	_, err := c.call(ctx, in, &operation{name: "PutMetadata", method: http.MethodPut, path: in.Path, query: url.Values{"metadata": {"true"}}, header: h,
		body: new(emptyChunked), size: -1, repeatable: in.none()})
	return err
}

// emptyChunked is a body without a known length and without content, which can be sent again.
type emptyChunked struct{}

func (*emptyChunked) Read([]byte) (int, error)       { return 0, io.EOF }
func (*emptyChunked) Seek(int64, int) (int64, error) { return 0, nil }
