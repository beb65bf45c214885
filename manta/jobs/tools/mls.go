package tools

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/manta/client"
)

// mls lists directories.
func mls(p *process) int {
	o, code, end := p.clientOptions("[PATH]...",
		flag("output in JSON", "json", "j"), flag("output in JSON", "fulljson"), flag("use a long listing format", "long", "l"),
		flag("sizes in K, M, G in a long listing", "human-readable", "h"), value("MARKER", "start listing from MARKER", "marker", "m"),
		flag("reverse order", "reverse", "r"), value("d|o", "only directories, or only objects", "type"), flag("sort by time, newest first", "time", "t"))
	if end {
		return code
	}
	if t := o.get("type"); t != "" && t != "d" && t != "o" {
		return p.fail(errors.New(`invalid type, must be "d" (directory) or "o" (object)`))
	}
	c, err := p.client(o)
	if err != nil {
		return p.fail(err)
	}
	if len(o.args) == 0 {
		o.args = []string{"~~/stor"}
	}
	out := p.output()
	for _, arg := range o.args {
		err := p.list(out, c, o, p.path(c, arg))
		if err = errors.Join(err, out.Flush()); err != nil {
			return p.fail(err)
		}
	}
	return 0
}

func (p *process) list(out io.Writer, c *client.Client, o *parsed, path string) error {
	info, err := p.head(c, path)
	if err != nil {
		return err
	}
	owner, _, _ := strings.Cut(strings.TrimPrefix(strings.Replace(path, "~~", "/"+c.Account(), 1), "/"), "/")
	if !info.Directory {
		return printEntry(out, o, owner, &client.Entry{Name: path, Type: "object", Etag: info.Etag, Size: info.Size, Modified: info.Modified, Copies: info.Copies,
			ContentType: info.ContentType, ContentMD5: info.Header.Get("Content-Md5")})
	}
	in := &client.ListInput{Path: path, Start: o.get("marker"), OnlyDirectories: o.get("type") == "d", OnlyObjects: o.get("type") == "o"}
	byTime := o.has("time")
	in.Reverse = o.has("reverse") && !byTime
	var entries []*client.Entry
	for e, err := range c.List(p.ctx, in) {
		if err != nil {
			return err
		}
		if byTime {
			entries = append(entries, e)
			continue
		}
		if err := printEntry(out, o, owner, e); err != nil {
			return err
		}
	}
	slices.SortStableFunc(entries, func(a, b *client.Entry) int { return b.Modified.Compare(a.Modified) })
	if o.has("reverse") {
		slices.Reverse(entries)
	}
	for _, e := range entries {
		if err := printEntry(out, o, owner, e); err != nil {
			return err
		}
	}
	return nil
}

// head describes an entry. The answer to a HEAD has no body that would say what is wrong, so that is asked for again.
func (p *process) head(c *client.Client, path string) (*client.Info, error) {
	info, err := c.HeadObject(p.ctx, &client.HeadObjectInput{Path: path})
	if err == nil {
		return info, nil
	}
	obj, again := c.GetObject(p.ctx, &client.GetObjectInput{Path: path})
	if again != nil {
		return nil, again
	}
	obj.Body.Close()
	return &obj.Info, nil
}

func printEntry(w io.Writer, o *parsed, owner string, e *client.Entry) error {
	var err error
	switch {
	case o.has("json") || o.has("fulljson"):
		err = printJSON(w, e)
	case o.has("long"):
		kind, size, format := "-", fmt.Sprint(e.Size), "Jan 02 15:04"
		if e.IsDir() {
			kind, size = "d", "0"
		}
		if o.has("human-readable") {
			size = prettyBytes(e.Size, e.IsDir())
		}
		if time.Since(e.Modified) > 182*24*time.Hour {
			format = "Jan 02  2006"
		}
		_, err = fmt.Fprintf(w, "%srwxr-xr-x 1 %s %13s %s %s\n", kind, owner, size, e.Modified.Local().Format(format), escapeName(e.Name))
	case e.IsDir():
		_, err = fmt.Fprintf(w, "%s/\n", escapeName(e.Name))
	default:
		_, err = fmt.Fprintln(w, escapeName(e.Name))
	}
	return err
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// escapeName shows control characters in a name as JSON does, so that a name is one line.
func escapeName(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '\\' }) {
		return s
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return strings.ReplaceAll(string(b[1:len(b)-1]), `\"`, `"`)
}

func prettyBytes(n int64, directory bool) string {
	if directory || n == 0 {
		return "0"
	}
	if n < 1024 {
		return fmt.Sprint(n)
	}
	f, unit := float64(n), -1
	for f >= 1024 && unit < 5 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f%c", f, "KMGTPE"[unit])
}
