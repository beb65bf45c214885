package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"
)

const credentialsFile = "identity.pem"

// ErrNoCredentials means that a directory holds none: the machine has not joined yet.
var ErrNoCredentials = errors.New("pki: no credentials")

// Credentials are a process's own key and certificate, with the authority that it trusts. They change when they are renewed; TLS configurations made of them
// follow.
type Credentials struct {
	dir string
	cur atomic.Pointer[material]
}

// material is one state of the credentials.
type material struct {
	id      Identity
	key     *ecdsa.PrivateKey
	leaf    *x509.Certificate
	ca      *x509.Certificate   // that signed leaf
	trusted []*x509.Certificate // ca first; more than that during a rotation
	roots   *x509.CertPool      // of trusted
	tls     tls.Certificate
}

// LoadCredentials reads what [Join] or [CA.Credentials] left in dir. Without it the error is [ErrNoCredentials].
func LoadCredentials(dir string) (*Credentials, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoCredentials, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("load credentials: %w", err)
	}
	defer root.Close()
	data, err := readSecret(root, credentialsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoCredentials, dir)
	}
	var m *material
	if err == nil {
		m, err = parseMaterial(data)
	}
	if err != nil {
		return nil, fmt.Errorf("load credentials in %s: %w", dir, err)
	}
	c := &Credentials{dir: dir}
	c.cur.Store(m)
	return c, nil
}

// Credentials returns those of id that are kept in dir, and issues them if there are none, if they are another's or another authority's, or if less
// than a third of their lifetime is left. It is for the process that holds the authority itself; others [Join].
func (ca *CA) Credentials(dir string, id Identity) (*Credentials, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	c, err := LoadCredentials(dir)
	if err == nil {
		if m := c.cur.Load(); m.id == id && fingerprint(m.ca) == ca.Fingerprint() && time.Now().Before(m.renewAt()) {
			return c, c.trust(ca.Trusted())
		}
	} else if !errors.Is(err, ErrNoCredentials) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	issued, err := ca.issue(id, key.Public())
	if err != nil {
		return nil, err
	}
	c = &Credentials{dir: dir}
	return c, c.replace(key, issued.Certificate, issued.Authority, issued.Trusted)
}

// replace stores new material on disk and then puts it to use.
func (c *Credentials) replace(key *ecdsa.PrivateKey, leaf, ca *x509.Certificate, trusted []*x509.Certificate) error {
	m, err := newMaterial(key, leaf, ca, trusted)
	if err != nil {
		return err
	}
	block, err := encodeKey(key)
	if err != nil {
		return err
	}
	root, err := openDir(c.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := writeSecret(root, credentialsFile, append(append(block, encodeCerts(leaf.Raw)...), encodeCerts(raws(m.trusted)...)...)); err != nil {
		return fmt.Errorf("store credentials: %w", err)
	}
	c.cur.Store(m)
	return nil
}

// trust stores which authorities are to be trusted from now on; the one that signed the certificate always is.
func (c *Credentials) trust(trusted []*x509.Certificate) error {
	m := c.cur.Load()
	if sameSet(m.trusted, trusted) {
		return nil
	}
	return c.replace(m.key, m.leaf, m.ca, trusted)
}

func parseMaterial(data []byte) (*material, error) {
	key, certs, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	if key == nil || len(certs) < 2 || len(certs) > 1+maxTrusted {
		return nil, fmt.Errorf("want a key, its certificate and the authority's, got %d certificates", len(certs))
	}
	return newMaterial(key, certs[0], certs[1], certs[1:])
}

// maxTrusted bounds the authorities that are trusted at once. A rotation needs two.
const maxTrusted = 4

// newMaterial checks that the parts belong together.
func newMaterial(key *ecdsa.PrivateKey, leaf, ca *x509.Certificate, trusted []*x509.Certificate) (*material, error) {
	id, err := identityOf(leaf)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("pki: certificate is not for the key")
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return nil, fmt.Errorf("pki: certificate is not the authority's: %w", err)
	}
	m := &material{id: id, key: key, leaf: leaf, ca: ca, trusted: []*x509.Certificate{ca}, roots: x509.NewCertPool()}
	for _, cert := range trusted {
		if !cert.IsCA || !isP256(cert.PublicKey) || cert.CheckSignatureFrom(cert) != nil {
			return nil, errors.New("pki: a trusted certificate is not an authority's own")
		}
		if !contains(m.trusted, cert) {
			m.trusted = append(m.trusted, cert)
		}
	}
	if len(m.trusted) > maxTrusted {
		return nil, fmt.Errorf("pki: %d authorities to trust are too many", len(m.trusted))
	}
	for _, cert := range m.trusted {
		m.roots.AddCert(cert)
	}
	// The authority goes along, so that a machine that joins can compare its fingerprint.
	m.tls = tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key, Leaf: leaf}
	return m, nil
}

