// Package httpsig signs HTTP requests and checks their signatures: draft-cavage signatures as node-http-signature 1.x writes and reads them, and
// pre-signed URLs as smartdc-auth does.
//
// A server calls [Parse] on the Authorization header, [Signature.AppendText] for what was signed, [Signature.Check] for its age, and then
// [PublicKey.Verify] with the key that [ParseKeyID] leads it to. For a URL without the header, [IsPresigned] and [ParsePresigned] take the place of the first
// three. A client gets a [Signer] from [ParsePrivateKey] or [NewAgentSigner] and calls [SignRequest] or [SignURL].
//
// The package is pure: it keeps nothing, reads no clock and knows no accounts. It says what is wrong with a text ([Error]); which status that means
// is for the door to say. Never verify a signature whose text you did not build from the request itself, and never skip Check: without it a signature
// is good for ever.
//
//	parse.go      the Authorization header
//	text.go       the text that is signed, and its age
//	presigned.go  pre-signed URLs, both ends
//	query.go      query strings as the original canonicalises them
//	keyid.go      key ids
//	algorithm.go  names of algorithms
//	key.go        public keys, fingerprints, verification
//	signer.go     private keys; agent.go those behind an ssh-agent
//	sign.go       requests, signed
//	date.go       dates as browsers and Node read them
//
// Stability: experimental.
package httpsig
