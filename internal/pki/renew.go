package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A RenewFunc has a certificate request (DER) signed and returns the certificate with its authority's.
type RenewFunc func(ctx context.Context, csr []byte) (cert, ca *x509.Certificate, err error)

// RenewBy has requests signed by a head node at base, such as "https://head:8443". The client must use [Credentials.Client].
func RenewBy(client *http.Client, base string) RenewFunc {
	return func(ctx context.Context, csr []byte) (cert, ca *x509.Certificate, err error) {
		return post(ctx, client, base+RenewPath, renewRequest{csr})
	}
}

// RenewOwn has requests for id signed in this process, which holds the authority.
func (a *Authority) RenewOwn(id Identity) RenewFunc {
	return func(ctx context.Context, csr []byte) (cert, ca *x509.Certificate, err error) {
		cert, err = a.Renew(ctx, id, csr)
		return cert, a.CA.cert, err
	}
}

// A Renewer keeps credentials fresh. Credentials and Renew are required.
type Renewer struct {
	Credentials *Credentials
	Renew       RenewFunc

	// Logger; nil discards.
	Logger *slog.Logger
}

// RunOnce renews now, with a new key. After an error the old credentials are as they were.
func (r *Renewer) RunOnce(ctx context.Context) error {
	now := r.Credentials.cur.Load()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := newRequest(key)
	if err != nil {
		return err
	}
	cert, ca, err := r.Renew(ctx, csr)
	if err != nil {
		return fmt.Errorf("renew %s: %w", now.id, err)
	}
	if fingerprint(ca) != fingerprint(now.ca) {
		return fmt.Errorf("renew %s: %w", now.id, ErrWrongAuthority)
	}
	if id, err := identityOf(cert); err != nil || id != now.id {
		return errors.Join(fmt.Errorf("renew %s: %w", now.id, ErrIdentity), err)
	}
	return r.Credentials.replace(key, cert, ca)
}

// Run renews whenever a third of the lifetime is left, until ctx ends, whose error it returns. A failed attempt is repeated within the hour.
func (r *Renewer) Run(ctx context.Context) error {
	log := r.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(10*time.Second), backoff.WithMaxInterval(time.Hour),
		backoff.WithMaxElapsedTime(0))
	for {
		m := r.Credentials.cur.Load()
		wait := max(time.Until(m.renewAt()), 0)
		if wait == 0 {
			err := r.RunOnce(ctx)
			switch {
			case err == nil:
				log.InfoContext(ctx, "certificate renewed", "identity", m.id, "expires", r.Credentials.Expires())
				retry.Reset()
				continue
			case ctx.Err() != nil:
				return context.Cause(ctx)
			}
			log.ErrorContext(ctx, "certificate not renewed", "identity", m.id, "expires", m.leaf.NotAfter, "err", err)
			wait = retry.NextBackOff()
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}
