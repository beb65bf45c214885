package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"sync"
	"time"
)

const (
	caFile     = "ca.pem"
	caLifetime = 20 * 365 * 24 * time.Hour

	// DefaultLifetime is how long a certificate is valid unless CA.Lifetime says otherwise.
	DefaultLifetime = 90 * 24 * time.Hour

	// backdate is how far a new certificate's validity begins in the past, for machines whose clocks are behind.
	backdate = time.Hour
)

// A CA is the authority of one cloud: a self-signed ECDSA P-256 certificate with its key, and during a rotation a second one beside it. Its methods may be
// called by any number of goroutines at once.
type CA struct {
	// Lifetime of the certificates to come; 0 means DefaultLifetime. Set it before use.
	Lifetime time.Duration

	dir string

	mu   sync.Mutex
	pair                   // which signs
	next *pair             // will sign when everybody trusts it; nil when there is none
	old  *x509.Certificate // has signed and is still trusted; nil when there is none
}

// A pair is an authority's certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// OpenCA returns the authority that is kept in dir, and makes it if there is none. When several processes do so at
// once, they all get the same.
func OpenCA(dir string) (*CA, error) {
	root, err := openDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	defer root.Close()
	p, err := loadPair(root, caFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makePair(root, caFile); err == nil || errors.Is(err, fs.ErrExist) {
			p, err = loadPair(root, caFile)
		}
	}
	ca := &CA{dir: dir}
	if err == nil {
		ca.pair = *p
		err = ca.loadRotation(root)
	}
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	return ca, nil
}

// makePair makes an authority and keeps it in a file that is not there yet.
func makePair(root *os.Root, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "mobula " + rand.Text()[:8]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs ends, never other authorities
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	block, err := encodeKey(key)
	if err != nil {
		return err
	}
	return createSecret(root, name, append(block, encodeCerts(der)...))
}

func loadPair(root *os.Root, name string) (*pair, error) {
	data, err := readSecret(root, name)
	if err != nil {
		return nil, err
	}
	key, certs, err := decodePEM(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if key == nil || len(certs) != 1 || !certs[0].IsCA || !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, fmt.Errorf("%s: want a key and its authority's certificate", name)
	}
	return &pair{cert: certs[0], key: key}, nil
}

// Fingerprint identifies the authority that signs: the SHA-256 of its public key.
func (ca *CA) Fingerprint() [sha256.Size]byte { return fingerprint(ca.signer().cert) }

// signer returns the authority that signs at present.
func (ca *CA) signer() pair {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.pair
}

func fingerprint(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// issue signs a certificate for a key, and returns it with the one that signed. Nothing but the key comes from the one who asks.
func (ca *CA) issue(id Identity, public crypto.PublicKey) (*Issued, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("pki: issue %s: key is no ECDSA P-256 key", id)
	}
	lifetime := ca.Lifetime
	if lifetime <= 0 {
		lifetime = DefaultLifetime
	}
	now := time.Now()
	by := ca.signer()
	end := now.Add(lifetime)
	if end.After(by.cert.NotAfter) {
		end = by.cert.NotAfter // it would not be believed any longer than that
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: id.Name[:min(len(id.Name), 64)]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{id.uri()},
		DNSNames:              []string{id.serverName(), Identity{Role: id.Role}.serverName()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key, by.key)
	if err != nil {
		return nil, fmt.Errorf("pki: issue %s: %w", id, err)
	}
	cert, err := x509.ParseCertificate(der)
	return &Issued{Certificate: cert, Authority: by.cert, Trusted: ca.Trusted()}, err
}

// Issued is a certificate with the authority that signed it and all that are trusted at present.
type Issued struct {
	Certificate *x509.Certificate
	Authority   *x509.Certificate
	Trusted     []*x509.Certificate
}

func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // at most 20 octets and positive, as RFC 5280 wants
	return new(big.Int).SetBytes(b[:])
}

const (
	pemKey  = "PRIVATE KEY"
	pemCert = "CERTIFICATE"
	pemCSR  = "CERTIFICATE REQUEST"
)

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

func encodeCerts(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: der})...)
	}
	return out
}

// decodePEM reads at most one key and any certificates. Anything else is an error.
func decodePEM(data []byte) (key *ecdsa.PrivateKey, certs []*x509.Certificate, err error) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		switch block.Type {
		case pemKey:
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, errors.New("unreadable private key") // the cause could quote it
			}
			k, ok := parsed.(*ecdsa.PrivateKey)
			if !ok || key != nil || k.Curve != elliptic.P256() {
				return nil, nil, errors.New("want one ECDSA P-256 key")
			}
			key = k
		case pemCert:
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("certificate: %w", err)
			}
			certs = append(certs, cert)
		default:
			return nil, nil, fmt.Errorf("PEM block %.40q", block.Type)
		}
	}
	return key, certs, nil
}
