// Package nodehttp takes a storage node over the network: an HTTP service for a [storage.Node] and a client that is one (Mako's interface in the original).
//
// On the node's side make a [Handler], and serve it with [Server], which bounds connections and cuts peers that are slow or idle. On the other side
// [NewClient] gives a storage.Node again; both ends pass the same suite. Neither authenticates anybody by itself: give both a TLS configuration that does, or a
// private network as the original had.
//
// # The protocol
//
// It is the original's, with additions, so a plain HTTP client can store and read objects:
//
//	PUT    /OWNER/OBJECT                  201; with Expect: 100-continue the node agrees before content flows
//	GET    /OWNER/OBJECT                  200, or 206 for one Range
//	HEAD   /OWNER/OBJECT
//	DELETE /OWNER/OBJECT                  204, also if it is not there
//	POST   /mpu/v1/commit/ID              204; {version, nbytes, account, objectId, parts}: concatenates parts into /account/objectId
//	POST   /mobula/v1/undelete/OWNER/OBJECT
//	POST   /mobula/v1/verify/OWNER/OBJECT
//	GET    /mobula/v1/objects?after=OWNER/OBJECT   one JSON object a line, and a last line that says that it is all
//	GET    /mobula/v1/usage
//
// Content-MD5 is checked if it is given (status 469 if it differs), and X-Joyent-Computed-Content-MD5 is always answered. Our client also sends the
// CRC32C, in a header or, when content is streamed, in a trailer. The service then takes the MD5 on trust, as a node in the same process does, and saves the
// computation; content without a CRC32C gets its MD5 computed here.
//
// A copy that turns out damaged in the middle of a GET cannot become a silently short body: a client that accepts trailers gets the good bytes and
// a trailer that says what is wrong, any other sees the connection break.
//
// Neither end retries; that is the caller's, who knows other nodes.
//
// Files: wire.go (headers, errors, JSON), handler.go, put.go, get.go (the service), server.go (connections), client.go, clientput.go, clientget.go, pipe.go.
//
// Stability: experimental.
package nodehttp
