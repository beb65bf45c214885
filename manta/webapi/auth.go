package webapi

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/manta"
	"github.com/mobulacloud/mobula/manta/namespace"
	"github.com/mobulacloud/mobula/sdc"
	"github.com/mobulacloud/mobula/sdc/authcache"
)

// Identity says who a caller is and what the caller may do. *[authcache.Cache] is one; its comments are the specification.
type Identity interface {
	Authenticate(ctx context.Context, view authcache.Request) (*authcache.Caller, error)
	Owner(caller *authcache.Caller, login, path string) (*sdc.Account, error)
	ActivateRoles(caller *authcache.Caller, owner *sdc.Account, header string) error
	Authorize(ctx context.Context, req authcache.AuthzRequest) error
	AccountByLogin(login string) (*sdc.Account, error)
	NewRoleTags(caller *authcache.Caller, owner *sdc.Account, header string) (uuids []string, err error)
	RoleNames(uuids []string) []string
	MintToken(caller *authcache.Caller, owner *sdc.Account, fromJob bool) (string, error)
}

var _ Identity = (*authcache.Cache)(nil)

// authenticate finds out who calls, whose tree the path is in, and which roles count.
func (r *Request) authenticate() (err error) {
	view := authcache.View(r.Request)
	view.ClearText = r.clearText
	view.Path = authcache.CleanPath(rawPath(r.Request))
	if r.Caller, err = r.s.cfg.Identity.Authenticate(r.Context(), view); err != nil {
		return err
	}
	if r.Owner, err = r.s.cfg.Identity.Owner(r.Caller, r.Path.Login(), r.Path.String()); err != nil {
		return err
	}
	r.Key = r.Path.Key(r.Owner.UUID)
	return r.s.cfg.Identity.ActivateRoles(r.Caller, r.Owner, r.header("Role"))
}

// authorize asks whether the caller may do the action on a resource with these tags. overwrite is nil where the question makes no sense.
func (r *Request) authorize(action string, path manta.Path, owner *sdc.Account, tags []string, overwrite bool) error {
	return r.s.cfg.Identity.Authorize(r.Context(), authcache.AuthzRequest{
		Caller: r.Caller, Owner: owner, Action: action, Resource: "/" + owner.Login + path.Rest(), RequestPath: r.Path.String(), RoleTags: tags,
		Conditions: authcache.Conditions{
			Time: r.start, Method: r.Method, UserAgent: r.header("User-Agent"), Overwrite: overwrite, SourceIP: r.sourceIP(),
		},
	})
}

// Authorize asks whether the caller may do the route's action on the request's path, which is no entry of the tree. Routes outside this package call it
// where they have no better resource.
func (r *Request) Authorize() error {
	return r.authorize(r.Route.Action, r.Path, r.Owner, nil, false)
}

// AuthorizeOn asks whether the caller may do an action on a resource below the same owner, which carries the roles with these uuids as tags.
func (r *Request) AuthorizeOn(action string, resource manta.Path, tags []string) error {
	return r.authorize(action, resource, r.Owner, tags, false)
}

// authorizeEntry asks about an entry that is there, or about the directory that an entry would be in.
func (r *Request) authorizeEntry(action string, st *namespace.State) error {
	subject := st.Entry
	if subject == nil {
		subject = st.Parent
	}
	var tags []string
	if subject != nil {
		tags = subject.Roles
	}
	return r.authorize(action, r.Path, r.Owner, tags, st.Entry != nil)
}

// authorizePut asks about a PUT. Where the directory around it does not exist there is nobody to ask, and that is the answer.
func (r *Request) authorizePut(action string, st *namespace.State) error {
	if st.Entry == nil && st.NoParent == namespace.ErrNoParent {
		return st.NoParent
	}
	return r.authorizeEntry(action, st)
}

// look reads the entry that the request is about.
func (r *Request) look(parent bool) (*namespace.State, error) {
	return r.s.cfg.Namespace.Look(r.Context(), r.Key, parent)
}

// lookForPut reads the entry and its directory, and sets the headers by which conditions are judged.
func (r *Request) lookForPut() (*namespace.State, error) {
	st, err := r.look(true)
	if err == nil {
		r.describe(st.Entry)
	}
	return st, err
}

// lookExisting reads an entry that has to be there.
func (r *Request) lookExisting() (*namespace.State, error) {
	st, err := r.look(false)
	if err != nil {
		return nil, err
	}
	if st.Entry == nil {
		return nil, notFound(r.Path.String())
	}
	r.describe(st.Entry)
	return st, nil
}

// roleTags returns the uuids of the roles that an entry gets: those asked for by name, or of a user all that are active.
func (r *Request) roleTags() ([]string, error) {
	return r.s.cfg.Identity.NewRoleTags(r.Caller, r.Owner, r.header("Role-Tag"))
}

// tagsAsked reports whether the request names role tags itself.
func (r *Request) tagsAsked() bool {
	if r.Caller.Presigned {
		return r.Caller.RoleTag != ""
	}
	return r.header("Role-Tag") != ""
}

func (r *Request) roleNames(uuids []string) []string { return r.s.cfg.Identity.RoleNames(uuids) }

// sourceIP returns the caller's address.
func (r *Request) sourceIP() string {
	if r.s.cfg.Forwarded {
		if list := r.header("X-Forwarded-For"); list != "" {
			first, _, _ := strings.Cut(list, ",")
			return strings.TrimSpace(first)
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// afterwards returns a context for changes of records, which are carried out even if the client leaves in the middle: what is half made would have to be
// cleaned up or repaired by somebody.
func (r *Request) afterwards() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), 30*time.Second)
}
