package webapi

import (
	"net/http"
	"time"

	"github.com/mobulacloud/mobula/manta"
)

// errNotModified answers a conditional read of what has not changed.
var errNotModified = &manta.Error{Status: http.StatusNotModified, Code: "NotModified"}

// checkConditions judges the request's conditions by an entry, which may be nil.
func (r *Request) checkConditions(e *manta.Entry) error {
	c := manta.ParseConditions(r.Request.Header)
	if !c.Any() {
		return nil
	}
	var mtime time.Time
	if e != nil {
		mtime = e.Mtime
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch c.Check(e.Etag(), mtime, read) {
	case manta.NotModified:
		return errNotModified
	case manta.PreconditionFailed:
		return manta.Errorf(http.StatusPreconditionFailed, manta.CodePreconditionFailed, "%s", conditionMessage(r.Request.Header, e.Etag()))
	}
	return nil
}

func conditionMessage(h http.Header, etag string) string {
	for _, name := range []string{"If-Match", "If-None-Match"} {
		if v := h.Get(name); v != "" {
			return name + " '" + clip(v) + "' didn't hold for etag '" + etag + "'"
		}
	}
	return "the resource's modification time does not meet the request's conditions"
}

// exclusive reports whether a write must fail if the entry is changed meanwhile.
func (r *Request) exclusive() bool { return manta.ParseConditions(r.Request.Header).Exclusive() }
