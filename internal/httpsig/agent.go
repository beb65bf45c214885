package httpsig

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// ErrKeyNotFound says that an agent does not hold the key asked for.
var ErrKeyNotFound = errors.New("httpsig: agent does not hold the key")

// agentTimeout bounds one exchange with an agent when the caller's context does not. An agent may be asking its user.
const agentTimeout = 60 * time.Second

// DialAgent returns a function that connects to the agent at a socket, which is what $SSH_AUTH_SOCK names.
func DialAgent(socket string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
}

// NewAgentSigner finds a key by its fingerprint (MD5 in colon form, or SHA256:…) in an ssh-agent and signs with it there. Every signature is an exchange over a
// connection of its own, so the agent may restart in between. If the agent does not hold the key the error is [ErrKeyNotFound].
func NewAgentSigner(ctx context.Context, dial func(context.Context) (net.Conn, error), fingerprint string) (Signer, error) {
	s := &agentSigner{dial: dial}
	err := s.exchange(ctx, func(a agent.ExtendedAgent) error {
		keys, err := a.List()
		if err != nil {
			return err
		}
		for _, key := range keys {
			parsed, err := ssh.ParsePublicKey(key.Blob)
			if err != nil {
				continue // a kind of key that is none of our business
			}
			wrapped, ok := parsed.(ssh.CryptoPublicKey)
			if !ok {
				continue
			}
			p, err := NewPublicKey(wrapped.CryptoPublicKey(), key.Comment)
			if err == nil && p.Matches(fingerprint) {
				s.public = p
				return nil
			}
		}
		return ErrKeyNotFound
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

type agentSigner struct {
	dial   func(context.Context) (net.Conn, error)
	public *PublicKey
}

func (s *agentSigner) PublicKey() *PublicKey { return s.public }

func (s *agentSigner) exchange(ctx context.Context, do func(agent.ExtendedAgent) error) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to ssh-agent: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = do(agent.NewClient(conn))
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil && !errors.Is(err, ErrKeyNotFound) {
		err = fmt.Errorf("ask ssh-agent: %w", err)
	}
	return err
}

func (s *agentSigner) Sign(ctx context.Context, text []byte) (signature []byte, algorithm string, err error) {
	var flags agent.SignatureFlags
	if s.public.family == "rsa" { // some agents refuse the flag for other keys
		flags = agent.SignatureFlagRsaSha256
	}
	err = s.exchange(ctx, func(a agent.ExtendedAgent) error {
		sig, err := a.SignWithFlags(s.public.ssh, text, flags)
		if err != nil {
			return err
		}
		signature, algorithm, err = unwrap(sig)
		return err
	})
	return signature, algorithm, err
}

// unwrap turns a signature as SSH has it into one as this package has it. An agent that is too old for the flag signs RSA with SHA-1, and says so.
func unwrap(sig *ssh.Signature) (signature []byte, algorithm string, err error) {
	switch sig.Format {
	case ssh.KeyAlgoRSA:
		return sig.Blob, "rsa-sha1", nil
	case ssh.KeyAlgoRSASHA256:
		return sig.Blob, "rsa-sha256", nil
	case ssh.KeyAlgoRSASHA512:
		return sig.Blob, "rsa-sha512", nil
	case ssh.KeyAlgoED25519:
		return sig.Blob, "ed25519-sha512", nil
	case ssh.KeyAlgoECDSA256:
		algorithm = "ecdsa-sha256"
	case ssh.KeyAlgoECDSA384:
		algorithm = "ecdsa-sha384"
	case ssh.KeyAlgoECDSA521:
		algorithm = "ecdsa-sha512"
	default:
		return nil, "", fmt.Errorf("signature of format %q is not supported", sig.Format)
	}
	var rs struct{ R, S *big.Int }
	if err := ssh.Unmarshal(sig.Blob, &rs); err != nil {
		return nil, "", errors.New("signature is malformed")
	}
	signature, err = asn1.Marshal(rs)
	return signature, algorithm, err
}
