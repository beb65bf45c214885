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
	id    Identity
	key   *ecdsa.PrivateKey
	leaf  *x509.Certificate
	ca    *x509.Certificate
	roots *x509.CertPool
	tls   tls.Certificate
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
			return c, nil
		}
	} else if !errors.Is(err, ErrNoCredentials) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := ca.issue(id, key.Public())
	if err != nil {
		return nil, err
	}
	c = &Credentials{dir: dir}
	return c, c.replace(key, cert, ca.cert)
}

// replace stores new material on disk and then puts it to use.
func (c *Credentials) replace(key *ecdsa.PrivateKey, leaf, ca *x509.Certificate) error {
	m, err := newMaterial(key, leaf, ca)
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
	if err := writeSecret(root, credentialsFile, append(block, encodeCerts(leaf.Raw, ca.Raw)...)); err != nil {
		return fmt.Errorf("store credentials: %w", err)
	}
	c.cur.Store(m)
	return nil
}

func parseMaterial(data []byte) (*material, error) {
	key, certs, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	if key == nil || len(certs) != 2 {
		return nil, fmt.Errorf("want a key, its certificate and the authority's, got %d certificates", len(certs))
	}
	return newMaterial(key, certs[0], certs[1])
}

// newMaterial checks that the parts belong together.
func newMaterial(key *ecdsa.PrivateKey, leaf, ca *x509.Certificate) (*material, error) {
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
	m := &material{id: id, key: key, leaf: leaf, ca: ca, roots: x509.NewCertPool()}
	m.roots.AddCert(ca)
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
	cfg := c.base()
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.VerifyConnection = func(state tls.ConnectionState) error { return checkPeer(state, accept) }
	return cfg
}

// DoorServer returns the configuration of a listener that machines without a certificate may use too, because they come to join. A certificate that is given must be
// good; handlers ask [PeerIdentity] who it is.
func (c *Credentials) DoorServer(accept func(Identity) error) *tls.Config {
	cfg := c.base()
	cfg.ClientAuth = tls.VerifyClientCertIfGiven
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return nil
		}
		return checkPeer(state, accept)
	}
	return cfg
}

// Client returns the configuration of connections to one peer, or to any of its role if its name is empty. Nobody else is
// spoken to, whatever the address leads to.
func (c *Credentials) Client(peer Identity) *tls.Config {
	cfg := c.base()
	cfg.RootCAs = c.cur.Load().roots
	cfg.ServerName = peer.serverName()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.cur.Load().tls, nil }
	cfg.VerifyConnection = func(state tls.ConnectionState) error { return checkPeer(state, Only(peer)) }
	return cfg
}

func (c *Credentials) base() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientCAs:      c.cur.Load().roots,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.cur.Load().tls, nil },
	}
}

func checkPeer(state tls.ConnectionState, accept func(Identity) error) error {
	id, err := PeerIdentity(&state)
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
