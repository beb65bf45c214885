package httpsig

import (
	"context"
	"crypto"
	//lint:ignore SA1019 keys of accounts that are older than this program
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"math/big"

	"golang.org/x/crypto/ssh"
)

// A Signer signs with one private key, wherever that is. Implementations may be used by any number of goroutines at once.
type Signer interface {
	// PublicKey returns the key that verifies what Sign makes.
	PublicKey() *PublicKey

	// Sign signs text and names the algorithm used, such as rsa-sha256: the strongest that is usual for the key. A key behind
	// an agent may come back with another than the last time.
	Sign(ctx context.Context, text []byte) (signature []byte, algorithm string, err error)
}

// ParsePrivateKey reads a private key from PEM (PKCS #1, PKCS #8, SEC 1, OpenSSH). passphrase is for encrypted keys; nil means there is none, and
// the error for an encrypted key is then a [*ssh.PassphraseMissingError].
func ParsePrivateKey(text, passphrase []byte) (Signer, error) {
	var key any
	var err error
	if passphrase == nil {
		key, err = ssh.ParseRawPrivateKey(text)
	} else {
		key, err = ssh.ParseRawPrivateKeyWithPassphrase(text, passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	return NewSigner(key)
}

// NewSigner signs with a private key of package crypto (or any [crypto.Signer] over RSA, ECDSA or Ed25519).
func NewSigner(key any) (Signer, error) {
	var public crypto.PublicKey
	switch k := key.(type) {
	case *ed25519.PrivateKey:
		key, public = *k, k.Public()
	case *dsa.PrivateKey:
		public = &k.PublicKey
	case crypto.Signer:
		public = k.Public()
	default:
		return nil, fmt.Errorf("private key: %T is not supported", key)
	}
	p, err := NewPublicKey(public, "")
	if err != nil {
		return nil, err
	}
	return &fileSigner{key: key, public: p}, nil
}

type fileSigner struct {
	key    any
	public *PublicKey
}

// LogValue keeps the private key out of logs.
func (s *fileSigner) LogValue() slog.Value { return slog.StringValue(s.public.MD5()) }

func (s *fileSigner) PublicKey() *PublicKey { return s.public }

func (s *fileSigner) Sign(_ context.Context, text []byte) ([]byte, string, error) {
	name := usual(s.public)
	a, _ := lookup(name)
	if key, ok := s.key.(ed25519.PrivateKey); ok {
		return ed25519.Sign(key, text), name, nil
	}
	h := a.hash.New()
	h.Write(text)
	digest := h.Sum(nil)
	switch key := s.key.(type) {
	case *dsa.PrivateKey:
		if n := (key.Q.BitLen() + 7) / 8; len(digest) > n {
			digest = digest[:n]
		}
		r, t, err := dsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, "", fmt.Errorf("sign: %w", err)
		}
		sig, err := asn1.Marshal(struct{ R, S *big.Int }{r, t})
		return sig, name, err
	case crypto.Signer:
		sig, err := key.Sign(rand.Reader, digest, a.hash)
		if err != nil {
			return nil, "", fmt.Errorf("sign: %w", err)
		}
		return sig, name, nil
	}
	return nil, "", errors.New("sign: unknown kind of key")
}

// usual returns the algorithm to sign with by a key: what Node clients take.
func usual(p *PublicKey) string {
	switch key := p.key.(type) {
	case *ecdsa.PublicKey:
		// Not SHA-384 for P-384: the original's parser knows no such algorithm, on either side.
		if key.Curve.Params().BitSize <= 256 {
			return "ecdsa-sha256"
		}
		return "ecdsa-sha512"
	case *dsa.PublicKey:
		if key.P.BitLen() > 1024 {
			return "dsa-sha256"
		}
		return "dsa-sha1"
	case ed25519.PublicKey:
		return "ed25519-sha512"
	}
	return "rsa-sha256"
}