// renewAt is when a third of the lifetime is left.
func (m *material) renewAt() time.Time {
	return m.leaf.NotAfter.Add(-m.leaf.NotAfter.Sub(m.leaf.NotBefore.Add(backdate)) / 3)
}

// Identity returns whose credentials they are.
func (c *Credentials) Identity() Identity { return c.cur.Load().id }

// Expires returns when the present certificate ends.
func (c *Credentials) Expires() time.Time { return c.cur.Load().leaf.NotAfter }

// Server returns the configuration of a listener that speaks to nobody without a certificate of this authority whose
// identity accept takes. accept is asked at every handshake, so it is also the place to refuse who was removed since.
func (c *Credentials) Server(accept func(Identity) error) *tls.Config {
	return c.server(tls.RequireAndVerifyClientCert, accept)
}

// DoorServer returns the configuration of a listener that machines without a certificate may use too, because they come to join. A certificate that is given must be
// good; handlers ask [PeerIdentity] who it is.
func (c *Credentials) DoorServer(accept func(Identity) error) *tls.Config {
	return c.server(tls.VerifyClientCertIfGiven, accept)
}

func (c *Credentials) server(auth tls.ClientAuthType, accept func(Identity) error) *tls.Config {
	cfg := c.base()
	cfg.ClientAuth = auth
	cfg.ClientCAs = c.cur.Load().roots
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return nil // where it is not required
		}
		// A session that is taken up again was verified by what was trusted then.
		return c.verify(state, x509.ExtKeyUsageClientAuth, "", accept)
	}
	// Who is trusted changes.
	fixed := cfg.Clone()
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := fixed.Clone()
		now.ClientCAs = c.cur.Load().roots
		return now, nil
	}
	return cfg
}

// Client returns the configuration of connections to one peer, or to any of its role if its name is empty. Nobody else is
// spoken to, whatever the address leads to.
func (c *Credentials) Client(peer Identity) *tls.Config {
	cfg := c.base()
	cfg.ServerName = peer.serverName()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.cur.Load().tls, nil }
	// RootCAs could not follow who is trusted, so VerifyConnection does the whole of the verification.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		return c.verify(state, x509.ExtKeyUsageServerAuth, peer.serverName(), Only(peer))
	}
	return cfg
}

func (c *Credentials) base() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.cur.Load().tls, nil },
	}
}

// verify checks a peer's certificate by the authorities that are trusted now, and asks whether its identity is wanted. With an empty name it may
// have any.
func (c *Credentials) verify(state tls.ConnectionState, usage x509.ExtKeyUsage, name string, accept func(Identity) error) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: no certificate", ErrIdentity)
	}
	leaf := state.PeerCertificates[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: c.cur.Load().roots, DNSName: name, CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return err
	}
	id, err := identityOf(leaf)
	if err != nil {
		return err
	}
	return accept(id)
}

// Only accepts the given identities; one with an empty name stands for all of its role.
func Only(ids ...Identity) func(Identity) error {
	return func(id Identity) error {
		for _, want := range ids {
			if id.Role == want.Role && (want.Name == "" || id.Name == want.Name) {
				return nil
			}
		}
		return fmt.Errorf("%w: %s", ErrIdentity, id)
	}
}
