package tools

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/mobulacloud/mobula/manta/client"
)

var errEnough = errors.New("enough")

// A search is what mfind looks for.
type search struct {
	c        *client.Client
	out      *bufio.Writer
	name     *regexp.Regexp // nil for any
	kind     string         // "d", "o" or ""
	size     int            // least size of objects
	min, max int            // depth, from 1; max 0 for any
	left     int            // entries still wanted; negative for any number
	json     bool
}

// mfind walks trees.
func mfind(p *process) int {
	o, code, end := p.clientOptions("path...", value("LIMIT", "limit the number of results", "limit", "l"), value("NAME", "only entries whose name matches /NAME/", "name", "n"),
		value("NUM", "ignored", "parallel", "p"), value("SIZE", "only objects of at least SIZE bytes", "size", "s"), value("d|o", "only directories, or only objects", "type", "t"),
		value("DEPTH", "only entries at least this deep", "mindepth"), value("DEPTH", "only entries at most this deep", "maxdepth"), flag("output in JSON", "json", "j"))
	if end {
		return code
	}
	s := &search{kind: o.get("type"), json: o.has("json"), out: p.output()}
	var errs [4]error
	s.size, errs[0] = o.int("size", 0)
	s.min, errs[1] = o.int("mindepth", 0)
	s.max, errs[2] = o.int("maxdepth", 0)
	s.left, errs[3] = o.int("limit", -1)
	err := errors.Join(errs[:]...)
	if o.has("name") && err == nil {
		s.name, err = regexp.Compile(o.get("name"))
	}
	if s.kind != "" && s.kind != "d" && s.kind != "o" && err == nil {
		err = errors.New(`invalid type, must be "d" (directory) or "o" (object)`)
	}
	if len(o.args) == 0 && err == nil {
		err = errors.New("path required")
	}
	if err == nil {
		s.c, err = p.client(o)
	}
	if err != nil {
		return p.fail(err)
	}
	for _, arg := range o.args {
		path := strings.TrimRight(p.path(s.c, arg), "/")
		if account := s.c.Account(); strings.HasPrefix(path, "~~") {
			path = "/" + account + path[2:]
		}
		err := s.from(p, path)
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			p.say("in %s: %s", path, describe(err))
			code = 1
			if !errors.Is(err, client.ErrNotFound) {
				break
			}
		}
	}
	if err := s.out.Flush(); err != nil {
		return p.fail(err)
	}
	return code
}

func (s *search) from(p *process, path string) error {
	info, err := p.head(s.c, path)
	if err != nil {
		return err
	}
	if !info.Directory {
		return s.found(&client.Entry{Name: path[strings.LastIndexByte(path, '/')+1:], Parent: path[:strings.LastIndexByte(path, '/')], Type: "object", Etag: info.Etag, Size: info.Size,
			Modified: info.Modified}, 1)
	}
	base := strings.Count(path, "/")
	return s.c.Walk(p.ctx, path, func(e *client.Entry) error {
		depth := strings.Count(e.Parent, "/") - base + 1
		if err := s.found(e, depth); err != nil {
			return err
		}
		if e.IsDir() && s.max > 0 && depth >= s.max {
			return client.ErrSkipDirectory
		}
		return nil
	})
}

// found prints an entry that fits.
func (s *search) found(e *client.Entry, depth int) error {
	if depth < s.min || s.max > 0 && depth > s.max || s.kind == "d" && !e.IsDir() || s.kind == "o" && e.IsDir() ||
		s.size > 0 && (e.IsDir() || e.Size < int64(s.size)) || s.name != nil && !s.name.MatchString(e.Name) {
		return nil
	}
	var err error
	if s.json {
		err = s.printJSON(e)
	} else {
		_, err = fmt.Fprintln(s.out, e.Path())
	}
	if s.left--; s.left == 0 && err == nil {
		return errEnough
	}
	return err
}

func (s *search) printJSON(e *client.Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	parent, err := json.Marshal(e.Parent)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s,\"parent\":%s}\n", b[:len(b)-1], parent)
	return err
}
