// Package pki is the private certificate authority between the processes of one cloud: who is a head node, who a storage node, and how a new
// machine becomes one.
//
// The first start of the head node calls [OpenCA], which makes the authority, and [CA.Credentials] for its own. To
// let a machine in, the operator has [Authority.CreateToken] make a [Token], a single string that names the authority by its fingerprint and
// carries a secret which works once, for one identity, for a short time. On the machine, [Join] dials the head node, makes
// sure by the fingerprint that it is the right one, and trades the secret and a certificate request for [Credentials]. From
// then on [Credentials.Server] and [Credentials.Client] give the TLS configurations of both sides, which accept nobody but a peer with the
// right [Identity], and a [Renewer] replaces the certificate long before it expires.
//
// Never log a token's Reveal, and never take a peer's word for who it is: ask [PeerIdentity].
//
// What is on disk: one PEM file a credential with key, certificate and authority, mode 0600, replaced in one step, so that a crash leaves the
// old or the new one. Private keys never leave the machine that made them.
//
// Files: identity.go, ca.go, credentials.go (with TLS), token.go and tokendir.go, authority.go, wire.go (HTTP), join.go, renew.go, files.go.
//
// Stability: experimental.
package pki
