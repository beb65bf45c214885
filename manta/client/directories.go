package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// PutDirectoryInput names a directory to make.
type PutDirectoryInput struct {
	Path string
	Attributes
}

const (
	typeDirectory = "application/json; type=directory"
	typeLink      = "application/json; type=link"
)

// PutDirectory makes a directory. Its parent must be there. Making one that is there replaces its attributes. An object under
// the path is replaced by the directory.
func (c *Client) PutDirectory(ctx context.Context, in *PutDirectoryInput) error {
	h := in.header()
	h.Set("Content-Type", typeDirectory)
	_, err := c.call(ctx, in, &operation{name: "PutDirectory", method: http.MethodPut, path: in.Path, header: h, repeatable: true})
	return err
}

// MakeAll makes a directory and those above it that are not there.
func (c *Client) MakeAll(ctx context.Context, dir string) error {
	err := c.PutDirectory(ctx, &PutDirectoryInput{Path: dir})
	if !isCode(err, ErrDirectoryNotThere) {
		return err
	}
	if parent := dirname(dir); parent != dir {
		if err := c.MakeAll(ctx, parent); err != nil {
			return err
		}
	}
	return c.PutDirectory(ctx, &PutDirectoryInput{Path: dir})
}

func dirname(p string) string {
	if i := strings.LastIndexByte(strings.TrimRight(p, "/"), '/'); i > 0 {
		return p[:i]
	}
	return p
}

// isCode reports whether err is the refusal that one of this package's sentinels stands for.
func isCode(err, sentinel error) bool { return errors.Is(err, sentinel) }

// An Entry is a line of a listing.
type Entry struct {
	Name               string    `json:"name"`
	Type               string    `json:"type"` // "object" or "directory"
	Etag               string    `json:"etag,omitempty"`
	Size               int64     `json:"size,omitempty"`
	ContentType        string    `json:"contentType,omitempty"`
	ContentDisposition string    `json:"contentDisposition,omitempty"`
	ContentMD5         string    `json:"contentMD5,omitempty"` // base64
	Modified           time.Time `json:"mtime"`
	Copies             int       `json:"durability,omitempty"`

	Parent string `json:"-"` // the directory that was listed
}

// Path returns the entry's whole path.
func (e *Entry) Path() string { return e.Parent + "/" + e.Name }

// IsDir reports whether the entry is a directory.
func (e *Entry) IsDir() bool { return e.Type == "directory" }

// ListInput says what of a directory to list.
type ListInput struct {
	Path string

	// Start is the name to begin at, inclusive.
	Start string

	// PageSize is how many entries one request asks for: 1 to 1024, which is also the default.
	PageSize int

	// OnlyDirectories and OnlyObjects leave the other kind out.
	OnlyDirectories, OnlyObjects bool

	// Reverse lists from the last name to the first.
	Reverse bool
}

// List yields a directory's entries by name. It asks for the next page when the last is used up. The sequence ends after an error, which is
// its last element. An entry that is there all the time is yielded exactly once.
func (c *Client) List(ctx context.Context, in *ListInput) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		limit := in.PageSize
		if limit == 0 {
			limit = 1024
		}
		if limit < 2 || limit > 1024 {
			// Markers are inclusive, so that a page of one would never get on.
			yield(nil, fmt.Errorf("List %s: %w: page size %d", in.Path, ErrInput, limit))
			return
		}
		q := url.Values{"limit": {strconv.Itoa(limit)}}
		if in.OnlyDirectories != in.OnlyObjects {
			q.Set(map[bool]string{true: "dir", false: "obj"}[in.OnlyDirectories], "true")
		}
		if in.Reverse {
			q.Set("sort_order", "reverse")
		}
		parent, err := c.resolve(in.Path)
		if err != nil {
			yield(nil, err)
			return
		}
		marker, last := in.Start, ""
		for {
			if marker != "" {
				q.Set("marker", marker)
			}
			page, err := c.listPage(ctx, in, q)
			if err != nil {
				yield(nil, err)
				return
			}
			n := len(page)
			for i, e := range page {
				if i == 0 && last != "" && e.Name == last {
					continue
				}
				e.Parent = strings.TrimRight(parent, "/")
				if !yield(e, nil) {
					return
				}
			}
			if n < limit {
				return
			}
			last = page[n-1].Name
			marker = last
		}
	}
}

// maxLine bounds one line of a listing.
const maxLine = 1 << 20

func (c *Client) listPage(ctx context.Context, in *ListInput, q url.Values) ([]*Entry, error) {
	resp, err := c.invoke(ctx, in, &operation{name: "List", method: http.MethodGet, path: in.Path, query: q, repeatable: true})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if !strings.Contains(resp.Header.Get("Content-Type"), "type=directory") {
		return nil, fmt.Errorf("List %s: %w: not a directory", in.Path, ErrInput)
	}
	var page []*Entry
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		e := new(Entry)
		if err := json.Unmarshal(lines.Bytes(), e); err != nil {
			return nil, fmt.Errorf("List %s: line %d: %w", in.Path, len(page)+1, err)
		}
		page = append(page, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("List %s: %w", in.Path, err)
	}
	return page, nil
}

// ErrSkipDirectory is what the function of Walk returns to leave out what is below the directory it was called for.
var ErrSkipDirectory = errors.New("skip this directory")

// Walk calls fn for everything below a directory, each directory before what is in it, in order of name. An error from fn ends the walk,
// except [ErrSkipDirectory].
func (c *Client) Walk(ctx context.Context, dir string, fn func(*Entry) error) error {
	for e, err := range c.List(ctx, &ListInput{Path: dir}) {
		if err != nil {
			return err
		}
		err := fn(e)
		switch {
		case e.IsDir() && err == nil:
			err = c.Walk(ctx, e.Path(), fn)
		case e.IsDir() && errors.Is(err, ErrSkipDirectory):
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveAll removes what is at a path: an object, or a directory with everything below it, a few at a time. What is not there is no error. After
// another error some of it may be left; calling again goes on.
func (c *Client) RemoveAll(ctx context.Context, name string) error {
	err := c.DeleteObject(ctx, &DeleteObjectInput{Path: name})
	if err == nil || isCode(err, ErrNotFound) {
		return nil
	}
	if !isCode(err, ErrDirectoryNotEmpty) {
		return err
	}
	for e, err := range c.batches(ctx, name) {
		if err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(16)
		for _, entry := range e {
			if entry.IsDir() {
				// Directories one after another: their own entries go in parallel.
				if err := c.RemoveAll(ctx, entry.Path()); err != nil {
					return errors.Join(err, g.Wait())
				}
				continue
			}
			g.Go(func() error {
				err := c.DeleteObject(ctx, &DeleteObjectInput{Path: entry.Path()})
				if isCode(err, ErrNotFound) {
					return nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	err = c.DeleteObject(ctx, &DeleteObjectInput{Path: name})
	if isCode(err, ErrNotFound) {
		return nil
	}
	return err
}

// batches yields a directory's first page again and again until it is empty, for callers that remove what they get.
func (c *Client) batches(ctx context.Context, dir string) iter.Seq2[[]*Entry, error] {
	return func(yield func([]*Entry, error) bool) {
		for {
			var page []*Entry
			for e, err := range c.List(ctx, &ListInput{Path: dir}) {
				if err != nil {
					if !isCode(err, ErrNotFound) {
						yield(nil, err)
					}
					return
				}
				if page = append(page, e); len(page) == 1024 {
					break
				}
			}
			if len(page) == 0 || !yield(page, nil) {
				return
			}
		}
	}
}
