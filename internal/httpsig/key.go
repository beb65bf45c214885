package httpsig

import (
	"crypto"
	//lint:ignore SA1019 keys of accounts that are older than this program
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A PublicKey verifies signatures. It never changes.
type PublicKey struct {
	key     crypto.PublicKey
	ssh     ssh.PublicKey
	family  string
	comment string
	md5     string
	sha256  string
}

// Limits on keys. Verification by a larger one would be a way to keep a server busy.
const (
	maxKeyText = 16 << 10
	minRSA     = 1024
	maxRSA     = 8192
	maxDSA     = 3072
)

// ParsePublicKey reads a public key: a line of an authorized_keys file (without options), or a PEM block with a PKIX ("PUBLIC KEY") or RSA PKCS #1 key.
// It takes RSA of 1024 to 8192 bits, DSA, ECDSA on P-256, P-384 and P-521, and Ed25519.
func ParsePublicKey(text string) (*PublicKey, error) {
	if len(text) > maxKeyText {
		return nil, errors.New("parse public key: too long")
	}
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "-----BEGIN") {
		block, rest := pem.Decode([]byte(text))
		if block == nil || strings.TrimSpace(string(rest)) != "" {
			return nil, errors.New("parse public key: not one PEM block")
		}
		var key crypto.PublicKey
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		default:
			err = errors.New("PEM block holds no public key")
		}
		if err != nil {
			return nil, fmt.Errorf("parse public key: %w", err)
		}
		return NewPublicKey(key, "")
	}
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("parse public key: more than one line")
	}
	if kind, _, _ := strings.Cut(text, " "); !strings.HasPrefix(kind, "ssh-") && !strings.HasPrefix(kind, "ecdsa-") {
		return nil, errors.New("parse public key: neither an OpenSSH key nor PEM")
	}
	key, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		return nil, errors.New("parse public key: not a valid OpenSSH key")
	}
	wrapped, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil, fmt.Errorf("parse public key: keys of type %s are not supported", key.Type())
	}
	return NewPublicKey(wrapped.CryptoPublicKey(), comment)
}

// NewPublicKey wraps a key of package crypto.
func NewPublicKey(key crypto.PublicKey, comment string) (*PublicKey, error) {
	p := &PublicKey{key: key, comment: comment}
	switch key := key.(type) {
	case *rsa.PublicKey:
		p.family = "rsa"
		if n := key.N.BitLen(); n < minRSA || n > maxRSA {
			return nil, fmt.Errorf("public key: RSA of %d bits is not supported", n)
		}
	case *dsa.PublicKey:
		p.family = "dsa"
		if key.P.BitLen() > maxDSA || key.Q.Sign() <= 0 || key.Q.BitLen() > 256 || key.G.Cmp(key.P) >= 0 || key.Y.Cmp(key.P) >= 0 {
			return nil, errors.New("public key: DSA parameters are not supported")
		}
	case *ecdsa.PublicKey:
		p.family = "ecdsa"
		if c := key.Curve; c != elliptic.P256() && c != elliptic.P384() && c != elliptic.P521() {
			return nil, errors.New("public key: curve is not supported")
		}
	case ed25519.PublicKey:
		p.family = "ed25519"
	default:
		return nil, fmt.Errorf("public key: %T is not supported", key)
	}
	wrapped, err := ssh.NewPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	p.ssh = wrapped
	p.md5 = ssh.FingerprintLegacyMD5(wrapped)
	p.sha256 = ssh.FingerprintSHA256(wrapped)
	return p, nil
}

// Family returns rsa, dsa, ecdsa or ed25519.
func (p *PublicKey) Family() string { return p.family }

// MD5 returns the fingerprint in the form aa:bb:…, which key ids carry.
func (p *PublicKey) MD5() string { return p.md5 }

// SHA256 returns the fingerprint in the form SHA256:base64, as ssh prints it.
func (p *PublicKey) SHA256() string { return p.sha256 }

// Comment returns the comment of the line that the key was read from.
func (p *PublicKey) Comment() string { return p.comment }

// OpenSSH returns the key as one line of an authorized_keys file, without the line's end.
func (p *PublicKey) OpenSSH() string {
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(p.ssh)), "\n")
	if p.comment != "" {
		line += " " + p.comment
	}
	return line
}

// PEM returns the key as a PEM block "PUBLIC KEY". DSA keys have no such form here: it is "" for them.
func (p *PublicKey) PEM() string {
	der, err := x509.MarshalPKIXPublicKey(p.key)
	if err != nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Matches reports whether a fingerprint is the key's: MD5 with or without its prefix, or SHA-256.
func (p *PublicKey) Matches(fingerprint string) bool {
	return p.md5 == strings.TrimPrefix(fingerprint, "MD5:") || p.sha256 == strings.TrimRight(fingerprint, "=")
}

// Verify reports whether signature (base64) is one of text by this key and the named algorithm. It is not if the algorithm is for another family of keys.
func (p *PublicKey) Verify(algorithm string, text []byte, signature string) bool {
	a, ok := lookup(algorithm)
	if !ok || !a.accepted || a.family != p.family {
		return false
	}
	sig, ok := decodeBase64(signature)
	if !ok {
		return false
	}
	if key, ok := p.key.(ed25519.PublicKey); ok {
		return ed25519.Verify(key, text, sig)
	}
	h := a.hash.New()
	h.Write(text)
	digest := h.Sum(make([]byte, 0, 64))
	switch key := p.key.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, a.hash, digest, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest, sig)
	case *dsa.PublicKey:
		var rs struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(sig, &rs); err != nil || len(rest) > 0 {
			return false
		}
		// The package leaves it to its callers to cut the digest to the size of the subgroup.
		if n := (key.Q.BitLen() + 7) / 8; len(digest) > n {
			digest = digest[:n]
		}
		return dsa.Verify(key, digest, rs.R, rs.S)
	}
	return false
}

// decodeBase64 reads base64 with or without padding, in either alphabet.
func decodeBase64(s string) ([]byte, bool) {
	if len(s) > 8<<10 {
		return nil, false
	}
	s = strings.TrimRight(s, "=")
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		encoding = base64.RawURLEncoding
	}
	b, err := encoding.DecodeString(s)
	return b, err == nil
}
