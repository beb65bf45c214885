package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"
)

// pendingFile holds the key of a machine that is about to join: a repetition after a crash uses the same, which the token, used up
// by it, still serves.
const pendingFile = "joining.pem"

// JoinConfig describes a joining. All fields are required.
type JoinConfig struct {
	// Dir will hold the credentials.
	Dir string

	// Address of the head node's door, host:port.
	Address string

	Token Token

	// Dial opens connections; a net.Dialer's DialContext in a daemon.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// ErrWrongAuthority means that the peer at the address is not of the cloud that the token is for. The secret was not sent to it.
var ErrWrongAuthority = errors.New("pki: peer is not of the authority in the join token")

// Join makes a key, has it certified in exchange for a token, and stores the result. It may be repeated with the same token until it succeeds, also
// after a crash. The errors are [ErrWrongAuthority], [ErrTokenInvalid], [ErrTokenUsed], [ErrTokenExpired], [ErrNotAdmitted], or those of disk
// and network.
func Join(ctx context.Context, cfg JoinConfig) (*Credentials, error) {
	if cfg.Dir == "" || cfg.Address == "" || cfg.Dial == nil || cfg.Token == (Token{}) {
		return nil, errors.New("pki: join: want a directory, an address, a token and a dialer")
	}
	root, err := openDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	defer root.Close()
	key, err := pendingKey(root)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	csr, err := newRequest(key)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	transport := &http.Transport{DialContext: cfg.Dial, TLSClientConfig: pinned(cfg.Token), ForceAttemptHTTP2: false, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	issued, err := postForCertificate(ctx, &http.Client{Transport: transport}, "https://"+cfg.Address+JoinPath,
		joinRequest{Token: cfg.Token.ID(), Secret: cfg.Token.secret[:], CSR: csr})
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", cfg.Address, err)
	}
	if fingerprint(issued.Authority) != cfg.Token.ca {
		return nil, fmt.Errorf("join %s: %w", cfg.Address, ErrWrongAuthority)
	}
	c := &Credentials{dir: cfg.Dir}
	if err := c.replace(key, issued.Certificate, issued.Authority, issued.Trusted); err != nil {
		return nil, fmt.Errorf("join %s: %w", cfg.Address, err)
	}
	return c, removeFile(root, pendingFile)
}

// pinned speaks to a head node of the token's authority and to nobody else.
func pinned(token Token) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: Identity{Role: Head}.serverName(),
		// The authority is known by its fingerprint only until the peer shows it. VerifyConnection does the whole of the verification.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			chain := state.PeerCertificates
			if len(chain) < 2 {
				return ErrWrongAuthority
			}
			ca := chain[len(chain)-1]
			got := fingerprint(ca)
			if subtle.ConstantTimeCompare(got[:], token.ca[:]) != 1 || !ca.IsCA {
				return ErrWrongAuthority
			}
			roots := x509.NewCertPool()
			roots.AddCert(ca)
			_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: state.ServerName, CurrentTime: time.Now(),
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			if err != nil {
				return fmt.Errorf("%w: %w", ErrWrongAuthority, err)
			}
			id, err := identityOf(chain[0])
			if err != nil {
				return err
			}
			return Only(Identity{Role: Head})(id)
		},
	}
}

// pendingKey returns the key of an earlier attempt or a new one, which is on disk before it is used.
func pendingKey(root *os.Root) (*ecdsa.PrivateKey, error) {
	data, err := readSecret(root, pendingFile)
	if err == nil {
		key, _, err := decodePEM(data)
		if err == nil && key == nil {
			err = errors.New("no key")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pendingFile, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeSecret(root, pendingFile, block)
}

// newRequest returns a certificate request (DER) for the key. It says nothing else: who the holder is, the authority knows.
func newRequest(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

func isP256(public crypto.PublicKey) bool {
	key, ok := public.(*ecdsa.PublicKey)
	return ok && key.Curve == elliptic.P256()
}
