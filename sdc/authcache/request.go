package authcache

import (
	"net/http"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/sdc"
)

// A Request is what a door shows of an HTTP request to have its caller authenticated. It needs no body.
type Request struct {
	Method string
	Target string // the request-target as received: signatures cover it byte for byte
	Path   string // the path as the door will route it (cleaned, still percent-encoded); "" derives it from Target
	Proto  string // HTTP/1.1 if empty
	Host   string // the Host header
	Header http.Header

	// TransferEncoding holds what net/http takes out of Header.
	TransferEncoding []string

	// ClearText says that the request came in where callers must not show credentials that can be read on the way: only pre-signed URLs and reads of a
	// public directory are let in.
	ClearText bool
}

// View returns the view of a request that a net/http server received.
func View(r *http.Request) Request {
	return Request{Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, Header: r.Header, TransferEncoding: r.TransferEncoding}
}

// CleanPath returns the path of a request-target as the original routes it: without query, runs of slashes made one, no slash at the end.
func CleanPath(target string) string {
	path, _, _ := strings.Cut(target, "?")
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	return path
}

// A Caller is who sent a request. It belongs to that request; what its pointers lead to is shared and must not be changed.
type Caller struct {
	// Account is the account that calls, or whose user calls. It is nil for an anonymous caller, until [Cache.Owner] has found an anonymous user to act as.
	Account *sdc.Account

	// User is the user that calls; nil when the account itself does.
	User *sdc.User

	// Anonymous says that the request had no credentials.
	Anonymous bool

	// Operator says that the caller passes every check: an account (never a user) of an operator. ActivateRoles may change it.
	Operator bool

	// Presigned says that the credentials came in the query. Role and RoleTag then stand for the headers of these names, which must be ignored.
	Presigned     bool
	Role, RoleTag string

	// Token is what the caller's token says; nil when it did not come with one.
	Token *Token

	// KeyID is the MD5 fingerprint of the key that signed; "" for tokens and anonymous callers.
	KeyID string

	// ActiveRoles are the uuids of the roles that count for this request, set by [Cache.ActivateRoles].
	ActiveRoles []string

	public bool // anonymous on a public path: nobody at all, and no error for it
	reader bool // holds the role that reads everything
}

// Login returns the caller's name for messages and logs: login, login/user, or anonymous.
func (c *Caller) Login() string {
	switch {
	case c.Account == nil:
		return sdc.AnonymousUser
	case c.User != nil:
		return c.Account.Login + "/" + c.User.Login
	}
	return c.Account.Login
}

// An AuthzRequest asks whether a caller may do something.
type AuthzRequest struct {
	Caller *Caller
	Owner  *sdc.Account // of the resource
	Action string       // such as getobject

	// Resource is the resource's path with the owner's login in front, decoded: /demo/stor/a b. Rules that name resources are matched against it.
	Resource string

	// RequestPath is the path that a refusal names; Resource if empty.
	RequestPath string

	// RoleTags are the uuids of the roles that the resource carries.
	RoleTags []string

	Conditions Conditions
}

// Conditions are the circumstances that rules may look at. The caller's active roles, the owner and what a token says are added to them.
type Conditions struct {
	Time      time.Time // of the request; zero means now
	Method    string
	UserAgent string
	Overwrite bool // the entry exists already

	// SourceIP is the caller's address. A door must take it from X-Forwarded-For only behind a proxy of its own: a header that a caller can
	// write would open every rule about addresses.
	SourceIP string
}

// A Token is what an authentication token says.
type Token struct {
	Version  int
	Issued   time.Time
	Account  string   // uuid
	User     string   // uuid; "" for the account itself
	Roles    []string // uuids of the active roles
	FromJob  bool     // issued for the tasks of a compute job
	hasRoles bool
}
