package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mobulacloud/mobula/internal/httpsig"
)

// FromEnv makes a client out of the variables that the command-line tools use, with getenv such as os.Getenv:
// MANTA_URL, MANTA_USER, MANTA_SUBUSER, MANTA_ROLE, MANTA_KEY_ID (a fingerprint, MD5 or SHA256), MANTA_TLS_INSECURE, MANTA_NO_AUTH.
// The key is looked for in the ssh-agent at SSH_AUTH_SOCK, then among the files of ~/.ssh that have a .pub beside them.
func FromEnv(getenv func(string) string, fns ...func(*Options)) (*Client, error) {
	o := Options{Endpoint: getenv("MANTA_URL"), Account: getenv("MANTA_USER"), User: getenv("MANTA_SUBUSER")}
	if o.Endpoint == "" {
		return nil, errors.New("client: MANTA_URL is not set")
	}
	if role := getenv("MANTA_ROLE"); role != "" {
		o.Roles = strings.Split(role, ",")
	}
	if truthy(getenv("MANTA_TLS_INSECURE")) {
		o.TLSConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // asked for by name
	}
	if !truthy(getenv("MANTA_NO_AUTH")) {
		id := getenv("MANTA_KEY_ID")
		if o.Account == "" || id == "" {
			return nil, errors.New("client: MANTA_USER and MANTA_KEY_ID must be set, or MANTA_NO_AUTH=true")
		}
		s, err := FindKey(id, getenv)
		if err != nil {
			return nil, err
		}
		o.Signer = s
	}
	return New(o, fns...)
}

func truthy(s string) bool { return s != "" && s != "0" && s != "false" }

// FindKey looks for the private key with a fingerprint (MD5 in colon form, with or without "MD5:", or SHA256:…) in the
// ssh-agent at SSH_AUTH_SOCK and then below HOME/.ssh.
func FindKey(fingerprint string, getenv func(string) string) (*Signer, error) {
	fingerprint = strings.TrimPrefix(fingerprint, "MD5:")
	var agentErr error
	if socket := getenv("SSH_AUTH_SOCK"); socket != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s, err := AgentSigner(ctx, socket, fingerprint)
		if err == nil {
			return s, nil
		}
		agentErr = err
	}
	dir := filepath.Join(getenv("HOME"), ".ssh")
	publics, _ := filepath.Glob(filepath.Join(dir, "*.pub")) // the pattern is well formed
	for _, file := range publics {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if p, err := httpsig.ParsePublicKey(string(text)); err != nil || !p.Matches(fingerprint) {
			continue
		}
		private, err := os.ReadFile(strings.TrimSuffix(file, ".pub"))
		if err != nil {
			return nil, fmt.Errorf("client: key %s: %w", fingerprint, err)
		}
		return ParseKey(private, nil)
	}
	return nil, errors.Join(fmt.Errorf("client: no private key with fingerprint %s in the ssh-agent or %s", fingerprint, dir), agentErr)
}
