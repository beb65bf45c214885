package webapi

import (
	"net/http"
	"strings"

	"github.com/mobulacloud/mobula/manta"
)

// sharedWith reports whether an entry's stored headers let a script of this origin see the answer to a method.
func sharedWith(headers map[string]string, origin, method string) bool {
	if origins, ok := headers["access-control-allow-origin"]; ok && !listed(origins, origin) && !listed(origins, "*") {
		return false
	}
	if methods, ok := headers["access-control-allow-methods"]; ok && !listed(methods, method) {
		return false
	}
	return true
}

// listed reports whether a comma list has an item.
func listed(list, item string) bool {
	for v := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(v) == item {
			return true
		}
	}
	return false
}

// echoOrigin lets the script that wrote an entry see that it did.
func (r *Request) echoOrigin() {
	if origin := r.header("Origin"); origin != "" {
		r.set("Access-Control-Allow-Origin", origin)
	}
}

// preflight answers OPTIONS: with CORS headers only where the entry allows origin, method and every header asked for, and with 200 in any case.
// A PUT is allowed by the directory that it goes into.
func preflight(r *Request) error {
	st, err := r.look(true)
	if err != nil {
		return err
	}
	if st.Entry == nil && st.NoParent != nil {
		return st.NoParent
	}
	action := r.Route.Action
	if r.Path.Top() == "public" {
		action = "getobject" // a browser sends no credentials with a preflight, and may read here without
	}
	if err := r.authorizeEntry(action, st); err != nil {
		return err
	}
	r.describe(st.Entry)
	if err := r.checkConditions(st.Entry); err != nil {
		return err
	}
	subject := st.Entry
	method := r.header("Access-Control-Request-Method")
	if method == http.MethodPut && !r.Path.IsRoot() {
		parent, err := r.s.cfg.Namespace.Look(r.Context(), r.Key.Dir(), false)
		if err != nil {
			return err
		}
		subject = parent.Entry
	}
	if subject == nil {
		return notFound(r.Path.String())
	}
	r.preflightHeaders(subject, method)
	r.Empty(http.StatusOK)
	return nil
}

func (r *Request) preflightHeaders(e *manta.Entry, method string) {
	origin := r.header("Origin")
	h := e.Headers
	if origin == "" || method == "" || h["access-control-allow-origin"] == "" || h["access-control-allow-methods"] == "" {
		return
	}
	if !sharedWith(h, origin, method) {
		return
	}
	if asked := r.header("Access-Control-Request-Headers"); asked != "" {
		for name := range strings.SplitSeq(asked, ",") {
			if name = strings.TrimSpace(name); name != "" && !listedFold(h["access-control-allow-headers"], name) {
				return
			}
		}
	}
	r.set("Access-Control-Allow-Origin", origin)
	r.set("Access-Control-Allow-Methods", h["access-control-allow-methods"])
	if v := h["access-control-allow-headers"]; v != "" {
		r.set("Access-Control-Allow-Headers", v)
	}
	if v := h["access-control-max-age"]; v != "" {
		r.set("Access-Control-Max-Age", v)
	}
}

func listedFold(list, item string) bool {
	for v := range strings.SplitSeq(list, ",") {
		if v = strings.TrimSpace(v); strings.EqualFold(v, item) {
			return true
		}
	}
	return false
}
