package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// An Authority lets machines in: the CA with the tokens that it has given out.
type Authority struct {
	CA     *CA
	Tokens Tokens

	// Admit is asked before a certificate is issued or renewed; an error, such as that the node was removed, refuses it. nil admits all.
	Admit func(ctx context.Context, id Identity) error

	// Members says who is to know of a new authority before it signs, and to have its certificate from there before the old one is forgotten:
	// every machine that is to stay, this one included. A rotation needs it.
	Members func(ctx context.Context) ([]Identity, error)

	// Logger; nil discards.
	Logger *slog.Logger

	rotation rotation
}

// ErrRequest refuses a certificate request that makes no sense.
var ErrRequest = errors.New("pki: bad certificate request")

// Limits of a token's life.
const (
	DefaultTokenLife = time.Hour
	MaxTokenLife     = 7 * 24 * time.Hour
)

func (a *Authority) log() *slog.Logger {
	if a.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.Logger
}

// CreateToken makes a token that lets one machine in as id, within life (0 means DefaultTokenLife). Tokens that have long expired are forgotten at this
// occasion.
func (a *Authority) CreateToken(ctx context.Context, id Identity, life time.Duration) (Token, error) {
	if err := id.Validate(); err != nil {
		return Token{}, err
	}
	if life == 0 {
		life = DefaultTokenLife
	}
	if life < 0 || life > MaxTokenLife {
		return Token{}, fmt.Errorf("pki: token for %v: want at most %v", life, MaxTokenLife)
	}
	if err := a.forget(ctx); err != nil {
		return Token{}, fmt.Errorf("create join token: %w", err)
	}
	t, record := newToken(a.CA.Fingerprint(), id, time.Now().Add(life).UTC())
	if err := a.Tokens.Add(ctx, record); err != nil {
		return Token{}, fmt.Errorf("create join token: %w", err)
	}
	a.log().InfoContext(ctx, "join token created", "token", t, "identity", id, "expires", record.Expires)
	return t, nil
}

// forget deletes tokens that expired more than MaxTokenLife ago; until then "expired" is the better answer.
func (a *Authority) forget(ctx context.Context) error {
	all, err := a.Tokens.List(ctx)
	for _, r := range all {
		if time.Since(r.Expires) > MaxTokenLife {
			err = errors.Join(err, a.Tokens.Delete(ctx, r.ID))
		}
	}
	return err
}

// Join issues a certificate to the holder of a token's secret. The token is used up by it, for this request's key: the same request again gets a
// certificate again until the token expires, so that an answer lost on the way does no harm.
func (a *Authority) Join(ctx context.Context, tokenID string, secret, csr []byte) (*Issued, error) {
	issued, id, err := a.join(ctx, tokenID, secret, csr)
	if err != nil {
		a.log().WarnContext(ctx, "join refused", "token", fmt.Sprintf("%.40q", tokenID), "identity", id, "err", err)
		return nil, err
	}
	a.log().InfoContext(ctx, "joined", "token", tokenID, "identity", id, "serial", issued.Certificate.SerialNumber, "expires", issued.Certificate.NotAfter)
	return issued, nil
}

func (a *Authority) join(ctx context.Context, tokenID string, secret, csr []byte) (*Issued, Identity, error) {
	record, err := a.Tokens.Get(ctx, tokenID)
	// Whoever does not know the secret learns nothing about the token, not even that there is one.
	if !record.proves(secret) {
		if err == nil || errors.Is(err, ErrTokenInvalid) {
			err = ErrTokenInvalid
		}
		return nil, Identity{}, err
	}
	id := record.Identity()
	if !time.Now().Before(record.Expires) {
		return nil, id, ErrTokenExpired
	}
	req, err := parseRequest(csr)
	if err != nil {
		return nil, id, err
	}
	key := sha256.Sum256(req.RawSubjectPublicKeyInfo)
	if record.UsedBy != nil && !bytes.Equal(record.UsedBy, key[:]) {
		return nil, id, ErrTokenUsed
	}
	if err := a.admit(ctx, id); err != nil {
		return nil, id, err
	}
	if err := a.Tokens.Claim(ctx, tokenID, key[:]); err != nil {
		return nil, id, err
	}
	issued, err := a.CA.issue(id, req.PublicKey)
	return issued, id, err
}

// Renew issues a new certificate to a peer that has proved who it is with its present one.
func (a *Authority) Renew(ctx context.Context, peer Identity, csr []byte) (*Issued, error) {
	req, err := parseRequest(csr)
	if err == nil {
		err = a.admit(ctx, peer)
	}
	if err != nil {
		a.log().WarnContext(ctx, "renewal refused", "identity", peer, "err", err)
		return nil, err
	}
	issued, err := a.CA.issue(peer, req.PublicKey)
	if err == nil {
		a.log().InfoContext(ctx, "certificate renewed", "identity", peer, "serial", issued.Certificate.SerialNumber, "expires", issued.Certificate.NotAfter)
	}
	return issued, err
}

// ErrNotAdmitted refuses an identity that Authority.Admit does not want.
var ErrNotAdmitted = errors.New("pki: not admitted")

func (a *Authority) admit(ctx context.Context, id Identity) error {
	if a.Admit == nil {
		return nil
	}
	if err := a.Admit(ctx, id); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotAdmitted, id, err)
	}
	return nil
}

// parseRequest reads a certificate request (DER) and checks that its sender has the key.
func parseRequest(csr []byte) (*x509.CertificateRequest, error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = req.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if !isP256(req.PublicKey) {
		return nil, fmt.Errorf("%w: key is no ECDSA P-256 key", ErrRequest)
	}
	return req, nil
}
