// Package authcache answers who a caller is and what the caller may do, from memory (Mahi, the authentication cache, in the original).
//
// Make one with [New], start [Cache.Run], wait with [Cache.WaitReady]. A door then does for each request, before it reads any of the body:
//
//	caller, err := cache.Authenticate(ctx, authcache.View(r))    // signature, pre-signed URL, token, or nobody
//	owner, err := cache.Owner(caller, login, path)               // whose things the path is about
//	err = cache.ActivateRoles(caller, owner, r.Header.Get("Role"))
//	…                                                            // find the entry and its role tags
//	err = cache.Authorize(ctx, authcache.AuthzRequest{…})
//
// The order is the original's and decides which error wins. Errors are [*sdc.Error]s with Manta's codes. Until the directory has been read, and when
// contact with it has been lost for too long, every answer is ServiceUnavailable: a cache that cannot hear of a removed key says nothing rather than yes.
//
// The cache follows sdc/ufds by watching its store, so a disabled account or a removed key stops working as soon as that change is committed. Requests read
// an immutable snapshot behind an atomic pointer; they take no lock and wait for nobody. Signatures that verified are remembered for as long as their date
// lets them pass, so a repeated one costs a hash instead of a public-key operation. Nothing is kept on disk.
//
// Files: cache.go the cache and its configuration, follow.go how it keeps up, snapshot.go what it knows, on the maps of cow.go; request.go what it is asked and
// answers, authenticate.go who, owner.go whose, roles.go role names and tags, authorize.go whether; token.go tokens, memo.go what was verified before,
// errors.go refusals.
//
// Stability: experimental.
package authcache
