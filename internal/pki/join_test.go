package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJoin(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		id := Identity{Storage, "1.stor"}
		token := c.token(id, 0)
		parsed, err := ParseToken(" " + token.Reveal() + "\n")
		if err != nil || parsed != token {
			t.Fatalf("ParseToken: %v, %v", parsed, err)
		}
		dir := filepath.Join(t.TempDir(), "new", "dir")
		if _, err := LoadCredentials(dir); !errors.Is(err, ErrNoCredentials) {
			t.Errorf("before joining: %v", err)
		}
		creds, err := c.join(dir, parsed)
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadCredentials(dir)
		if err != nil || loaded.Identity() != id || creds.Identity() != id || !loaded.Expires().Equal(creds.Expires()) {
			t.Errorf("credentials %v, loaded %v, %v", creds.Identity(), loaded.Identity(), err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("files: %v, %v", entries, err)
		}
		for _, e := range entries {
			if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", e.Name(), info.Mode())
			}
		}
		if strings.Contains(c.log.String(), token.Reveal()[20:60]) {
			t.Error("the log has the secret")
		}
	})
}

func TestJoinRefusals(t *testing.T) {
	id := Identity{Storage, "1.stor"}
	tests := []struct {
		name string
		make func(c *cloud) Token
		want error
	}{
		{"unknown", func(c *cloud) Token { t, _ := newToken(c.ca.Fingerprint(), id, time.Now()); return t }, ErrTokenInvalid},
		{"wrong secret", func(c *cloud) Token { t := c.token(id, 0); t.secret[3] ^= 1; return t }, ErrTokenInvalid},
		{"wrong secret, expired", func(c *cloud) Token {
			t := c.token(id, time.Minute)
			t.secret[3] ^= 1
			time.Sleep(time.Hour)
			return t
		}, ErrTokenInvalid},
		{"expired", func(c *cloud) Token { t := c.token(id, time.Minute); time.Sleep(time.Minute); return t }, ErrTokenExpired},
		{"used by another key", func(c *cloud) Token {
			t := c.token(id, 0)
			if _, err := c.join(c.t.TempDir(), t); err != nil {
				c.t.Fatal(err)
			}
			return t
		}, ErrTokenUsed},
		{"deleted", func(c *cloud) Token { t := c.token(id, 0); c.authority.Tokens.Delete(c.t.Context(), t.ID()); return t }, ErrTokenInvalid},
		{"not admitted", func(c *cloud) Token {
			c.authority.Admit = func(context.Context, Identity) error { return errors.New("node was removed") }
			return c.token(id, 0)
		}, ErrNotAdmitted},
		{"other authority", func(c *cloud) Token {
			other, err := OpenCA(c.t.TempDir())
			if err != nil {
				c.t.Fatal(err)
			}
			t := c.token(id, 0)
			t.ca = other.Fingerprint()
			return t
		}, ErrWrongAuthority},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cloud) {
				c.t = t
				token := tt.make(c)
				dir := t.TempDir()
				if _, err := c.join(dir, token); !errors.Is(err, tt.want) {
					t.Errorf("Join: %v, want %v", err, tt.want)
				}
				if _, err := LoadCredentials(dir); !errors.Is(err, ErrNoCredentials) {
					t.Errorf("credentials after a refusal: %v", err)
				}
			})
		})
	}
}

// TestLostAnswer repeats a join whose answer did not arrive, as after a crash.
func TestLostAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		id := Identity{Storage, "1.stor"}
		token, dir := c.token(id, time.Hour), t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		key, err := pendingKey(root)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := newRequest(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.authority.Join(t.Context(), token.ID(), token.secret[:], csr); err != nil {
			t.Fatal(err)
		}
		if _, err := c.join(dir, token); err != nil {
			t.Errorf("repeated join: %v", err)
		}
	})
}

// TestImpostor has the joiner meet servers that are not the head node it was sent to; the secret must not leave it.
func TestImpostor(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		token := c.token(Identity{Storage, "2.stor"}, 0)
		other, err := OpenCA(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		otherHead, err := other.Credentials(t.TempDir(), Identity{Head, "head0"})
		if err != nil {
			t.Fatal(err)
		}
		node := c.mustJoin(Identity{Storage, "1.stor"})
		// Another cloud's head that shows our authority's certificate beside its own.
		forged := otherHead.DoorServer(func(Identity) error { return nil })
		forged.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			m := otherHead.cur.Load()
			return &tls.Certificate{Certificate: [][]byte{m.leaf.Raw, c.ca.cert.Raw}, PrivateKey: m.key}, nil
		}
		for name, cfg := range map[string]*tls.Config{
			"another cloud's head node":      otherHead.DoorServer(func(Identity) error { return nil }),
			"with our authority in its hand": forged,
			"a storage node of ours":         node.DoorServer(func(Identity) error { return nil }),
		} {
			reached := false
			stop := c.serve("evil:443", cfg, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
			_, err := Join(t.Context(), JoinConfig{Dir: t.TempDir(), Address: "evil:443", Token: token, Dial: c.net.dial})
			stop()
			if !errors.Is(err, ErrWrongAuthority) || reached {
				t.Errorf("%s: %v, request sent: %v", name, err, reached)
			}
		}
	})
}

func TestRequests(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		token := c.token(Identity{Storage, "1.stor"}, 0)
		rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		rsaCSR, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, rsaKey)
		if err != nil {
			t.Fatal(err)
		}
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		good, _ := newRequest(key)
		forged := bytes.Clone(good)
		forged[len(forged)-5] ^= 1
		for name, csr := range map[string][]byte{"empty": nil, "garbage": []byte("x"), "RSA key": rsaCSR, "bad signature": forged} {
			if _, err := c.authority.Join(t.Context(), token.ID(), token.secret[:], csr); !errors.Is(err, ErrRequest) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// A bad request has not used the token up, and names in a good one are ignored.
		named, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{Identity{Head, "head0"}.uri()}}, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := c.authority.Join(t.Context(), token.ID(), token.secret[:], named)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := identityOf(cert.Certificate); err != nil || id != (Identity{Storage, "1.stor"}) || cert.Certificate.IsCA {
			t.Errorf("issued to %v, %v", id, err)
		}
	})
}
