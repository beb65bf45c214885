package tools

import (
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mobulacloud/mobula/manta/client"
)

// mput stores a file or its input as an object.
func mput(p *process) int {
	o, code, end := p.clientOptions("path", value("COPIES", "number of copies to make", "copies", "c"), value("FILE", "local file to store", "file", "f"),
		value("HEADER", "HTTP header to include", "header", "H"), flag("send the file's MD5 ahead (always checked afterwards)", "md5", "m"),
		flag("make the directories above path", "parents", "p"), flag("ignored", "quiet", "q"), flag("ignored", "progress"), value("TAG,TAG...", "role tags", "role-tag"))
	if end {
		return code
	}
	if len(o.args) != 1 {
		return p.fail(errors.New("one path is required"))
	}
	if o.has("md5") && !o.has("file") {
		return p.fail(errors.New("--md5 requires --file"))
	}
	copies, err := o.int("copies", 2)
	if err != nil {
		return p.fail(err)
	}
	a, err := attributes(o)
	if err != nil {
		return p.fail(err)
	}
	c, err := p.client(o)
	if err != nil {
		return p.fail(err)
	}
	in := &client.PutObjectInput{Path: p.path(c, o.args[0]), Body: p.stdin, Copies: copies, MakeParents: o.has("parents"), Attributes: *a}
	if o.has("file") {
		f, err := os.Open(o.get("file"))
		if err != nil {
			return p.fail(err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err == nil && !st.Mode().IsRegular() {
			err = fmt.Errorf("%s is not a file", o.get("file"))
		}
		if err != nil {
			return p.fail(err)
		}
		in.Body, in.Size = f, st.Size()
	}
	if info, err := c.HeadObject(p.ctx, &client.HeadObjectInput{Path: in.Path}); err == nil && info.Directory {
		if !o.has("file") {
			return p.fail(errors.New("cannot infer name without -f"))
		}
		in.Path = strings.TrimRight(in.Path, "/") + "/" + filepath.Base(o.get("file"))
	}
	if o.has("md5") {
		sum := md5.New()
		if _, err := io.Copy(sum, io.NewSectionReader(in.Body.(io.ReaderAt), 0, in.Size)); err != nil {
			return p.fail(err)
		}
		in.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	}
	_, err = c.PutObject(p.ctx, in)
	switch {
	case errors.Is(err, client.ErrRootDirectory) || errors.Is(err, client.ErrOperationOnDirectory):
		return p.fail(errors.New("cannot write to a directory; specify full object path"))
	case err != nil:
		return p.fail(err)
	}
	return 0
}

// attributes reads --header and --role-tag.
func attributes(o *parsed) (*client.Attributes, error) {
	h, err := o.headers("header")
	if err != nil {
		return nil, err
	}
	a := &client.Attributes{ContentType: h.Get("Content-Type"), Header: h}
	h.Del("Content-Type")
	for _, list := range o.all("role-tag") {
		for tag := range strings.SplitSeq(list, ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				a.RoleTags = append(a.RoleTags, tag)
			}
		}
	}
	return a, nil
}

// mmkdir makes directories.
func mmkdir(p *process) int {
	o, code, end := p.clientOptions("path...", value("HEADER", "HTTP header to include", "header", "H"), flag("make the directories above it, too", "parents", "p"),
		value("TAG,TAG...", "role tags", "role-tag"))
	if end {
		return code
	}
	if len(o.args) == 0 {
		return p.fail(errors.New("path required"))
	}
	a, err := attributes(o)
	if err != nil {
		return p.fail(err)
	}
	c, err := p.client(o)
	if err != nil {
		return p.fail(err)
	}
	for _, arg := range o.args {
		dir := strings.TrimRight(p.path(c, arg), "/")
		in := &client.PutDirectoryInput{Path: dir, Attributes: *a}
		err := c.PutDirectory(p.ctx, in)
		if o.has("parents") && errors.Is(err, client.ErrDirectoryNotThere) {
			if i := strings.LastIndexByte(dir, '/'); i > 0 {
				if err = c.MakeAll(p.ctx, dir[:i]); err == nil {
					err = c.PutDirectory(p.ctx, in)
				}
			}
		}
		if err != nil {
			return p.fail(err)
		}
	}
	return 0
}

// mln makes a snaplink.
func mln(p *process) int {
	o, code, end := p.clientOptions("source dest", value("HEADER", "HTTP header to include", "header", "H"), value("TAG,TAG...", "role tags", "role-tag"))
	if end {
		return code
	}
	if len(o.args) != 2 {
		return p.fail(errors.New("source and dest required"))
	}
	a, err := attributes(o)
	if err != nil {
		return p.fail(err)
	}
	c, err := p.client(o)
	if err != nil {
		return p.fail(err)
	}
	if _, err := c.PutLink(p.ctx, &client.PutLinkInput{Path: p.path(c, o.args[1]), Target: p.path(c, o.args[0]), Attributes: *a}); err != nil {
		return p.fail(err)
	}
	return 0
}
