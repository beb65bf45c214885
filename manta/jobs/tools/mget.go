package tools

import (
	"errors"
	"io"
	"os"
	"path"

	"github.com/mobulacloud/mobula/manta/client"
)

// mget writes the content of objects, one after another.
func mget(p *process) int {
	o, code, end := p.clientOptions("path...", value("HEADER", "ignored", "header", "H"), flag("ignored", "quiet", "q"), flag("ignored", "progress"),
		value("FILE", "write to FILE", "output", "o"), flag("write to a file of the object's name", "remote-name", "O"))
	if end {
		return code
	}
	if len(o.args) == 0 {
		return p.fail(errors.New("path required"))
	}
	c, err := p.client(o)
	if err != nil {
		return p.fail(err)
	}
	name := o.get("output")
	if o.has("remote-name") {
		if len(o.args) != 1 {
			return p.fail(errors.New("--remote-name only works with a single object path"))
		}
		name = path.Base(o.args[0])
	}
	out := p.stdout
	if name != "" {
		f, err := os.Create(name)
		if err != nil {
			return p.fail(err)
		}
		defer f.Close() // again, after an error
		out = f
	}
	for _, arg := range o.args {
		if err := p.get(out, c, p.path(c, arg)); err != nil {
			return p.fail(err)
		}
	}
	if f, ok := out.(*os.File); ok && name != "" {
		if err := f.Close(); err != nil {
			return p.fail(err)
		}
	}
	return 0
}

func (p *process) get(w io.Writer, c *client.Client, path string) error {
	obj, err := c.GetObject(p.ctx, &client.GetObjectInput{Path: path})
	if err != nil {
		return err
	}
	defer obj.Body.Close()
	_, err = io.Copy(w, obj.Body)
	return err
}
