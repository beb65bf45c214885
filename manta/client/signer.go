package client

import (
	"context"
	"crypto"
	"log/slog"
	"net/http"
	"sync"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/mobulacloud/mobula/internal/httpsig"
)

// A Signer signs requests with one private key: RSA, ECDSA or Ed25519, from a file, a [crypto.Signer] or an ssh-agent.
type Signer struct{ s httpsig.Signer }

// ParseKey reads a private key in PEM form (PKCS #1, PKCS #8, SEC 1 or OpenSSH). passphrase is for encrypted keys; nil means there is none.
func ParseKey(text, passphrase []byte) (*Signer, error) {
	return wrap(httpsig.ParsePrivateKey(text, passphrase))
}

// NewSigner signs with a key held by the program, which may be one in hardware.
func NewSigner(key crypto.Signer) (*Signer, error) { return wrap(httpsig.NewSigner(key)) }

// AgentSigner finds a key by its fingerprint (MD5 in colon form or SHA256:…) in the ssh-agent at a socket and signs with it there.
func AgentSigner(ctx context.Context, socket, fingerprint string) (*Signer, error) {
	return wrap(httpsig.NewAgentSigner(ctx, httpsig.DialAgent(socket), fingerprint))
}

func wrap(s httpsig.Signer, err error) (*Signer, error) {
	if err != nil {
		return nil, err
	}
	return &Signer{s}, nil
}

// Fingerprint is the key's MD5 fingerprint in bare colon form, by which the store knows it.
func (s *Signer) Fingerprint() string { return s.s.PublicKey().MD5() }

// LogValue keeps all but the fingerprint out of logs.
func (s *Signer) LogValue() slog.Value { return slog.StringValue(s.Fingerprint()) }

// keyID names the key as Manta's clients do.
func (c *Client) keyID() string {
	return httpsig.KeyID{Account: c.o.Account, User: c.o.User, Key: c.o.Signer.Fingerprint()}.String()
}

// A stamp is the last signature. Only the date is signed, and it has whole seconds: what is sent within one second needs one signature.
type stamp struct {
	mu                  sync.Mutex
	date, authorization string
}

func (c *Client) authenticate(ctx context.Context, req *smithyhttp.Request) error {
	switch {
	case c.o.Token != "":
		req.Header.Set("Authorization", "Token "+c.o.Token)
	case c.o.Signer != nil:
		c.stamp.mu.Lock()
		defer c.stamp.mu.Unlock()
		if date := req.Header.Get("Date"); date == "" || date != c.stamp.date {
			signed := &http.Request{Method: req.Method, URL: req.URL, Header: http.Header{"Date": req.Header["Date"]}}
			if err := httpsig.SignRequest(ctx, c.o.Signer.s, c.keyID(), signed, time.Now()); err != nil {
				return err
			}
			c.stamp.date, c.stamp.authorization = signed.Header.Get("Date"), signed.Header.Get("Authorization")
		}
		req.Header.Set("Date", c.stamp.date)
		req.Header.Set("Authorization", c.stamp.authorization)
	}
	return nil
}
