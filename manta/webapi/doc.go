// Package webapi is the HTTP front door of the store (Muskie in the original): every route of Manta, from an authenticated request to an answer.
//
// [New] checks a [Config] and returns a [Server], which is an http.Handler; [Server.HTTPServer] returns an http.Server with the time limits that
// keep slow clients from holding it. A request goes through the same steps whatever its route: path, route, date, transport, caller,
// owner, then the route's handler, which looks the entry up, asks whether the caller may do this, and checks everything else before it reads the
// first byte of a body; that read is what sends "100 Continue". No handler is reached before its caller is known, but for the few
// routes that say Open in the table.
//
// Never read a request's body before every check has passed, and never answer from a handler but through [Request].
//
//	config.go     Config, Dialect           object_put.go     PUT of objects
//	server.go     Server, the pipeline      object_get.go     GET and HEAD, DELETE
//	routes.go     the table of routes       directory.go      directories, listings
//	request.go    Request, its answers      link.go           snaplinks
//	auth.go       caller, rights            metadata.go       headers that are stored
//	conditions.go If-Match and its like     cors.go           origins, preflight
//	failure.go    errors as answers         uploads.go        multipart upload
//	body.go       bodies, stalls, draining  upload_commit.go  its parts and commit
//	transfer.go   bodies of answers         tokens.go         tokens
//	limits.go     http.Server, connections  public.go         ping, docs, crossdomain
//	listener.go   what is no request        audit.go          a line per request
//	range.go, accept.go, disposition.go     metrics.go        counters
//
// Later doors (jobs, sessions, reports) add their routes through [Config.Routes].
//
// Stability: experimental.
package webapi
