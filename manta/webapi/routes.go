package webapi

import (
	"mime"
	"net/http"
	"strings"

	"github.com/mobulacloud/mobula/manta"
)

// A Route is one row of the server's table: which requests it takes and what is done with them.
type Route struct {
	// Name is the operation's, as audit lines and metrics show it.
	Name string

	Method string

	// Pattern is a path whose components are literals, parameters, or in the last place "*" for any further components, none included.
	// The first is ":login". The parameter ":prefix" takes one to four hexadecimal digits, ":upload" a UUID, others anything.
	Pattern string

	// Type is the parameter "type" of the media type application/json that a PUT must have for this route; "" takes any.
	Type string

	// Query are parameters of which the query must have at least one for this route, in whatever case; none takes any query.
	Query []string

	// Action is what policies call the operation; "" means that the handler finds it out from the entry.
	Action string

	// Open routes are answered without knowing the caller. Everything else is not reached before.
	Open bool

	// Handle answers the request, or returns the error to answer with.
	Handle func(*Request) error

	parts []string
}

// table returns the server's own routes. The first that takes a request serves it.
func (s *Server) table() []Route {
	routes := []Route{
		{Name: "Ping", Method: "GET", Pattern: "/ping", Open: true, Handle: ping},
		{Name: "Redirect", Method: "GET", Pattern: "/", Open: true, Handle: docs},
		{Name: "Redirect", Method: "GET", Pattern: "/docs/*", Open: true, Handle: docs},
		{Name: "CrossDomain", Method: "GET", Pattern: "/crossdomain.xml", Open: true, Handle: crossDomain},

		{Name: "CreateToken", Method: "POST", Pattern: "/:login/tokens", Action: "createtoken", Handle: createToken},

		{Name: "GetRootDir", Method: "GET", Pattern: "/:login", Action: "getdirectory", Handle: listRoot},
		{Name: "HeadRootDir", Method: "HEAD", Pattern: "/:login", Action: "getdirectory", Handle: listRoot},
		{Name: "PutRootDir", Method: "PUT", Pattern: "/:login", Action: "putdirectory", Handle: refuseRoot},
		{Name: "PostRootDir", Method: "POST", Pattern: "/:login", Action: "postrootdir", Handle: refuseRoot},
		{Name: "DeleteRootDir", Method: "DELETE", Pattern: "/:login", Action: "deletedirectory", Handle: refuseRoot},
	}
	if s.cfg.Uploads != nil {
		routes = append(routes, uploadRoutes()...)
	}
	for _, top := range []struct{ dir, name string }{{"stor", ""}, {"public", "Public"}, {"jobs", "Jobs"}, {"reports", "Reports"}} {
		p := "/:login/" + top.dir + "/*"
		routes = append(routes,
			Route{Name: "Put" + top.name + "Directory", Method: "PUT", Pattern: p, Type: "directory", Action: "putdirectory", Handle: putDirectory},
			Route{Name: "Put" + top.name + "Link", Method: "PUT", Pattern: p, Type: "link", Action: "putlink", Handle: putLink},
			Route{Name: "Put" + top.name + "Object", Method: "PUT", Pattern: p, Action: "putobject", Handle: putObject},
			Route{Name: "Options" + top.name + "Storage", Method: "OPTIONS", Pattern: p, Action: strings.ToLower("options" + top.name + "storage"), Handle: preflight},
			Route{Name: "Get" + top.name + "Storage", Method: "GET", Pattern: p, Handle: getStorage},
			Route{Name: "Head" + top.name + "Storage", Method: "HEAD", Pattern: p, Handle: getStorage},
			Route{Name: "Delete" + top.name + "Storage", Method: "DELETE", Pattern: p, Handle: deleteStorage},
		)
	}
	return routes
}

// A router finds the route of a request. It knows routes by the component after the login.
type router map[string][]*Route

