// Package pki is the private certificate authority between the processes of one cloud: who is a head node, who a storage node, and how a new
// machine becomes one.
//
// The first start of the head node calls [OpenCA], which makes the authority, and [CA.Credentials] for its own. To
// let a machine in, the operator has [Authority.CreateToken] make a [Token], a single string that names the authority by its fingerprint and
// carries a secret which works once, for one identity, for a short time. On the machine, [Join] dials the head node, makes
// sure by the fingerprint that it is the right one, and trades the secret and a certificate request for [Credentials]. From
// then on [Credentials.Server] and [Credentials.Client] give the TLS configurations of both sides, which accept nobody but a peer with the
// right [Identity], and a [Renewer] replaces the certificate long before it expires. A [Listener] can end the connections of a machine that was removed.
//
// # Rotation
//
// The authority itself can be replaced while everybody goes on, by [Authority.Rotate], and is by itself two years before its end. [Authority.Run]
// takes the steps, each of which waits for all members (Authority.Members):
//
//	steady      one authority signs and is trusted
//	spreading   a new one is made, and Renewers are told to trust it too; the old one signs
//	retiring    when everybody trusts it, the new one signs, and the old key is gone; Renewers get certificates from it
//	steady      when everybody has one, the old authority is forgotten
//
// A member that does not answer holds the next step up; [Authority.Force] goes on without it, and it has to join again. Join tokens are for the authority
// that signed when they were made.
//
// Never log a token's Reveal, and never take a peer's word for who it is: ask [PeerIdentity].
//
// What is on disk: one PEM file a credential with key, certificate and authority, mode 0600, replaced in one step, so that a crash leaves the
// old or the new one. The authority's are ca.pem, which signs, and during a rotation next.pem or old.pem. Private keys never leave the machine that made them.
//
// Files: identity.go, ca.go, rotate.go, credentials.go (with TLS), listener.go, token.go and tokendir.go, authority.go, wire.go (HTTP), join.go, renew.go, files.go.
//
// Stability: experimental.
package pki
