package webapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
)

const directoryType = "application/x-json-stream; type=directory"

// Limits of a page of a listing.
const (
	defaultPage = 256
	maxPage     = 1024
)

// putDirectory makes a directory, or gives one other metadata.
func putDirectory(r *Request) error {
	st, err := r.lookForPut()
	if err != nil {
		return err
	}
	if err := r.authorizePut("putdirectory", st); err != nil {
		return err
	}
	if st.NoParent != nil {
		return st.NoParent
	}
	if r.Query.Get("metadata") != "" && st.Entry != nil && !st.Entry.IsDirectory() {
		return putMetadata(r, st) // whatever the client took it for, it did not mean to replace it
	}
	roles, err := r.roleTags()
	if err != nil {
		return err
	}
	if st.Entry.IsDirectory() && !r.tagsAsked() {
		roles = st.Entry.Roles // "mkdir -p" must not change the tags of what it finds
	}
	e := manta.Entry{Headers: storedHeaders(r.Request.Header), Roles: roles}
	ctx, cancel := r.afterwards()
	defer cancel()
	if _, _, err := r.s.cfg.Namespace.PutDirectory(ctx, r.Key, e, namespace.Options{Seen: st, Exclusive: r.exclusive()}); err != nil {
		return err
	}
	// The headers of what was there before are not those of the directory.
	delete(r.Answer(), "Etag")
	delete(r.Answer(), "Last-Modified")
	r.echoOrigin()
	r.Empty(http.StatusNoContent)
	return nil
}

// putMetadata is PUT ?metadata=true on an entry of either type.
func putMetadata(r *Request, st *namespace.State) error {
	where := ""
	if st.Entry.IsDirectory() {
		where = " on a directory"
	} else if _, err := r.copies(); err != nil {
		return err
	}
	for _, name := range []string{"Content-Length", "Content-Md5", "Durability-Level"} {
		if r.header(name) != "" {
			return manta.Errorf(http.StatusBadRequest, manta.CodeInvalidUpdate, "overwrite of %q forbidden%s", strings.ToLower(name), where)
		}
	}
	if st.Entry == nil {
		return notFound(r.Path.String())
	}
	m := update{options: namespace.Options{Seen: st, Exclusive: r.exclusive()}}
	m.Headers = storedHeaders(r.Request.Header)
	m.ContentType = fromLatin1(r.header("Content-Type"))
	var err error
	if !st.Entry.IsDirectory() {
		if m.Disposition, err = r.disposition(); err != nil {
			return err
		}
		if r.Path.Top() == "public" && m.Headers["access-control-allow-origin"] == "" {
			if m.Headers == nil {
				m.Headers = map[string]string{}
			}
			m.Headers["access-control-allow-origin"] = "*"
		}
	}
	if m.Roles, err = r.roleTags(); err != nil {
		return err
	}
	return setMetadata(r, m)
}

// getDirectory answers with a page of a directory.
func getDirectory(r *Request, dir *manta.Entry) error {
	var o namespace.ListOptions
	if r.Method == http.MethodGet {
		var err error
		if o, err = r.listOptions(); err != nil {
			return err
		}
	}
	count, err := r.s.cfg.Namespace.Count(r.Context(), dir.Key)
	if err != nil {
		return err
	}
	r.stored(dir)
	r.set("Content-Type", directoryType)
	r.set("Result-Set-Size", strconv.FormatInt(count, 10))
	if r.Method == http.MethodHead {
		r.WriteHead(http.StatusOK)
		return nil
	}
	page := pages.get()
	defer pages.put(page)
	for e, err := range r.s.cfg.Namespace.List(r.Context(), dir.Key, o) {
		if err != nil {
			return err
		}
		*page = e.AppendLine(*page)
		if len(*page) >= pageFlush {
			r.WriteHead(http.StatusOK)
			if _, err := r.Write(*page); err != nil {
				return err
			}
			*page = (*page)[:0]
		}
	}
	r.WriteHead(http.StatusOK)
	_, err = r.Write(*page)
	return err
}

// listOptions reads the parameters of a listing.
func (r *Request) listOptions() (o namespace.ListOptions, err error) {
	q := r.Query
	sort := q.Get("sort")
	if !r.Caller.Operator {
		var forbidden []string
		if sort == "none" {
			forbidden = append(forbidden, "sort=none")
		}
		if q.Get("skip_owner_check") == "true" {
			forbidden = append(forbidden, "skip_owner_check=true")
		}
		if forbidden != nil {
			return o, manta.Errorf(http.StatusForbidden, manta.CodeQueryParameterForbidden,
				"Use of these query parameters is restricted to operators: %s", strings.Join(forbidden, ", "))
		}
	}
	o.Limit = defaultPage
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < 1 || n > maxPage {
			return o, manta.Errorf(http.StatusBadRequest, manta.CodeInvalidArgument, "limit=%s is invalid: must be between [1, %d]", clip(v), maxPage)
		}
		o.Limit = n
	}
	o.ByMtime = sort == "mtime"
	o.Reverse = q.Get("sort_order") == "reverse"
	switch dirs, objects := has(q, "dir", "directory"), has(q, "obj", "object"); {
	case dirs && !objects:
		o.Only = manta.TypeDirectory
	case objects && !dirs:
		o.Only = manta.TypeObject
	}
	marker := q.Get("marker")
	if marker == "" || sort == "none" {
		return o, nil
	}
	if !o.ByMtime {
		if len(marker) > manta.MaxPath || strings.ContainsRune(marker, 0) || !utf8.ValidString(marker) {
			return o, invalidMarker(marker)
		}
		o.Marker = marker
		return o, nil
	}
	if o.MarkerTime, err = parseTime(marker); err != nil {
		return o, invalidMarker(marker)
	}
	return o, nil
}

func invalidMarker(v string) error {
	return manta.Errorf(http.StatusBadRequest, manta.CodeInvalidParameter, "%q is invalid for \"marker\"", clip(v))
}

func has(q url.Values, names ...string) bool {
	for _, name := range names {
		if q.Has(name) {
			return true
		}
	}
	return false
}

// parseTime reads a date in the forms that clients take from listings and headers.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, http.TimeFormat, time.RFC1123Z, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is no date", s)
}

// born is the modification time of directories that nobody made.
const born = "2013-05-22T17:39:43.714Z"

// listRoot lists an account's top directories. Here, unlike in other directories, the marker is exclusive.
func listRoot(r *Request) error {
	if err := r.Authorize(); err != nil {
		return err
	}
	marker := r.Query.Get("marker")
	var lines []byte
	count := 0
	for _, top := range manta.Tops {
		if top <= marker || top == "uploads" && r.s.cfg.Uploads == nil {
			continue
		}
		count++
		lines = append(lines, `{"name":"`+top+`","type":"directory","mtime":"`+born+"\"}\n"...)
	}
	r.set("Content-Type", directoryType)
	r.set("Result-Set-Size", strconv.Itoa(count))
	r.WriteHead(http.StatusOK)
	if r.Method == http.MethodGet {
		_, err := r.Write(lines)
		return err
	}
	return nil
}

// refuseRoot answers changes of an account's root.
func refuseRoot(r *Request) error {
	if err := r.Authorize(); err != nil {
		return err
	}
	return onRoot(r)
}
