package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

func TestMutualTLS(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		n1, n2 := c.mustJoin(Identity{Storage, "1.stor"}), c.mustJoin(Identity{Storage, "2.stor"})
		compute := c.mustJoin(Identity{Compute, "cn1"})
		otherCA, err := OpenCA(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		stranger, err := otherCA.Credentials(t.TempDir(), Identity{Head, "head0"})
		if err != nil {
			t.Fatal(err)
		}
		removed := map[Identity]bool{}
		accept := func(id Identity) error {
			if removed[id] {
				return ErrIdentity
			}
			return Only(Identity{Role: Head}, Identity{Storage, "2.stor"})(id)
		}
		var seen Identity
		defer c.serve("n1:1", n1.Server(accept), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen, _ = PeerIdentity(r.TLS) }))()
		to := n1.Identity()
		anonymous := c.head.Client(to)
		anonymous.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		mixed := stranger.Client(to)
		mixed.VerifyConnection = nil // it takes any server

		for _, tt := range []struct {
			name string
			cfg  *tls.Config
			ok   bool
		}{
			{"head node", c.head.Client(to), true},
			{"the node that may", n2.Client(to), true},
			{"any storage node wanted", c.head.Client(Identity{Role: Storage}), true},
			{"a role that may not", compute.Client(to), false},
			{"itself, which may not", n1.Client(to), false},
			{"no certificate", anonymous, false},
			{"another cloud's certificate", mixed, false},
			{"server is of another cloud than the client", stranger.Client(to), false},
			{"server is another node than the client wants", c.head.Client(n2.Identity()), false},
			{"server is of another role than the client wants", c.head.Client(Identity{Role: Head}), false},
		} {
			seen = Identity{}
			err := c.call("n1:1", tt.cfg)
			if (err == nil) != tt.ok || (seen == Identity{}) == tt.ok {
				t.Errorf("%s: %v, handler saw %v", tt.name, err, seen)
			}
		}
		if seen != (Identity{}) {
			t.Errorf("handler saw %v", seen)
		}
		removed[n2.Identity()] = true
		if err := c.call("n1:1", n2.Client(to)); err == nil {
			t.Error("a removed node is still let in")
		}
		// The door lets in who has no certificate, but not who has a wrong one.
		if err := c.call("head:443", anonymousClient(c)); err != nil {
			t.Errorf("door without a certificate: %v", err)
		}
		wrong := stranger.Client(c.head.Identity())
		wrong.VerifyConnection = nil
		if err := c.call("head:443", wrong); err == nil {
			t.Error("door takes another cloud's certificate")
		}
		// Long after, no certificate is valid.
		time.Sleep(DefaultLifetime + time.Minute)
		if err := c.call("n1:1", c.head.Client(to)); err == nil {
			t.Error("expired certificates are accepted")
		}
	})
}

func anonymousClient(c *cloud) *tls.Config {
	cfg := c.head.Client(c.head.Identity())
	cfg.GetClientCertificate = nil
	return cfg
}

func TestRenew(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		creds := c.mustJoin(Identity{Storage, "1.stor"})
		before := creds.cur.Load()
		tr := &http.Transport{DialContext: c.net.dial, TLSClientConfig: creds.Client(Identity{Role: Head}), DisableKeepAlives: true}
		defer tr.CloseIdleConnections()
		renewer := &Renewer{Credentials: creds, Renew: RenewBy(&http.Client{Transport: tr}, "https://head:443")}
		own := &Renewer{Credentials: c.head, Renew: c.authority.RenewOwn(c.head.Identity())}
		var closed atomic.Bool
		c.authority.Admit = func(context.Context, Identity) error {
			if closed.Load() {
				return errors.New("not today")
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- renewer.Run(ctx) }()
		go func() { done <- own.Run(ctx) }()
		for day := range 365 {
			closed.Store(day >= 100 && day < 120)
			time.Sleep(24 * time.Hour)
			for _, cr := range []*Credentials{creds, c.head} {
				if left := time.Until(cr.Expires()); left < 5*24*time.Hour {
					t.Fatalf("day %d: %s has %v left", day, cr.Identity(), left)
				}
			}
		}
		cancel()
		for range 2 {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
		}
		after := creds.cur.Load()
		if after.id != before.id || after.key.Equal(before.key) {
			t.Error("the key is still the same, or the identity is not")
		}
		if loaded, err := LoadCredentials(creds.dir); err != nil || !loaded.Expires().Equal(creds.Expires()) {
			t.Errorf("on disk: %v", err)
		}
		if err := c.call("head:443", creds.Client(Identity{Role: Head})); err != nil {
			t.Errorf("with the renewed certificate: %v", err)
		}
	})
}

func TestRenewNeedsCertificate(t *testing.T) {
	bubble(t, func(t *testing.T, c *cloud) {
		creds := c.mustJoin(Identity{Storage, "1.stor"})
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		csr, _ := newRequest(key)
		tr := &http.Transport{DialContext: c.net.dial, TLSClientConfig: anonymousClient(c), DisableKeepAlives: true}
		defer tr.CloseIdleConnections()
		_, err := RenewBy(&http.Client{Transport: tr}, "https://head:443")(t.Context(), csr)
		if !errors.Is(err, ErrIdentity) {
			t.Errorf("renew without a certificate: %v", err)
		}
		// A head that hands out another's certificate must not change who we are.
		for name, renew := range map[string]RenewFunc{
			"another identity": c.authority.RenewOwn(Identity{Head, "head0"}),
			"another authority": func(ctx context.Context, csr []byte) (*Issued, error) {
				other, err := OpenCA(t.TempDir())
				if err != nil {
					return nil, err
				}
				return (&Authority{CA: other}).RenewOwn(creds.Identity())(ctx, csr)
			},
		} {
			before := creds.cur.Load()
			if err := (&Renewer{Credentials: creds, Renew: renew}).RunOnce(t.Context()); err == nil || creds.cur.Load() != before {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestIdentity(t *testing.T) {
	for _, s := range []string{"mobula://storage/1.stor.example.com", "mobula://head/h"} {
		if id, err := ParseIdentity(s); err != nil || id.String() != s {
			t.Errorf("ParseIdentity(%q) = %v, %v", s, id, err)
		}
	}
	for _, s := range []string{"", "mobula://", "mobula://storage", "mobula://storage/", "mobula://storage/a/b", "mobula://storage/a?b", "https://storage/a",
		"mobula://u@storage/a", "mobula://STORAGE/a", "mobula://storage/%61", "mobula://storage/../a", "mobula://storage:1/a", "mobula:storage/a"} {
		if id, err := ParseIdentity(s); !errors.Is(err, ErrIdentity) {
			t.Errorf("ParseIdentity(%q) = %v, %v", s, id, err)
		}
	}
	if _, err := PeerIdentity(nil); !errors.Is(err, ErrIdentity) {
		t.Errorf("no TLS: %v", err)
	}
	if _, err := PeerIdentity(&tls.ConnectionState{}); !errors.Is(err, ErrIdentity) {
		t.Errorf("no certificate: %v", err)
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add("mobula://storage/1.stor")
	f.Add("mobula://storage/%2e%2e")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseIdentity(s); err == nil && (id.String() != s || id.Validate() != nil) {
			t.Errorf("ParseIdentity(%q) = %v", s, id)
		}
	})
}
