package client_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mobulacloud/mobula/manta/client"
)

func (s *store) client(t *testing.T, fns ...func(*client.Options)) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Endpoint: s.url, Account: "alice", Signer: s.signer, RetryWaitMin: time.Millisecond, RetryWaitMax: time.Millisecond}, fns...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestReal_objects(t *testing.T) {
	c := newStore(t).client(t)
	ctx := t.Context()
	put, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/a/b/öbj ect", Body: strings.NewReader("content"), MakeParents: true,
		Attributes: client.Attributes{ContentType: "text/plain", Metadata: map[string]string{"colour": "blue"}}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.HeadObject(ctx, &client.HeadObjectInput{Path: "~~/stor/a/b/öbj ect"})
	if err != nil {
		t.Fatal(err)
	}
	if info.Etag != put.Etag || info.Size != 7 || info.ContentType != "text/plain" || info.Metadata["colour"] != "blue" || info.Copies != 2 || !bytes.Equal(info.MD5, put.MD5) {
		t.Errorf("HeadObject = %+v", info)
	}
	out, err := c.GetObject(ctx, &client.GetObjectInput{Path: "~~/stor/a/b/öbj ect", Offset: 3, Length: 2})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(out.Body)
	out.Body.Close()
	if err != nil || string(got) != "te" || out.Total != 7 {
		t.Errorf("range = %q of %d, %v; want te of 7", got, out.Total, err)
	}
	if _, err := c.PutLink(ctx, &client.PutLinkInput{Path: "~~/stor/a/link", Target: "~~/stor/a/b/öbj ect"}); err != nil {
		t.Error(err)
	}
	if err := c.PutMetadata(ctx, &client.PutMetadataInput{Path: "~~/stor/a/link", Attributes: client.Attributes{Metadata: map[string]string{"colour": "red"}}}); err != nil {
		t.Error(err)
	}
	if info, err := c.HeadObject(ctx, &client.HeadObjectInput{Path: "~~/stor/a/link"}); err != nil || info.Etag != put.Etag || info.Metadata["colour"] != "red" {
		t.Errorf("link is %+v, %v; want the same etag and the new metadata", info, err)
	}
	for name, test := range map[string]struct{ err, want error }{
		"If-None-Match *": {second(c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/a/link", Body: strings.NewReader("x"), Conditions: client.Conditions{IfNoneMatch: "*"}})), client.ErrPreconditionFailed},
		"not modified":    {second(c.GetObject(ctx, &client.GetObjectInput{Path: "~~/stor/a/link", Conditions: client.Conditions{IfNoneMatch: put.Etag}})), client.ErrNotModified},
		"no parent":       {second(c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/none/x", Body: strings.NewReader("x")})), client.ErrDirectoryNotThere},
		"not empty":       {c.DeleteObject(ctx, &client.DeleteObjectInput{Path: "~~/stor/a"}), client.ErrDirectoryNotEmpty},
		"nothing there":   {second(c.HeadObject(ctx, &client.HeadObjectInput{Path: "~~/stor/none"})), client.ErrNotFound},
		"beyond the end":  {second(c.GetObject(ctx, &client.GetObjectInput{Path: "~~/stor/a/link", Offset: 100})), client.ErrUnsatisfiableRange},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v, want %v", name, test.err, test.want)
		}
	}
	if err := c.RemoveAll(ctx, "~~/stor/a"); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitUntilGone(ctx, "~~/stor/a", client.WaitOptions{}); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestReal_listings(t *testing.T) {
	c := newStore(t).client(t)
	ctx := t.Context()
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("obj-%02d", i)
		want = append(want, name)
		if _, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/dir/" + name, Body: strings.NewReader(name), MakeParents: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.MakeAll(ctx, "~~/stor/dir/sub/deep"); err != nil {
		t.Fatal(err)
	}
	list := func(in *client.ListInput) (names []string) {
		t.Helper()
		in.Path = "~~/stor/dir"
		for e, err := range c.List(ctx, in) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, e.Name)
		}
		return names
	}
	// Every page size, also those at which a page ends just where the directory does.
	for size := 2; size <= 28; size++ {
		if diff := cmp.Diff(append(slices.Clone(want), "sub"), list(&client.ListInput{PageSize: size})); diff != "" {
			t.Fatalf("pages of %d: %s", size, diff)
		}
	}
	reversed := slices.Clone(want)
	slices.Reverse(reversed)
	if diff := cmp.Diff(reversed, list(&client.ListInput{PageSize: 7, Reverse: true, OnlyObjects: true})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[20:], list(&client.ListInput{Start: "obj-20", OnlyObjects: true})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"sub"}, list(&client.ListInput{OnlyDirectories: true})); diff != "" {
		t.Error(diff)
	}
	var walked int
	err := c.Walk(ctx, "~~/stor", func(e *client.Entry) error {
		walked++
		if e.Name == "sub" {
			return client.ErrSkipDirectory
		}
		return nil
	})
	if err != nil || walked != 27 { // dir, its objects, sub
		t.Errorf("walked over %d entries, %v; want 27", walked, err)
	}
}

