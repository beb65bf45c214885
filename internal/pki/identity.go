package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
)

// ErrIdentity refuses a certificate that is not, or not only, that of the identity which is wanted.
var ErrIdentity = errors.New("pki: peer has not the right identity")

// A Role is what a process is to the others.
type Role string

// The roles.
const (
	Head    Role = "head"
	Storage Role = "storage"
	Compute Role = "compute"
)

// An Identity is who holds a certificate. It stands in the certificate as the URI mobula://ROLE/NAME.
type Identity struct {
	Role Role
	Name string // 1 to 128 letters, digits, '.', '_' and '-', such as a storage node's id
}

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)
	rolePattern = regexp.MustCompile(`^[a-z]{1,32}$`)
)

const scheme = "mobula"

// String returns the identity's URI.
func (id Identity) String() string { return scheme + "://" + string(id.Role) + "/" + id.Name }

// Validate says what is wrong with an identity.
func (id Identity) Validate() error {
	if !rolePattern.MatchString(string(id.Role)) || !namePattern.MatchString(id.Name) {
		return fmt.Errorf("%w: role %.40q, name %.200q", ErrIdentity, id.Role, id.Name)
	}
	return nil
}

// ParseIdentity reads the form that String writes.
func ParseIdentity(s string) (Identity, error) {
	u, err := url.Parse(s)
	if err != nil || len(u.Path) < 2 {
		return Identity{}, fmt.Errorf("%w: URI %.200q", ErrIdentity, s)
	}
	id := Identity{Role: Role(u.Host), Name: u.Path[1:]}
	if id.String() != s || id.Validate() != nil {
		return Identity{}, fmt.Errorf("%w: URI %.200q", ErrIdentity, s)
	}
	return id, nil
}

// uri is for a certificate's names.
func (id Identity) uri() *url.URL {
	return &url.URL{Scheme: scheme, Host: string(id.Role), Path: "/" + id.Name}
}

// serverName is the host name under which TLS knows an identity, or with an empty name any of the role. It is a hash, because names of ours need not be valid host names.
func (id Identity) serverName() string {
	sum := sha256.Sum256([]byte(id.String()))
	return hex.EncodeToString(sum[:16]) + ".mobula.internal"
}

// identityOf returns the identity in a certificate, which must have exactly one.
func identityOf(cert *x509.Certificate) (Identity, error) {
	if len(cert.URIs) != 1 {
		return Identity{}, fmt.Errorf("%w: certificate with %d URIs", ErrIdentity, len(cert.URIs))
	}
	return ParseIdentity(cert.URIs[0].String())
}

// PeerIdentity returns who is at the other end of a connection whose certificate has been verified, or [ErrIdentity].
func PeerIdentity(state *tls.ConnectionState) (Identity, error) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return Identity{}, fmt.Errorf("%w: no verified certificate", ErrIdentity)
	}
	return identityOf(state.VerifiedChains[0][0])
}
