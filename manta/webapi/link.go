package webapi

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/sdc"
)

// putLink makes a snaplink.
func putLink(r *Request) error {
	st, err := r.lookForPut()
	if err != nil {
		return err
	}
	if err := r.authorizePut("putlink", st); err != nil {
		return err
	}
	if r.s.cfg.Dialect == V2 || r.Caller.Account != nil && r.s.unlinkable[r.Caller.Account.UUID] {
		return manta.Errorf(http.StatusForbidden, manta.CodeSnaplinksDisabled, "snaplinks have been disabled for this account")
	}
	switch {
	case r.Path.IsRoot():
		return onRoot(r)
	case st.Entry.IsDirectory():
		return onDirectory(r)
	case st.NoParent != nil:
		return st.NoParent
	}
	source, err := r.linkSource()
	if err != nil {
		return err
	}
	src, err := r.s.cfg.Namespace.Look(r.Context(), source.key, false)
	if err != nil {
		return err
	}
	switch {
	case src.Entry == nil:
		return source.missing()
	case src.Entry.Type != manta.TypeObject:
		return manta.Errorf(http.StatusBadRequest, manta.CodeLinkNotObject, "%s is not an object", source.location)
	}
	if err := r.authorize("getobject", source.path, source.owner, src.Entry.Roles, true); err != nil {
		if e := answerFor(err, r.Path); e.Status >= 500 {
			return err
		}
		denied := manta.Errorf(http.StatusForbidden, "AuthorizationFailed", "%s is not allowed to access %s", r.Caller.Login(), source.path)
		denied.Err = err
		return denied
	}
	r.describe(src.Entry)
	if err := r.checkConditions(src.Entry); err != nil {
		return err
	}
	roles, err := r.roleTags()
	if err != nil {
		return err
	}
	ctx, cancel := r.afterwards()
	defer cancel()
	e, err := r.s.cfg.Namespace.Link(ctx, r.Key, source.key, roles, namespace.Options{Seen: st})
	switch {
	case errors.Is(err, namespace.ErrNotFound):
		return source.missing()
	case errors.Is(err, namespace.ErrNotObject):
		return manta.Errorf(http.StatusBadRequest, manta.CodeLinkNotObject, "%s is not an object", source.location)
	case err != nil:
		return err
	}
	r.Object = e.ObjectID
	if st.Entry != nil {
		r.Replaced = st.Entry.ObjectID
	}
	r.echoOrigin()
	r.Empty(http.StatusNoContent)
	return nil
}

// linkSource finds what the Location header of a link names.
func (r *Request) linkSource() (*linkSource, error) {
	location := r.header("Location")
	if location == "" {
		return nil, manta.Errorf(http.StatusBadRequest, manta.CodeLocationRequired, "An HTTP Location header must be specified")
	}
	src := &linkSource{location: clip(location)}
	invalid := manta.Errorf(http.StatusBadRequest, manta.CodeInvalidLink, "%s is an invalid link", src.location)
	u, err := url.Parse(location)
	if err != nil {
		return nil, invalid
	}
	if src.path, err = manta.ParsePath(u.EscapedPath()); err != nil {
		return nil, invalid
	}
	if !manta.IsTop(src.path.Top()) {
		return nil, src.missing()
	}
	if src.owner, err = r.s.cfg.Identity.AccountByLogin(src.path.Login()); err != nil {
		if answerFor(err, r.Path).Status >= 500 {
			return nil, err
		}
		return nil, src.missing()
	}
	if r.s.unlinkable[src.owner.UUID] {
		return nil, manta.Errorf(http.StatusForbidden, manta.CodeSnaplinksDisabled, "owner of source object has snaplinks disabled")
	}
	src.key = src.path.Key(src.owner.UUID)
	return src, nil
}

// A linkSource is the object that a snaplink is to be made from.
type linkSource struct {
	location string // as the header had it
	path     manta.Path
	owner    *sdc.Account
	key      manta.Key
}

func (l *linkSource) missing() error {
	return manta.Errorf(http.StatusNotFound, manta.CodeSourceObjectNotFound, "%s was not found", l.location)
}