func TestReal_uploadResumesAndDownloadVerifies(t *testing.T) {
	s := newStore(t)
	c := s.client(t)
	ctx := t.Context()
	content := make([]byte, 3*client.MinPartSize+12345)
	_, _ = rand.Read(content)

	// The first attempt ends after two parts.
	broken := errors.New("cable pulled")
	var ref *client.UploadRef
	var parts atomic.Int64
	failing := readerAt(func(p []byte, off int64) (int, error) {
		if off >= 2*client.MinPartSize {
			return 0, broken
		}
		return bytes.NewReader(content).ReadAt(p, off)
	})
	in := &client.UploadInput{Path: "~~/stor/big", Body: failing, Size: int64(len(content)), PartSize: client.MinPartSize, Parallel: 1, Began: func(u *client.UploadRef) { ref = u }}
	if _, err := c.Upload(ctx, in); !errors.Is(err, broken) || ref == nil {
		t.Fatalf("first attempt: %v, upload %v; want the reader's error and an upload", err, ref)
	}
	if _, err := c.HeadObject(ctx, &client.HeadObjectInput{Path: "~~/stor/big"}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("half an upload is visible: %v", err)
	}
	before := s.puts.Load()
	in.Body, in.Resume, in.Parallel = bytes.NewReader(content), ref, 3
	var last int64
	in.Progress = func(done, total int64) { last = done; parts.Add(1) }
	info, err := c.Upload(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if sent := s.puts.Load() - before; sent != 2 {
		t.Errorf("%d parts were sent again, want the 2 that were missing", sent)
	}
	if last != int64(len(content)) || parts.Load() != 4 || info.Size != last {
		t.Errorf("progress ended at %d after %d parts, object has %d bytes; want %d, 4", last, parts.Load(), info.Size, len(content))
	}

	var to buffer
	if _, err := c.Download(ctx, &client.DownloadInput{Path: "~~/stor/big", To: &to, PartSize: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(to.b, content) {
		t.Error("downloaded content differs")
	}
	// A part that To is said to have, but has not: the check of the whole finds it.
	to = buffer{b: make([]byte, len(content))}
	_, err = c.Download(ctx, &client.DownloadInput{Path: "~~/stor/big", To: &to, PartSize: 1 << 20, Etag: info.Etag, Done: func(i int) bool { return i == 3 }})
	if !errors.Is(err, client.ErrChecksum) {
		t.Errorf("download over a wrong part: %v, want ErrChecksum", err)
	}
	if _, err := c.Download(ctx, &client.DownloadInput{Path: "~~/stor/big", To: &to, Etag: "another"}); !errors.Is(err, client.ErrPreconditionFailed) {
		t.Errorf("download of another etag: %v, want ErrPreconditionFailed", err)
	}
}

type readerAt func([]byte, int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// A buffer is a file in memory. Ranges do not overlap, so its bytes need no lock once it has its size.
type buffer struct {
	once sync.Once
	b    []byte
}

func (f *buffer) WriteAt(p []byte, off int64) (int, error) {
	f.once.Do(func() { f.b = make([]byte, 3*client.MinPartSize+12345) })
	return copy(f.b[off:], p), nil
}

func (f *buffer) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.b).ReadAt(p, off)
}

func TestReal_uploadsAreAbortedAndRefused(t *testing.T) {
	c := newStore(t).client(t)
	ctx := t.Context()
	u, err := c.CreateUpload(ctx, &client.CreateUploadInput{Path: "~~/stor/x", Copies: 1, Attributes: client.Attributes{Metadata: map[string]string{"k": "v"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.UploadPart(ctx, &client.UploadPartInput{Upload: u, Number: 10000, Body: strings.NewReader("x")}); !errors.Is(err, client.ErrInput) {
		t.Errorf("part 10000: %v, want ErrInput", err)
	}
	if _, err := c.UploadPart(ctx, &client.UploadPartInput{Upload: u, Number: 0, Body: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.AbortUpload(ctx, u); err != nil {
			t.Errorf("abort: %v", err)
		}
	}
	if _, err := c.CommitUpload(ctx, u, nil); !errors.Is(err, client.ErrUploadState) {
		t.Errorf("commit after abort: %v, want ErrUploadState", err)
	}
	st, err := c.WaitUntilCommitted(ctx, u, client.WaitOptions{})
	if err != nil || st.Result != "aborted" || st.NumCopies != 1 {
		t.Errorf("state is %+v, %v", st, err)
	}
}

func TestReal_tokensAndSignedURLs(t *testing.T) {
	s := newStore(t)
	c := s.client(t)
	ctx := t.Context()
	if _, err := c.PutObject(ctx, &client.PutObjectInput{Path: "~~/stor/x", Body: strings.NewReader("signed")}); err != nil {
		t.Fatal(err)
	}
	token, err := c.CreateToken(ctx)
	if err != nil {
		t.Fatal(err)
	}
	byToken := s.client(t, func(o *client.Options) { o.Signer, o.Token = nil, token })
	if _, err := byToken.HeadObject(ctx, &client.HeadObjectInput{Path: "~~/stor/x"}); err != nil {
		t.Errorf("with a token: %v", err)
	}
	nobody := s.client(t, func(o *client.Options) { o.Signer = nil })
	if _, err := nobody.GetObject(ctx, &client.GetObjectInput{Path: "~~/stor/x"}); !errors.Is(err, client.ErrAuthorizationFailed) {
		t.Errorf("without anything: %v, want ErrAuthorizationFailed", err)
	}
	signed, err := c.SignURL(ctx, &client.SignURLInput{Path: "~~/stor/x", Methods: []string{http.MethodGet}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(signed)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "signed" {
		t.Errorf("signed URL answers %s: %s", resp.Status, b)
	}
	if sum, _ := base64.StdEncoding.DecodeString(resp.Header.Get("Content-Md5")); len(sum) != 16 {
		t.Errorf("Content-MD5 is %q", resp.Header.Get("Content-Md5"))
	}
}