func newRouter(routes []Route) router {
	rt := router{}
	for _, r := range routes {
		r.parts = split(r.Pattern)
		rt[routerKey(r.parts)] = append(rt[routerKey(r.parts)], &r)
	}
	return rt
}

// routerKey tells "/ping" (open) from "/:login/stor".
func routerKey(parts []string) string {
	switch {
	case len(parts) == 0:
		return "/"
	case parts[0] != ":login":
		return "/" + parts[0]
	case len(parts) == 1:
		return ""
	}
	return parts[1]
}

func split(path string) []string {
	if path == "" || path == "/" {
		return nil
	}
	return strings.Split(path[1:], "/")
}

// find returns the route for a request. When there is none, the error says whether that is for the path or for the method.
func (rt router) find(r *Request) (*Route, map[string]string, error) {
	parts := split(r.Path.String())
	var candidates []*Route
	switch {
	case len(parts) == 0:
		candidates = rt["/"]
	case rt["/"+parts[0]] != nil:
		candidates = rt["/"+parts[0]]
	case !validLogin(parts[0]):
	case len(parts) == 1:
		candidates = rt[""]
	default:
		candidates = rt[parts[1]]
	}
	kind, typed := "", false
	var allowed []string
	for _, route := range candidates {
		if !matches(route.parts, parts) {
			continue
		}
		if route.Method != r.Method {
			if len(allowed) == 0 || allowed[len(allowed)-1] != route.Method {
				allowed = append(allowed, route.Method)
			}
			continue
		}
		if len(route.Query) > 0 && !asks(r.URL.RawQuery, route.Query) {
			continue
		}
		if route.Type != "" {
			if !typed {
				kind, typed = mediaKind(r.header("Content-Type")), true
			}
			if kind != route.Type {
				continue
			}
		}
		return route, params(route.parts, parts), nil
	}
	if len(allowed) > 0 {
		r.set("Allow", strings.Join(allowed, ", "))
		return nil, nil, manta.Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "%s is not allowed", r.Method)
	}
	return nil, nil, manta.Errorf(http.StatusNotFound, manta.CodeResourceNotFound, "%s does not exist", r.Path)
}

// validLogin is the original's [a-zA-Z][a-zA-Z0-9_.@%-]*, on the decoded login.
func validLogin(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '_' || c == '.' || c == '@' || c == '%' || c == '-' || c == '+'):
		default:
			return false
		}
	}
	return s != ""
}

func matches(pattern, parts []string) bool {
	for i, p := range pattern {
		if p == "*" {
			return true
		}
		if i >= len(parts) || !accepts(p, parts[i]) {
			return false
		}
	}
	return len(pattern) == len(parts)
}

func accepts(pattern, part string) bool {
	switch {
	case pattern == ":prefix":
		return len(part) >= 1 && len(part) <= 4 && isHex(part)
	case pattern == ":upload":
		return isUUID(part)
	case strings.HasPrefix(pattern, ":"):
		return part != ""
	}
	return pattern == part
}

func params(pattern, parts []string) map[string]string {
	var m map[string]string
	for i, p := range pattern {
		if i > 0 && strings.HasPrefix(p, ":") {
			if m == nil {
				m = map[string]string{}
			}
			m[p[1:]] = parts[i]
		}
	}
	return m
}

// asks reports whether a query has one of these parameters.
func asks(query string, names []string) bool {
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		for _, want := range names {
			if strings.EqualFold(name, want) {
				return true
			}
		}
	}
	return false
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return false
			}
		} else if !isHex(s[i : i+1]) {
			return false
		}
	}
	return true
}

// mediaKind returns the parameter "type" of a JSON media type: how a PUT says that it makes a directory or a link.
func mediaKind(contentType string) string {
	if len(contentType) < 16 || !strings.EqualFold(contentType[:16], "application/json") {
		return "" // the usual case costs nothing
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != "application/json" {
		return ""
	}
	return params["type"]
}
