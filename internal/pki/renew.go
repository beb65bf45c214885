package pki

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A RenewFunc has a certificate request (DER) signed.
type RenewFunc func(ctx context.Context, csr []byte) (*Issued, error)

// A TrustFunc asks which authorities to trust, and says which are trusted now, by fingerprint.
type TrustFunc func(ctx context.Context, have [][]byte) (Trust, error)

// RenewBy has requests signed by a head node at base, such as "https://head:8443". The client must use [Credentials.Client].
func RenewBy(client *http.Client, base string) RenewFunc {
	return func(ctx context.Context, csr []byte) (*Issued, error) {
		return postForCertificate(ctx, client, base+RenewPath, renewRequest{csr})
	}
}

// TrustBy asks a head node at base.
func TrustBy(client *http.Client, base string) TrustFunc {
	return func(ctx context.Context, have [][]byte) (Trust, error) {
		var out trustAnswer
		if err := post(ctx, client, base+TrustPath, trustRequest{have}, &out); err != nil {
			return Trust{}, err
		}
		trusted, err := parseTrusted(out.Trusted)
		return Trust{trusted, out.Renew}, err
	}
}

// RenewOwn has requests for id signed in this process, which holds the authority.
func (a *Authority) RenewOwn(id Identity) RenewFunc {
	return func(ctx context.Context, csr []byte) (*Issued, error) { return a.Renew(ctx, id, csr) }
}

// TrustOwn asks the authority in this process, for credentials of its own.
func (a *Authority) TrustOwn(c *Credentials) TrustFunc {
	return func(ctx context.Context, have [][]byte) (Trust, error) {
		return a.Trust(ctx, c.Identity(), c.cur.Load().ca, have)
	}
}

// DefaultTrustInterval is how often a Renewer asks which authorities to trust. During a rotation it asks every rotationInterval, for as long as
// rotationPatience since the last news.
const (
	DefaultTrustInterval = 5 * time.Minute
	rotationInterval     = 15 * time.Second
	rotationPatience     = 10 * time.Minute
)

// A Renewer keeps credentials fresh. Credentials and Renew are required.
type Renewer struct {
	Credentials *Credentials
	Renew       RenewFunc

	// Trust follows rotations of the authority; nil means that there are none.
	Trust TrustFunc

	// TrustInterval is how often Trust is asked; 0 means DefaultTrustInterval. Changed, if set, returns a channel that is closed when it is to be
	// asked at once.
	TrustInterval time.Duration
	Changed       func() <-chan struct{}

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
	issued, err := r.Renew(ctx, csr)
	if err != nil {
		return fmt.Errorf("renew %s: %w", now.id, err)
	}
	// A new authority is one that the old one's head node has told of before.
	if !contains(now.trusted, issued.Authority) {
		return fmt.Errorf("renew %s: %w", now.id, ErrWrongAuthority)
	}
	if id, err := identityOf(issued.Certificate); err != nil || id != now.id {
		return errors.Join(fmt.Errorf("renew %s: %w", now.id, ErrIdentity), err)
	}
	return r.Credentials.replace(key, issued.Certificate, issued.Authority, now.trusted)
}

// follow takes up which authorities to trust, and renews if the certificate is from one that is about to be forgotten.
func (r *Renewer) follow(ctx context.Context) error {
	for range 4 { // more steps than there are in a rotation
		now := r.Credentials.cur.Load()
		var have [][]byte
		for _, cert := range now.trusted {
			f := fingerprint(cert)
			have = append(have, f[:])
		}
		t, err := r.Trust(ctx, have)
		if err != nil {
			return fmt.Errorf("follow the authority: %w", err)
		}
		if len(t.Trusted) == 0 {
			return fmt.Errorf("follow the authority: %w: none is to be trusted", ErrWrongAuthority)
		}
		if !t.Renew && sameSet(now.trusted, t.Trusted) {
			return nil
		}
		if err := r.Credentials.trust(t.Trusted); err != nil {
			return fmt.Errorf("follow the authority: %w", err)
		}
		if t.Renew {
			if err := r.RunOnce(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Run renews whenever a third of the lifetime is left, and follows the authority, until ctx ends, whose error it returns. A failed renewal is repeated
// within the hour.
func (r *Renewer) Run(ctx context.Context) error {
	log := r.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	retry := backoff.NewExponentialBackOff(backoff.WithInitialInterval(10*time.Second), backoff.WithMaxInterval(time.Hour),
		backoff.WithMaxElapsedTime(0))
	var again, ask time.Time // before which renewal is not tried again, and Trust is not asked
	news := time.Now()
	for {
		var changed <-chan struct{}
		if r.Changed != nil {
			changed = r.Changed() // before asking, so that nothing is missed
		}
		if r.Trust != nil && !time.Now().Before(ask) {
			before := r.Credentials.cur.Load()
			if err := r.follow(ctx); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "authority not followed", "identity", before.id, "err", err)
			}
			now := r.Credentials.cur.Load()
			if now != before {
				news = time.Now()
			}
			interval := cmp.Or(r.TrustInterval, DefaultTrustInterval)
			if len(now.trusted) > 1 && time.Since(news) < rotationPatience {
				interval = min(interval, rotationInterval)
			}
			ask = time.Now().Add(interval)
		}
		m := r.Credentials.cur.Load()
		due := m.renewAt()
		if due.Before(again) {
			due = again
		}
		if !time.Now().Before(due) {
			err := r.RunOnce(ctx)
			switch {
			case err == nil:
				log.InfoContext(ctx, "certificate renewed", "identity", m.id, "expires", r.Credentials.Expires())
				retry.Reset()
				again = time.Time{}
				continue
			case ctx.Err() != nil:
				return context.Cause(ctx)
			}
			log.ErrorContext(ctx, "certificate not renewed", "identity", m.id, "expires", m.leaf.NotAfter, "err", err)
			again = time.Now().Add(retry.NextBackOff())
			due = again
		}
		if r.Trust != nil && ask.Before(due) {
			due = ask
		}
		timer := time.NewTimer(time.Until(due))
		select {
		case <-timer.C:
		case <-changed:
			ask = time.Time{}
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}
